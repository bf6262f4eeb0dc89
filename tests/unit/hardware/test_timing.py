"""Cycles of single ops by the formulas of their units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.engine.durations import work_of
from accelsim.hardware.units.cycles import ceil_cycles
from tests.handmade import machine_of, matmul, move, program_of, vector


def cycles_of(op, **machine):
    return int(work_of(program_of([[op]]), machine_of(**machine)).busy_cycles[0])


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


@pytest.mark.parametrize(
    ("op", "machine", "expected"),
    [
        (matmul(1, 2, 3, 17, 16, 16), {}, 2),
        (matmul(1, 2, 3, 16, 16, 16), {"scratchpad_bytes_per_cycle": 512}, 2),
        (
            matmul(1, 2, 3, 16, 16, 16),
            {"scratchpad_bytes_per_cycle": 512, "cube_rates": {"fp16": 0.25}},
            4,
        ),
    ],
)
def test_the_cube_is_limited_by_steps_or_by_its_port(op, machine, expected):
    """Both operands of 16 x 16 x 16 have 1024 bytes."""
    assert cycles_of(op, tile=(16, 16, 16), **machine) == expected


@pytest.mark.parametrize(
    ("elements", "num_bytes", "machine", "expected"),
    [
        (65, 0, {}, 2),
        (64, 512, {"scratchpad_bytes_per_cycle": 256}, 2),
        (64, 512, {"scratchpad_bytes_per_cycle": 256, "costs": {"add": 4}, "issue_cycles": 8}, 12),
    ],
)
def test_the_vector_unit_is_limited_by_lanes_or_by_its_port(elements, num_bytes, machine, expected):
    op = vector(1, elements, read_bytes=num_bytes, written_bytes=0)
    assert cycles_of(op, lanes={"fp16": 64}, **machine) == expected


@pytest.mark.parametrize(
    ("read_bytes", "written_bytes", "machine", "expected"),
    [
        (100, 0, {"accumulator_bytes_per_cycle": 10}, 10),
        (0, 100, {"scratchpad_bytes_per_cycle": 20}, 5),
    ],
)
def test_a_move_is_limited_by_either_side(read_bytes, written_bytes, machine, expected):
    op = move(1, 2, 4, 4, read_bytes=read_bytes, written_bytes=written_bytes)
    assert cycles_of(op, **machine) == expected
