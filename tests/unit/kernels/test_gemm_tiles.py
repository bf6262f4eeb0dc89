"""The tiling that gemm chooses, against the tilings a user could ask for instead."""

import pytest

from accelsim.engine.compiled import schedule
from accelsim.kernels.linear.gemm import Gemm
from accelsim.kernels.linear.tiles import (
    BufferSize,
    Cost,
    Step,
    Tiles,
    candidates,
    cost_of,
    fastest_tiles,
)
from accelsim.kernels.linear.weight_only import WeightOnly
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import GemmProblem


def problem(m, n, k):
    return GemmProblem(kind="gemm", name="product", m=m, n=n, k=k)


SQUARE = problem(1024, 1024, 1024)


def cycles_with(machine, work=SQUARE, kernel=Gemm, **parameters):
    program, _ = kernel.record(work, machine, kernel.parameters(**parameters), None)
    return schedule(program, machine).cycles


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("ascend-910b-no-l2", "100 GB/s"),
        ("ascend-910b-no-l2", "400 GB/s"),
        ("ascend-910b-no-l2", "1.6 TB/s"),
        ("edge-npu", "8 GB/s"),
        ("edge-npu", "32 GB/s"),
    ],
)
def test_no_other_depth_of_a_step_is_faster(name, bandwidth):
    """Steps too small leave channels idle and latency in sight: up to four times slower.

    The estimate does not know how the first transfers of all cores overlap, which is worth a
    latency at most.
    """
    machine = load_machine(name, {"hbm.bandwidth": bandwidth})
    best = min(cycles_with(machine, tile_k=depth) for depth in (16, 32, 64, 128, 256))
    assert cycles_with(machine) <= best + machine.hbm_latency_cycles


def test_no_other_side_of_a_tile_is_faster_where_the_last_wave_is_short():
    """32 items of 128 x 256 on 24 cores: the last eight have the HBM to themselves."""
    machine = load_machine("ascend-910b-no-l2")
    sides = [(m, n) for m in (64, 128, 256) for n in (64, 128, 256) if m * n <= 128 * 256]
    best = min(cycles_with(machine, tile_m=m, tile_n=n) for m, n in sides)
    assert cycles_with(machine) <= best + machine.hbm_latency_cycles


def test_an_item_of_one_step_is_known_to_use_one_slot():
    """Each item begins with the first slot, so that nothing of the next one arrives ahead."""
    machine = load_machine("ascend-910b-no-l2", {"hbm.bandwidth": "3.2 TB/s"})
    work = problem(2048, 2048, 512)
    best = min(cycles_with(machine, work, WeightOnly, tile_k=depth) for depth in (128, 256, 512))
    assert cycles_with(machine, work, WeightOnly) <= best + machine.hbm_latency_cycles


def test_no_other_number_of_ranges_is_faster():
    """Sums of many ranges arrive two at a time in the second phase."""
    machine = load_machine("h200-sxm")
    asked = {"stages": 4, "b_layout": "nk", "tile_k": 64}
    work = problem(1, 576, 1536)
    best = min(cycles_with(machine, work, splits=n, **asked) for n in (1, 2, 4, 6, 12, 24))
    assert cycles_with(machine, work, splits="chosen", **asked) <= best + machine.hbm_latency_cycles


def test_tiles_of_warp_groups_have_a_side_for_each_dimension_of_the_instruction():
    """wgmma.m64nNk16 of PTX: 64 rows, N from 8 to 256 by 8; A and B may change places."""
    sides = {(t.m, t.n) for t in candidates(problem(4096, 4096, 64), (None,) * 3, "warp_groups")}
    rows, cols = range(64, 513, 64), range(8, 257, 8)
    assert sides == {(m, n) for m in range(8, 513, 8) for n in range(8, 513, 8)} & (
        {(m, n) for m in rows for n in cols} | {(n, m) for m in rows for n in cols}
    )


@pytest.mark.parametrize(
    ("m", "n", "k", "best"), [(512, 10240, 8192, (256, 160)), (3072, 3072, 3072, (192, 192))]
)
def test_tiles_of_warp_groups_fill_waves_that_powers_of_two_leave_half_empty(m, n, k, best):
    """Both tiles are in the names of cuBLAS kernels for Hopper."""
    machine = load_machine("h200-sxm")
    asked = {"stages": 4, "b_layout": "nk", "tile_k": 64}
    work = GemmProblem(kind="gemm", name="product", m=m, n=n, k=k, dtype=Format.BF16)
    chosen = cycles_with(machine, work, tile_sizes="warp_groups", **asked)
    assert chosen == cycles_with(machine, work, tile_m=best[0], tile_n=best[1], **asked)
    assert chosen < 0.9 * cycles_with(machine, work, **asked)


@pytest.mark.parametrize(("m", "n", "rows"), [(1, 512, "n"), (512, 63, "m"), (40, 40, "mn")])
def test_a_short_operand_is_what_a_warp_group_takes_as_columns(m, n, rows):
    sides = {(t.m, t.n) for t in candidates(problem(m, n, 64), (None,) * 3, "warp_groups")}
    along_m = {(min(r, m), min(c, n)) for r in range(64, 513, 64) for c in range(8, 257, 8)}
    along_n = {(min(c, m), min(r, n)) for r in range(64, 513, 64) for c in range(8, 257, 8)}
    assert sides == (along_m if "m" in rows else set()) | (along_n if "n" in rows else set())


def test_a_tile_that_was_asked_for_is_taken_whatever_sizes_are_tried():
    tilings = candidates(problem(4096, 4096, 64), (48, 24, 16), "warp_groups")
    assert {(t.m, t.n, t.k) for t in tilings} == {(48, 24, 16)}


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({16: Cost(100, 8.0, 4), 32: Cost(99, 9.0, 5)}, 32),
        ({16: Cost(100, 8.0, 4), 32: Cost(100, 7.0, 5)}, 32),
        ({16: Cost(100, 8.0, 4), 32: Cost(100, 8.0, 3)}, 32),
        ({16: Cost(100, 8.0, 4), 32: Cost(100, 8.0, 4)}, 16),
    ],
)
def test_of_equally_fast_tiles_those_that_load_least_are_taken(costs, best):
    chosen = fastest_tiles(
        "product",
        load_machine("edge-npu"),
        [Tiles(size, size, size, 1) for size in costs],
        lambda tiles: [BufferSize("a", tiles.m, tiles.k, Format.FP16)],
        lambda tiles: costs[tiles.m],
    )
    assert chosen.m == best


@pytest.mark.parametrize(("m", "n", "k"), [(512, 512, 512), (300, 200, 100), (1, 700, 96)])
def test_the_bytes_that_decide_are_those_that_the_program_loads(m, n, k):
    machine, work = load_machine("edge-npu"), problem(m, n, k)
    tiles = Tiles(min(64, m), 128, 32, 1)
    loads = tuple(side * tiles.k * work.dtype.bits / BITS_PER_BYTE for side in (tiles.m, tiles.n))
    program, _ = Gemm.record(
        work, machine, Gemm.parameters(tile_m=tiles.m, tile_n=tiles.n, tile_k=tiles.k), None
    )
    stored = m * n * work.dtype.bits / BITS_PER_BYTE
    cost = cost_of(work, machine, tiles, Step(1.0, 0.0, loads))
    assert cost.loaded_bytes == pytest.approx(program.hbm_bytes.sum() - stored)
