"""The tiling that gemm chooses, against the tilings a user could ask for instead."""

import numpy as np
import pytest

from accelsim.engine.compiled import schedule
from accelsim.kernels.linear.estimate import waves
from accelsim.kernels.linear.estimate.products import Slots, Step, Work, estimates
from accelsim.kernels.linear.gemm import Gemm
from accelsim.kernels.linear.gemm_tiles import GemmParameters, rival_tiles
from accelsim.kernels.linear.grouped_gemm import GroupedGemm
from accelsim.kernels.linear.tiles import Cost, Tiles, balanced, candidates, fastest_of
from accelsim.kernels.linear.weight_only import WeightOnly
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import GemmProblem, GroupedGemmProblem


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
    latency at most, and takes times that differ by half a percent for equal.
    """
    machine = load_machine(name, {"hbm.bandwidth": bandwidth})
    best = min(cycles_with(machine, tile_k=depth) for depth in (16, 32, 64, 128, 256))
    assert cycles_with(machine) <= 1.01 * best + machine.hbm_latency_cycles


def test_no_other_side_of_a_tile_is_faster_where_the_last_wave_is_short():
    """32 items of 128 x 256 on 24 cores: the last eight have the HBM to themselves."""
    machine = load_machine("ascend-910b-no-l2")
    sides = [(m, n) for m in (64, 128, 256) for n in (64, 128, 256) if m * n <= 128 * 256]
    best = min(cycles_with(machine, tile_m=m, tile_n=n) for m, n in sides)
    assert cycles_with(machine) <= 1.01 * best + machine.hbm_latency_cycles


def test_an_item_of_one_step_is_known_to_use_one_slot():
    """Each item begins with the first slot, so that nothing of the next one arrives ahead."""
    machine = load_machine("ascend-910b-no-l2", {"hbm.bandwidth": "3.2 TB/s"})
    work = problem(2048, 2048, 512)
    best = min(cycles_with(machine, work, WeightOnly, tile_k=depth) for depth in (128, 256, 512))
    assert cycles_with(machine, work, WeightOnly) <= 1.01 * best + machine.hbm_latency_cycles


def test_no_other_number_of_ranges_is_faster():
    """Sums of many ranges arrive two at a time in the second phase."""
    machine = load_machine("h200-sxm")
    asked = {"stages": 4, "b_layout": "nk", "tile_k": 64}
    work = problem(1, 576, 1536)
    best = min(cycles_with(machine, work, splits=n, **asked) for n in (1, 2, 4, 6, 12, 24))
    chosen = cycles_with(machine, work, splits="chosen", **asked)
    assert chosen <= 1.01 * best + machine.hbm_latency_cycles


def test_tiles_of_warp_groups_have_a_side_for_each_dimension_of_the_instruction():
    """wgmma.m64nNk16 of PTX: 64 rows, N from 8 to 256 by 8; A and B may change places."""
    tilings = candidates(problem(4096, 4096, 64), (None,) * 3, "warp_groups")
    sides = set(zip(tilings.m, tilings.n, strict=True))
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
    assert chosen < 0.9 * cycles_with(machine, work, tile_sizes="powers", **asked)


@pytest.mark.parametrize(("m", "n", "rows"), [(1, 512, "n"), (512, 63, "m"), (40, 40, "mn")])
def test_a_short_operand_is_what_a_warp_group_takes_as_columns(m, n, rows):
    tilings = candidates(problem(m, n, 64), (None,) * 3, "warp_groups")
    sides = set(zip(tilings.m, tilings.n, strict=True))
    along_m = {(min(r, m), min(c, n)) for r in range(64, 513, 64) for c in range(8, 257, 8)}
    along_n = {(min(c, m), min(r, n)) for r in range(64, 513, 64) for c in range(8, 257, 8)}
    assert sides == (along_m if "m" in rows else set()) | (along_n if "n" in rows else set())


def test_a_tile_that_was_asked_for_is_taken_whatever_sizes_are_tried():
    tilings = candidates(problem(4096, 4096, 64), (48, 24, 16), "warp_groups")
    assert set(zip(tilings.m, tilings.n, tilings.k, strict=True)) == {(48, 24, 16)}


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({16: Cost(100, 8.0, 4), 32: Cost(98, 9.0, 5)}, 32),
        ({16: Cost(100, 8.0, 4), 32: Cost(100, 7.0, 5)}, 32),
        ({16: Cost(100.1, 8.0, 4), 32: Cost(100, 9.0, 4)}, 16),
        ({16: Cost(100, 8.0, 4), 32: Cost(100, 8.0, 3)}, 32),
        ({16: Cost(100, 8.0, 4), 32: Cost(99.9, 8.0, 4)}, 32),
    ],
)
def test_of_equally_fast_tiles_those_that_load_least_are_taken(costs, best):
    """Half a percent is more than the estimate can tell."""
    cost = Cost(*(np.array(each) for each in zip(*costs.values(), strict=True)))
    assert list(costs)[fastest_of(cost)] == best


def step_of(work):
    """Return what a step takes with one cycle for each element of C."""

    def step(tiles):
        side_bytes = tiles.k * work.dtype.bits / BITS_PER_BYTE
        return Step(tiles.m * tiles.n, 0.0, (tiles.m * side_bytes, tiles.n * side_bytes))

    return step


@pytest.mark.parametrize(("m", "n", "k"), [(512, 512, 512), (300, 200, 100), (1, 700, 96)])
def test_the_bytes_that_decide_are_those_that_the_program_loads(m, n, k):
    machine, work = load_machine("edge-npu"), problem(m, n, k)
    one = {"tile_m": min(64, m), "tile_n": 128, "tile_k": 32, "splits": 1}
    program, _ = Gemm.record(work, machine, Gemm.parameters(**one), None)
    stored = m * n * work.dtype.bits / BITS_PER_BYTE

    tiles = Tiles(*(np.array([each]) for each in (one["tile_m"], 128, 32, 1, 2, 1, 1)))
    loaded_bytes, _ = loaded_and_cycles(Work(work, machine, step_of(work), work.dtype.bits), tiles)
    assert loaded_bytes == pytest.approx(program.hbm_bytes.sum() - stored)


@pytest.mark.parametrize(
    ("length", "sizes", "expected"),
    [
        (1000, (512, 128), [512, 128]),  # 1000 / 8 = 125, in whole sixteens
        (576, (512, 64), [288, 64]),
        (40, (512, 16), [40, 16]),
        (7, (512, 16), [7]),
    ],
)
def test_balanced_sizes_cut_a_length_into_pieces_of_about_equal_size(length, sizes, expected):
    assert balanced(length, sizes).tolist() == expected


def loaded_and_cycles(work, tiles):
    """Return the estimates of one tiling with all its choices made."""
    found = estimates(work, tiles, Slots(tiles.stages, tiles.stages))
    return found[waves.LOADED, 0], found[waves.CYCLES, 0]


def chosen_ranges(cores, depth=4096):
    """Return the ranges of k of four tiles and of sixteen."""
    machine, work = load_machine("ascend-910b", {"cores": cores}), problem(16, 256, depth)
    own = Work(work, machine, step_of(work), work.dtype.bits)
    four, sixteen = (Tiles(*map(np.array, ([16], [each], [64])), 1, splits=0) for each in (64, 16))
    return [estimates(own, each, Slots(4, 2))[waves.BEST_SPLITS, 0] for each in (four, sixteen)]


def test_ranges_of_k_are_chosen_where_cores_want_for_tiles():
    assert chosen_ranges(cores=8) == [2, 1]
    assert chosen_ranges(cores=1) == [1, 1]


def test_ranges_of_k_are_not_more_than_there_are_steps():
    assert chosen_ranges(cores=64, depth=64) == [1, 1]
    assert max(chosen_ranges(cores=64, depth=128)) == 2


def test_an_estimate_of_given_choices_is_not_below_that_of_the_best_ones():
    machine, work = load_machine("ascend-910b"), problem(64, 512, 2048)
    own = Work(work, machine, step_of(work), work.dtype.bits)
    tiles = Tiles(*(np.array([each]) for each in (64, 64, 128)), 2, splits=0, swizzle=0)
    best = estimates(own, tiles, Slots(4, 2))[:, 0]
    tried = [
        loaded_and_cycles(own, tiles._replace(stages=stages, splits=splits, swizzle=swizzle))[1]
        for stages in (2, 3, 4)
        for splits in (1, 2, 4)
        for swizzle in (1, 5)
    ]
    assert best[waves.CYCLES] <= min(tried)


RECIPES = {
    "ascend-910b": [
        ((1024, 1024, 1024), {"tile_m": 128, "tile_n": 176, "tile_k": 128}),
        ((1, 4096, 4096), {"tile_n": 384, "tile_k": 64, "stages": 4, "swizzle": 4}),
        ((64, 4096, 4096), {"tile_n": 96, "tile_k": 256, "stages": 3, "swizzle": 4}),
        ((512, 4096, 1024), {"tile_m": 192, "tile_n": 160, "tile_k": 64, "stages": 3}),
        ((128, 1024, 8192), {"tile_m": 64, "tile_n": 96, "tile_k": 128, "stages": 4, "swizzle": 6}),
    ],
    "ascend-910b-no-l2": [
        ((1024, 1024, 1024), {"tile_m": 128, "tile_n": 176, "tile_k": 128}),
        ((1, 4096, 4096), {"tile_n": 384, "tile_k": 128, "stages": 4}),
        ((300, 700, 500), {"tile_m": 192, "tile_n": 96, "tile_k": 128}),
        ((512, 576, 512), {"tile_m": 128, "tile_n": 192, "tile_k": 64, "stages": 4}),
    ],
    "ascend-910b-banked": [
        ((64, 4096, 4096), {"tile_m": 64, "tile_n": 512, "tile_k": 64, "stages": 3, "swizzle": 14}),
    ],
    "edge-npu": [
        ((256, 512, 512), {"tile_m": 128, "tile_n": 128, "tile_k": 64}),
        ((1, 2048, 512), {"tile_n": 512, "tile_k": 64, "stages": 3}),
    ],
}
"""The best of hundreds of recipes tried by hand, with one range of k."""


@pytest.mark.parametrize(
    ("name", "shape", "recipe"), [(name, *each) for name in RECIPES for each in RECIPES[name]]
)
def test_no_recipe_tried_by_hand_is_much_faster_than_the_default(name, shape, recipe):
    machine, work = load_machine(name), problem(*shape)
    by_hand = cycles_with(machine, work, **{"swizzle": 1, "splits": 1, "stages": 2, **recipe})
    assert cycles_with(machine, work) <= 1.05 * by_hand


@pytest.mark.parametrize("name", ["ascend-910b", "ascend-910b-no-l2"])
def test_decode_is_bound_by_the_bandwidth_of_the_hbm(name):
    machine, work = load_machine(name), problem(1, 4096, 4096)
    least = work.compulsory_bytes / machine.hbm_bytes_per_cycle
    assert least <= cycles_with(machine, work) <= 1.06 * least


def test_a_choice_is_made_anew_where_machine_problem_or_parameters_differ():
    machine = load_machine("ascend-910b")
    chosen = rival_tiles(SQUARE, machine, GemmParameters())
    assert rival_tiles(SQUARE, load_machine("ascend-910b"), GemmParameters()) is chosen
    small = load_machine("ascend-910b", {"scratchpad.capacity": "64 KiB"})
    assert rival_tiles(SQUARE, small, GemmParameters()) != chosen
    assert rival_tiles(problem(64, 64, 64), machine, GemmParameters()) != chosen
    assert rival_tiles(SQUARE, machine, GemmParameters(tile_k=16))[0].tiles.k == 16


@pytest.mark.parametrize("kernel", [Gemm, WeightOnly])
def test_the_estimate_is_near_what_is_simulated(kernel):
    machine, work = load_machine("ascend-910b"), problem(512, 1024, 1024)
    estimated = kernel.estimated_cycles(work, machine, kernel.parameters())
    assert estimated == pytest.approx(cycles_with(machine, work, kernel), rel=0.2)


@pytest.mark.parametrize("name", ["ascend-910b", "ascend-910b-no-l2", "h200-sxm"])
@pytest.mark.parametrize("splits", [2, 4, 8])
@pytest.mark.parametrize("shape", [(16, 64, 4096), (64, 128, 4096), (128, 300, 5000)])
def test_the_estimate_knows_how_long_sums_of_ranges_take_to_add(name, splits, shape):
    """An L2 still holds them, and two more arrive as two have been added."""
    machine, work = load_machine(name), problem(*shape)
    parameters = Gemm.parameters(splits=splits)
    estimated = Gemm.estimated_cycles(work, machine, parameters)
    assert estimated == pytest.approx(cycles_with(machine, work, splits=splits), rel=0.1)


@pytest.mark.parametrize("name", ["ascend-910b", "ascend-910b-no-l2"])
@pytest.mark.parametrize("tile_m", [64, 176])
def test_the_estimate_of_experts_knows_their_rows_and_matrices(name, tile_m):
    """Padded rows are not loaded, and each expert's matrix comes once where an L2 keeps it."""
    experts = {"name": "experts", "rows": (53, 176, 5, 50, 56, 0), "n": 1000, "k": 1500}
    work = GroupedGemmProblem(kind="grouped_gemm", **experts)
    machine, parameters = load_machine(name), GroupedGemm.parameters(tile_m=tile_m)
    estimated = GroupedGemm.estimated_cycles(work, machine, parameters)
    assert estimated == pytest.approx(
        cycles_with(machine, work, GroupedGemm, tile_m=tile_m), rel=0.1
    )
