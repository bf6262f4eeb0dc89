"""Products of experts with their own rows: numbers, bytes, padding and choice of tiles."""

from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import DoesNotFitError
from accelsim.kernels.linear.grouped_gemm import GroupedGemm
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.simulation import simulate
from accelsim.workload.problem import GemmProblem, GroupedGemmProblem
from accelsim.workload.tensors import load_tensors
from tests.oracle.recorded import MACHINE, moved_bytes, run

RANDOM = {"source": "uniform", "amplitude": 2, "seed": 5}
ROWS = (5, 0, 17, 1, 0, 32)
TILES = {"tile_m": 8, "tile_n": 6, "tile_k": 7}


def problem_of(rows=ROWS, n=20, k=33, dtype="fp16", tensors=RANDOM):
    keys = {"rows": rows, "n": n, "k": k, "dtype": dtype, "tensors": tensors}
    return GroupedGemmProblem(kind="grouped_gemm", name="experts", **keys)


@pytest.mark.parametrize("settings", [{}, TILES, {**TILES, "b_layout": "nk", "stages": 3}])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16", "fp8_e4m3"])
def test_every_expert_multiplies_its_own_rows(dtype, settings):
    machine = load_machine("ascend-910b-no-l2", {"cube.rates.fp8_e4m3": 1})
    problem = problem_of(dtype=dtype)
    tensors = load_tensors(problem, Path())
    _, output = run("grouped_gemm", problem, tensors, machine=machine, **settings)
    exact = GroupedGemm.oracle(problem, tensors)
    bits = {"fp32": 20, "fp16": 11, "bf16": 8, "fp8_e4m3": 8}[dtype]
    assert np.abs(output - exact).max() <= 2.0**-bits * np.abs(exact).max()


def test_the_oracle_is_a_product_of_each_expert():
    problem = problem_of((1, 0, 2), n=1, k=2)
    tensors = load_tensors(problem, Path())._replace(
        a=np.float32([[1, 2], [3, 4], [5, 6]]), b=np.float32([[[1], [10]], [[7], [7]], [[2], [0]]])
    )
    assert GroupedGemm.oracle(problem, tensors).tolist() == [[21], [6], [10]]


sizes = st.integers(1, 60)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any), sizes, sizes, sizes, sizes)
def test_bytes_and_steps_have_closed_forms(rows, n, k, tile_m, tile_n):
    problem = problem_of(tuple(rows), n, k, tensors=None)
    program, _ = run("grouped_gemm", problem, None, tile_m=tile_m, tile_n=tile_n, tile_k=16)
    height = program.parameters["tile_m"]
    blocks = sum(ceil(each / height) for each in rows)
    assert moved_bytes(program, "a") == ceil(n / tile_n) * sum(rows) * k * 2
    assert moved_bytes(program, "b") == blocks * k * n * 2
    assert moved_bytes(program, "c") == sum(rows) * n * 2
    report = simulate(MACHINE, LoadedWorkload(problem, Path()), f"grouped_gemm({choices(program)})")
    # Rows that are not there take the steps of the matrix unit.
    assert report.macs == blocks * height * n * k >= problem.macs
    assert report.compulsory_bytes == problem.compulsory_bytes
    assert report.compulsory_bytes <= report.hbm_read_bytes + report.hbm_write_bytes


def choices(program):
    names = ("tile_m", "tile_n", "tile_k", "stages")
    return ", ".join(f"{name}={program.parameters[name]}" for name in names)


def test_only_weights_of_experts_with_rows_are_needed():
    problem = problem_of((3, 0, 0, 4), n=10, k=8)
    assert problem.input_shapes["b"] == (4, 8, 10)
    assert problem.tensor_bytes == {"a": 7 * 8 * 2, "b": 2 * 8 * 10 * 2, "c": 7 * 10 * 2}


def test_experts_whose_rows_fill_their_blocks_take_as_long_as_one_product():
    """Without an L2, B is read for every row block anyway: one matrix or several."""
    grouped = problem_of((64, 128, 64), n=256, k=512, tensors=None)
    single = GemmProblem(kind="gemm", name="one", m=256, n=256, k=512)
    settings = "tile_m=64, tile_n=64, tile_k=128, stages=2"
    by_expert = simulate(MACHINE, LoadedWorkload(grouped, Path()), f"grouped_gemm({settings})")
    at_once = simulate(MACHINE, LoadedWorkload(single, Path()), f"gemm({settings}, splits=1)")
    assert by_expert.hbm_read_bytes == at_once.hbm_read_bytes
    assert by_expert.cycles == pytest.approx(at_once.cycles, rel=0.02)


def test_one_row_more_than_a_block_costs_a_block():
    def macs(rows):
        problem = problem_of((rows,), n=64, k=64, tensors=None)
        return simulate(MACHINE, LoadedWorkload(problem, Path()), "grouped_gemm(tile_m=16)").macs

    assert macs(16) == 16 * 64 * 64
    assert macs(17) == macs(32) == 2 * macs(16)


def test_a_machine_without_a_cube_says_so():
    with pytest.raises(DoesNotFitError) as found:
        simulate("tender-asic", LoadedWorkload(problem_of(), Path()), "grouped_gemm")
    assert str(found.value) == (
        "machine tender-asic has no cube, which grouped_gemm on experts uses; "
        "give machine.cube to add one"
    )


def test_lower_tiles_are_taken_where_high_ones_do_not_fit():
    small = {"accumulator.capacity": "16 KiB", "scratchpad.capacity": "64 KiB"}
    machine = load_machine("edge-npu", small)
    problem = problem_of((500, 3), n=64, k=64, tensors=None)
    program, _ = run("grouped_gemm", problem, None, machine=machine)
    assert program.parameters["tile_m"] < 500


def test_tiles_that_never_fit_are_refused_with_their_buffers():
    problem = problem_of(tensors=None)
    with pytest.raises(DoesNotFitError, match=r"^grouped_gemm on experts does not fit the "):
        run("grouped_gemm", problem, None, tile_m=2**30)


@pytest.mark.parametrize("machine", ["ascend-910b-no-l2", "ascend-910b", "tpu-like-128"])
@pytest.mark.parametrize("rows", [(1, 0, 0, 2, 0, 1, 1, 3), (247, 86, 690, 332, 346, 104, 137, 98)])
def test_the_estimate_is_near_the_simulated_time(rows, machine):
    """A quarter of the sizes of Mixtral-8x7B; ratios are 0.86 to 1.01."""
    problem = problem_of(rows, n=7168, k=1024, tensors=None)
    loaded = load_machine(machine)
    report = simulate(loaded, LoadedWorkload(problem, Path()), "grouped_gemm")
    estimate = GroupedGemm.estimated_cycles(problem, loaded, GroupedGemm.parameters())
    assert 0.85 < report.cycles / estimate < 1.15


def test_a_shipped_workload_is_computed_as_accurately_as_its_format():
    report = simulate("ascend-910b-no-l2", "experts-small", "grouped_gemm")
    # One rounding to FP16 at the end: half a unit in the eleventh bit.
    assert report.accuracy.relative_rmse < 2**-12
