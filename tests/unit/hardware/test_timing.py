"""The formulas of the units on scalars."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.hardware.units.cube import Dataflow, MatrixUnit, matrix_cycles
from accelsim.hardware.units.cycles import ceil_cycles
from accelsim.hardware.units.move import move_cycles
from accelsim.hardware.units.vector import vector_cycles

WIDE = 1e9
CUBE = MatrixUnit(Dataflow.CUBE, 16, 16, 16, overlaps_folds=False)


@pytest.mark.parametrize(
    ("amount", "per_cycle", "expected"),
    [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (1, 0.3, 4), (3, 0.3, 10), (9, 0.9, 10)],
)
def test_a_partial_cycle_is_a_whole_one(amount, per_cycle, expected):
    assert ceil_cycles(amount, per_cycle) == expected


@given(st.integers(1, 2**40), st.floats(1e-3, 1e6))
def test_whole_cycles_are_the_fewest_that_suffice(amount, per_cycle):
    cycles = ceil_cycles(amount, per_cycle)
    assert cycles * per_cycle >= amount
    # Rounding of the quotient may add a cycle where it lies within a double of a whole number.
    assert (cycles - 1) * per_cycle < amount * (1 + 2**-51)


def test_the_cube_is_limited_by_steps_or_by_its_port():
    assert matrix_cycles(17, 16, 16, 0, CUBE, 1.0, WIDE) == 2
    assert matrix_cycles(16, 16, 16, 1024, CUBE, 1.0, 512) == 2
    assert matrix_cycles(16, 16, 16, 1024, CUBE, 0.25, 512) == 4


def test_the_vector_unit_is_limited_by_lanes_or_by_its_port():
    assert vector_cycles(65, 0, 64, 1.0, 0, WIDE) == 2
    assert vector_cycles(64, 512, 64, 1.0, 0, 256) == 2
    assert vector_cycles(64, 512, 64, 4.0, 8, 256) == 12


def test_a_move_is_limited_by_either_side():
    assert move_cycles(100, 0, 10, WIDE) == 10
    assert move_cycles(0, 100, WIDE, 20) == 5
