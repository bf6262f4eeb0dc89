"""The compiled engine is the reference engine, to the last cycle of every op."""

import numpy as np
import pytest
from hypothesis import given, settings

from accelsim.engine import compiled, reference
from accelsim.engine.schedule import Schedule
from tests.strategies.machines import machines
from tests.strategies.programs import programs

TIMES = ("start", "end", "cause", "busy", "core")


def assert_equal(found: Schedule, expected: Schedule) -> None:
    for name in TIMES:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


@settings(max_examples=1500)
@given(programs(), machines())
def test_engines_agree_on_every_op(program, machine):
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))
