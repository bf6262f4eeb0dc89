"""Single ops against closed forms: what a unit is occupied for, and when others see its result."""

from math import ceil

import pytest

from accelsim.engine import compiled, reference
from accelsim.program.ops import Op
from tests.handmade import machine_of, matmul, move, program_of, vector

engines = pytest.mark.parametrize("engine", [compiled, reference])


def cycles_of(engine, op, machine):
    return engine.schedule(program_of([[op]]), machine).cycles


@engines
@pytest.mark.parametrize("tile", [(1, 1, 1), (4, 4, 4), (16, 16, 16), (16, 8, 32)])
@pytest.mark.parametrize("sizes", [(16, 16, 16), (17, 1, 33), (64, 48, 80)])
def test_a_product_takes_a_step_for_each_tile_of_the_cube(engine, tile, sizes):
    """ceil(m / t_m) ceil(n / t_n) ceil(k / t_k) steps at one per cycle, then the pipeline."""
    depth = 7
    steps = 1
    for size, width in zip(sizes, tile, strict=True):
        steps *= ceil(size / width)
    machine = machine_of(tile=tile, cube_depth_cycles=depth)
    assert cycles_of(engine, matmul(3, 1, 2, *sizes), machine) == steps + depth


@engines
@pytest.mark.parametrize(("rate", "expected"), [(0.25, 108), (1, 27), (2, 14), (3, 9)])
def test_a_product_runs_at_the_rate_of_its_format(engine, rate, expected):
    """27 steps at `rate` per cycle, rounded up."""
    machine = machine_of(cube_rates={"fp16": rate})
    assert cycles_of(engine, matmul(3, 1, 2, 3, 3, 3), machine) == expected


@engines
def test_a_product_waits_for_its_operands_at_a_narrow_port(engine):
    """One step on 16x16x16, but (256 x 16 bit + 256 x 8 bit) / 32 B per cycle = 24 cycles."""
    machine = machine_of(tile=(16, 16, 16), scratchpad_bytes_per_cycle=32)
    assert cycles_of(engine, matmul(3, 1, 2, 16, 16, 16, bits=(16, 8)), machine) == 24


@engines
@pytest.mark.parametrize("cost", [0.5, 1, 4])
@pytest.mark.parametrize(("elements", "groups"), [(1, 1), (64, 1), (65, 2), (640, 10)])
def test_a_vector_op_takes_its_cost_for_each_group_of_lanes(engine, cost, elements, groups):
    """Issue, then ceil(elements / lanes) groups times the cost of the op, then the pipeline."""
    machine = machine_of(
        lanes={"fp16": 64}, issue_cycles=5, vector_depth_cycles=11, costs={"exp": cost}
    )
    expected = 5 + ceil(groups * cost) + 11
    assert cycles_of(engine, vector(1, elements, op=Op.EXP), machine) == expected


@engines
def test_a_vector_op_waits_for_its_tiles_at_a_narrow_port(engine):
    """One group of lanes, but (100 + 29) B at 32 B per cycle take 5 cycles."""
    machine = machine_of(lanes={"fp16": 64}, scratchpad_bytes_per_cycle=32)
    op = vector(1, 64, read_bytes=100, written_bytes=29)
    assert cycles_of(engine, op, machine) == 5


@engines
@pytest.mark.parametrize(
    ("accumulator", "scratchpad", "expected"), [(16, 64, 64), (64, 8, 64), (64, 32, 16)]
)
def test_a_move_is_as_slow_as_the_slower_side(engine, accumulator, scratchpad, expected):
    """1024 B out of the accumulator, 512 B into the scratchpad."""
    machine = machine_of(
        accumulator_bytes_per_cycle=accumulator, scratchpad_bytes_per_cycle=scratchpad
    )
    op = move(1, 2, 16, 16, read_bytes=1024, written_bytes=512)
    assert cycles_of(engine, op, machine) == expected


@engines
def test_a_unit_forwards_to_itself_but_others_wait_for_its_pipeline(engine):
    """Three vector ops back to back, then the cube after a pipeline depth."""
    machine = machine_of(vector_depth_cycles=20)
    item = [vector(1, 10), vector(1, 10, reads=[1]), vector(1, 10, reads=[1])]
    run = engine.schedule(program_of([[*item, matmul(2, 1, 1, 1, 1, 1)]]), machine)
    assert run.start.tolist() == [0, 10, 20, 50]
