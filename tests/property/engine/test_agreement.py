"""The compiled engine is the reference engine, to the last cycle of every op."""

import numpy as np
import pytest
from hypothesis import given, settings

from accelsim.engine import compiled, reference
from accelsim.engine.schedule import Schedule
from tests.handmade import machine_of, program_of, vector
from tests.strategies.machines import banked_machines, machines
from tests.strategies.programs import programs

TIMES = ("start", "end", "cause", "busy", "core")


def assert_equal(found: Schedule, expected: Schedule) -> None:
    for name in TIMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


@settings(max_examples=1500)
@given(programs(), machines())
def test_engines_agree_on_every_op(program, machine):
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))


@settings(max_examples=50)
@given(programs(min_ops=15, max_ops=30, max_items=12), machines())
def test_engines_agree_on_long_programs(program, machine):
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))


@settings(max_examples=400)
@given(programs(), banked_machines())
def test_engines_agree_on_every_op_with_banked_memory(program, machine):
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))


@settings(max_examples=100)
@given(programs(), machines())
def test_the_same_input_gives_the_same_answer(program, machine):
    for engine in (compiled, reference):
        assert_equal(engine.schedule(program, machine), engine.schedule(program, machine))


@pytest.mark.parametrize("engine", [compiled, reference])
def test_an_empty_program_takes_no_time(engine):
    assert engine.schedule(program_of([]), machine_of()).cycles == 0


@pytest.mark.parametrize("engine", [compiled, reference])
def test_a_claim_that_lost_the_last_item_of_a_phase_waits_for_the_next_phase(engine):
    """Both cores claim at cycle 0; the second one finds only the item of the later phase."""
    program = program_of([[vector(1, 10)], [vector(1, 1)]], phases=[0, 1])
    run = engine.schedule(program, machine_of(cores=2))
    assert run.start.tolist() == [0, 10]
