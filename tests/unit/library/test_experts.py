"""Products of experts on Hopper: which kernel, and the GPU as it sees it."""

import pytest

from accelsim.bench import Bench
from accelsim.errors import UnknownNameError
from accelsim.library.base import Hardware
from accelsim.library.hopper.experts import fused, grouped_gemm
from accelsim.library.recipe import Recipe
from accelsim.loading import load_machine, load_technology
from accelsim.workload.problem import GroupedGemmProblem


def products(*rows, n=1536, k=2048):
    return GroupedGemmProblem(kind="grouped_gemm", name="e", rows=rows, n=n, k=k, dtype="bf16")


def hardware(problem, recipe):
    return Bench(load_machine("h200-sxm")).hardware_for(problem, recipe).machine


@pytest.mark.parametrize(
    ("mean", "tile"),
    [
        (1, (16, 128, 128, 3)),
        (8, (16, 128, 128, 3)),
        (12, (32, 128, 128, 3)),
        (24, (64, 128, 64, 4)),
        (32, (64, 128, 64, 4)),
        (64, (128, 256, 64, 4)),
        (256, (128, 256, 64, 4)),
    ],
)
def test_rows_of_a_tile_follow_the_mean_of_all_experts(mean, tile):
    settings = grouped_gemm(products(2 * mean, 0)).settings
    assert tuple(settings[name] for name in ("tile_m", "tile_n", "tile_k", "stages")) == tile
    assert settings["code"] == "fused"


def test_many_rows_are_single_products_that_are_prepared():
    recipe = grouped_gemm(products(512, 512))
    assert "tile_m" not in recipe.settings
    plain = load_machine("h200-sxm")
    assert hardware(products(512, 512), recipe).launch == 2 * plain.launch


def test_the_fused_kernel_has_no_multicast_and_waits_for_what_it_is_to_do():
    plain, problem = load_machine("h200-sxm"), products(100, 100)
    seen = hardware(problem, grouped_gemm(problem))
    # As measured of blocks that share nothing, at 1,980 MHz (benchmarks/h200_energy).
    assert seen.l2.bandwidth == pytest.approx(8.75e12)
    assert seen.cube.setup == pytest.approx(plain.cube.setup + 2 * 286 / plain.clock)
    assert seen.cube.issue_cycles == plain.cube.issue_cycles
    assert seen.cube.rates == plain.cube.rates


def test_few_rows_are_chains_of_single_warps_that_other_blocks_fill():
    plain = load_machine("h200-sxm")
    alone = products(8)
    # 128 of the depth are 8 products, each behind a load from shared memory.
    seen = hardware(alone, grouped_gemm(alone))
    assert seen.cube.issue_cycles == 8 * (29 + 33)
    assert max(seen.cube.rates.values()) < max(plain.cube.rates.values())
    # 12 columns of tiles of 50 experts; two blocks fit.
    many = products(*[8] * 50)
    assert hardware(many, grouped_gemm(many)).cube.issue_cycles == 8 * (29 + 33) // 2


def test_an_unknown_code_is_refused():
    with pytest.raises(UnknownNameError, match="allowed by library hopper: eager, warps, fused"):
        hardware(products(8), Recipe("grouped_gemm", code="fussed"))


def test_a_byte_of_blocks_that_share_nothing_costs_what_the_l2_alone_did():
    """45 pJ, 1.5 times a byte of clusters that share an operand; the rate follows the clock."""
    problem, bench = products(100, 100), Bench(load_machine("h200-sxm"))
    recipe = grouped_gemm(problem)
    seen = bench.hardware_for(problem, recipe)
    shared_pj = load_technology("4n").network.energy.value
    assert seen.technology.network.energy.value == pytest.approx(45) == 1.5 * shared_pj
    slower = bench.hardware_for(problem, recipe, bench.machine.clock / 2)
    assert slower.machine.l2.bandwidth == pytest.approx(8.75e12 / 2)


def test_a_technology_without_a_network_has_none_for_them_either():
    machine = load_machine("h200-sxm").model_copy(update={"technology": "7nm"})
    technology = load_technology("7nm")
    assert technology.network is None
    own = Hardware(machine, technology)
    assert fused(own, products(100, 100), grouped_gemm(products(100, 100))).technology == technology
