"""Split-K, swizzled tiles, stored-transposed weights and deep pipelines: the same product."""

import numpy as np
import pytest

from accelsim.kernels.linear.gemm import Gemm
from accelsim.library.recipe import Recipe
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program.ops import A, Op, Unit
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

MACHINE = load_machine("edge-npu")
TILES = {"tile_m": 16, "tile_n": 24, "tile_k": 16}


def problem_of(m=50, n=70, k=100, dtype=Format.INT8):
    return GemmProblem(kind="gemm", name="drawn", m=m, n=n, k=k, dtype=dtype)


def product_of(problem, **choices):
    rng = np.random.default_rng(5)
    tensors = GemmTensors(
        rng.integers(-127, 128, (problem.m, problem.k), dtype=np.int32),
        rng.integers(-127, 128, (problem.k, problem.n), dtype=np.int32),
    )
    program, output = Gemm.record(problem, MACHINE, Gemm.parameters(**choices), tensors)
    verify(program)
    return program, output, tensors.a @ tensors.b


@pytest.mark.parametrize(
    "choices",
    [
        {"splits": 3},
        {"splits": 7},
        {"splits": 100},
        {"swizzle": 3},
        {"swizzle": 64},
        {"b_layout": "nk"},
        {"stages": 4},
        {"splits": 2, "swizzle": 2, "b_layout": "nk", "stages": 3},
    ],
)
def test_integer_products_are_exact_however_they_are_walked(choices):
    _, output, exact = product_of(problem_of(), **TILES, **choices)
    np.testing.assert_array_equal(output, exact)


def test_a_range_stores_its_sums_and_the_merge_reads_each_once():
    problem = problem_of()
    plain, _, _ = product_of(problem, **TILES)
    split, _, _ = product_of(problem, **TILES, splits=3)
    more = {unit: moved(split, unit) - moved(plain, unit) for unit in (Unit.LOAD, Unit.STORE)}
    sums_bytes = 3 * problem.m * problem.n * 4
    assert more == {Unit.LOAD: sums_bytes, Unit.STORE: sums_bytes}


def moved(program, unit):
    return int(program.hbm_bytes[program.units == unit].sum())


def test_swizzle_walks_bands_of_rows_column_by_column():
    program, _, _ = product_of(problem_of(m=48, n=48, k=16), **TILES, swizzle=2)
    c = next(tensor for tensor in program.tensors if tensor.name == "c")
    starts = program.ops[program.op_codes == Op.STORE, A] - c.address
    places = [(int(s) // c.row_bytes // 16, int(s) % c.row_bytes // 4 // 24) for s in starts]
    assert places == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]


def test_split_k_is_chosen_where_tiles_are_too_few_for_the_cores():
    """One row of tiles on 24 cores: halving the depth of each item halves the time of a wave."""
    shape = {"workload.m": 16, "workload.n": 256, "workload.k": 65536}
    tiles = Recipe("gemm", tile_m=16, tile_n=128, tile_k=128, splits=1)
    one, chosen = (
        simulate("ascend-910b-no-l2", "gemm-1024", recipe, shape)
        for recipe in (tiles, tiles.updated({"splits": "chosen"}))
    )
    assert chosen.cycles < one.cycles / 2
