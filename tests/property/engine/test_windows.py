"""A program that is recorded in pieces has the sums of the same program as a whole."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference, window
from accelsim.errors import DoesNotFitError, ProgramError
from accelsim.program import long as long_module
from accelsim.program.language import begin_item
from accelsim.program.long import LongProgram, Recording, held
from accelsim.program.program import Program
from accelsim.program.recording import record_op
from accelsim.runtime.jit import jit
from tests.handmade import load, machine_of, matmul, program_of, store, vector
from tests.strategies.machines import banked_machines, machines
from tests.strategies.programs import compute_ops, loads, programs, stores

pieces = st.integers(1, 30)
ops = loads | stores | compute_ops
SLOTS = 5


@jit
def _replay(p, words, item_start, item_phase):
    """Record a program again, as a kernel does."""
    for item in range(len(item_phase)):
        begin_item(p, item_phase[item])
        for op in range(item_start[item], item_start[item + 1]):
            w = words[op]
            record_op(p, w[0], w[1], w[2], w[3], w[4], w[5], w[6])


def in_pieces(program: Program) -> LongProgram:
    arguments = program.ops, program.item_start, program.item_phase
    recording = Recording(_replay, program.num_items, arguments)
    return LongProgram(program.name, recording, program.tensors, program.buffers)


def with_own_tiles(program: Program) -> Program:
    """Return the program with items that write every tile before they read it."""
    items = [
        [*(load(slot, 8 * slot, 16) for slot in range(1, SLOTS + 1)), *map(tuple, own)]
        for own in np.split(program.ops, program.item_start[1:-1])
    ]
    items = items if program.num_items else []
    return program_of(items, program.item_phase.tolist())


def assert_same_sums(found, whole, *, holds: bool) -> None:
    """holds: also what is in use, which is that of sound programs."""
    last = len(whole.accounts) - (not holds)
    for own, expected in zip(found.accounts[:last], whole.accounts[:last], strict=True):
        np.testing.assert_array_equal(own, expected)
    np.testing.assert_array_equal(found.actions, whole.actions)
    for name in ("cycles", "traffic", "dram", "num_ops", "requested"):
        assert getattr(found, name) == getattr(whole, name), name


@settings(max_examples=600)
@given(programs(ops, max_items=12), machines(), pieces)
def test_sums_are_those_of_the_reference_engine(program, machine, piece_ops):
    found = window.schedule(in_pieces(program), machine, piece_ops)
    assert_same_sums(found, reference.schedule(program, machine), holds=False)


@settings(max_examples=600)
@given(programs(ops, max_items=30).map(with_own_tiles), machines(), pieces)
def test_what_is_in_use_is_that_of_the_whole(program, machine, piece_ops):
    found = window.schedule(in_pieces(program), machine, piece_ops)
    assert_same_sums(found, compiled.schedule(program, machine), holds=True)


@settings(max_examples=200)
@given(programs(ops, max_items=12).map(with_own_tiles), banked_machines(), pieces)
def test_a_banked_memory_goes_on_from_piece_to_piece(program, machine, piece_ops):
    found = window.schedule(in_pieces(program), machine, piece_ops)
    assert_same_sums(found, compiled.schedule(program, machine), holds=True)


def test_a_window_holds_what_is_in_flight_and_not_the_program():
    item = [load(1, 0, 64), vector(2, 5, reads=[1]), store(2, 2**20, 64)]
    program, seen = program_of([item] * 400), []
    move = window.Window._move

    def moved(self, count):
        move(self, count)
        seen.append(len(self._state.items))

    with mock.patch.object(window.Window, "_move", moved):
        found = window.schedule(in_pieces(program), machine_of(cores=2), 10)
    assert found.num_ops == 1200
    assert len(seen) > 50
    assert max(seen) <= 2 * 4 + 8  # items of two cores in flight and before, and of two pieces


@pytest.mark.parametrize("phases", [[0] * 40, [0] * 20 + [1] * 20])
def test_a_unit_that_a_phase_uses_late_belongs_to_its_launch(phases):
    """What the launch takes is only known when the last items are there."""
    items = [[vector(1, 5)] for _ in range(39)] + [[load(2, 0, 16), matmul(3, 2, 2, 4, 4, 4)]]
    program, machine = program_of(items, phases), machine_of(cores=2)
    cube = machine.cube.model_copy(update={"setup": 100 / machine.clock})
    machine = machine.model_copy(update={"cube": cube})
    whole = compiled.schedule(program, machine)
    without = compiled.schedule(program, machine_of(cores=2))
    assert whole.cycles == without.cycles + 100
    assert_same_sums(window.schedule(in_pieces(program), machine, 3), whole, holds=True)


def test_an_item_larger_than_a_piece():
    items = [[vector(1, 5)], [vector(1, 7)] * 50, [vector(2, 5)]]
    program = program_of(items)
    found = window.schedule(in_pieces(program), machine_of(), 2)
    assert_same_sums(found, compiled.schedule(program, machine_of()), holds=True)


def test_several_schedules_of_one_long_program():
    program = in_pieces(program_of([[load(1, 0, 64), vector(2, 9, reads=[1])]] * 9))
    one, other = (window.schedule(program, machine_of(cores=cores), 4) for cores in (1, 3))
    assert one.cycles > other.cycles
    assert window.schedule(program, machine_of(cores=1), 5).cycles == one.cycles


def test_a_piece_that_a_machine_cannot_run_ends_the_run():
    items = [[vector(1, 5)]] * 9 + [[matmul(1, 2, 3, 4, 4, 4)]]
    program, machine = program_of(items), machine_of()
    own = machine.cube.model_copy(update={"rates": {"fp32": 1.0}})
    machine = machine.model_copy(update={"cube": own})
    with pytest.raises(DoesNotFitError) as whole:
        compiled.schedule(program, machine)
    with pytest.raises(DoesNotFitError) as found:
        window.schedule(in_pieces(program), machine, 3)
    assert str(found.value) == str(whole.value)


def test_a_kernel_that_begins_other_items_than_it_says():
    program = in_pieces(program_of([[vector(1, 5)]] * 9))
    wrong = Recording(_replay, 8, program.recording.arguments)
    long = LongProgram("own", wrong, program.tensors, program.buffers)
    with pytest.raises(ProgramError) as error:
        window.schedule(long, machine_of(), 3)
    assert str(error.value) == "own: began 9 work items, but announced 8"


def test_an_interruption_ends_the_recording():
    program = in_pieces(program_of([[vector(1, 5)]] * 9))
    stopped = mock.patch.object(window, "work_of", side_effect=KeyboardInterrupt)
    with stopped as work_of, pytest.raises(KeyboardInterrupt):
        window.schedule(program, machine_of(), 3)
    assert work_of.call_count == 1


def test_what_needs_all_ops_is_refused_with_their_size(monkeypatch):
    program = program_of([[vector(1, 5)]])
    assert held(program, "a timeline") is program
    np.testing.assert_array_equal(held(in_pieces(program), "a timeline").ops, program.ops)
    monkeypatch.setattr(long_module, "MAX_OPS", 0)
    with pytest.raises(DoesNotFitError) as error:
        held(in_pieces(program), "a timeline")
    assert str(error.value) == (
        "handmade: has more than 0 ops, and a timeline needs all of them at once, more "
        "than 0.0 GB; choose larger tiles or a smaller problem"
    )
    with pytest.raises(DoesNotFitError, match="the reference engine needs all of them"):
        reference.schedule(in_pieces(program), machine_of())
