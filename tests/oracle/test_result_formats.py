"""Functions whose result has another format than their operands, as that of the next product."""

import numpy as np
import pytest

from accelsim.errors import ConfigError, WorkloadError
from accelsim.kernels.vector.rows import Vector
from accelsim.loading import load_machine, load_workload
from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import to_fp8_e4m3
from accelsim.program.ops import Unit
from accelsim.program.verifier import verify
from accelsim.simulation import simulate
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors

FUNCTIONS = ["copy", "softmax", "rmsnorm", "layernorm", "gelu", "silu", "silu_mul", "add_rmsnorm"]
MACHINE = load_machine("edge-npu")
TILES = [{}, {"tile_rows": 3, "tile_elements": 50}]
E4M3_ERROR, E4M3_STEP = 2**-4, 2**-9
"""Half a step of three stored bits, and the smallest number."""


def problem_of(function, dtype, result_dtype, rows=7, cols=96):
    return VectorProblem(
        kind="vector",
        name="drawn",
        function=function,
        rows=rows,
        cols=cols,
        dtype=dtype,
        result_dtype=result_dtype,
    )


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("dtype", [Format.FP32, Format.BF16])
def test_a_result_in_fp8_is_the_function_up_to_its_rounding(function, tiles, dtype):
    problem = problem_of(function, dtype, Format.FP8_E4M3)
    rng = np.random.default_rng(5)
    # Multiples of 1/16 below 4 are the same in BF16.
    drawn = [rng.integers(-64, 65, (7, 96)).astype(np.float32) / 16 for _ in range(2)]
    tensors = VectorTensors(*drawn)
    program, output = Vector.record(problem, MACHINE, Vector.parameters(**tiles), tensors)
    verify(program)
    output, exact = (
        each[1] if function == "add_rmsnorm" else each
        for each in (output, Vector.oracle(problem, tensors))
    )
    allowed = 1.001 * E4M3_ERROR * np.abs(exact) + E4M3_STEP
    assert (np.abs(output - exact) <= allowed).all()
    assert ([to_fp8_e4m3(each) for each in output.ravel()] == output.ravel()).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_result_in_fp8_is_half_of_the_bytes(function):
    problem = problem_of(function, Format.BF16, Format.FP8_E4M3, 300, 1000)
    program, _ = Vector.record(problem, MACHINE, Vector.parameters(), None)
    verify(program)
    moved = {unit: int(program.hbm_bytes[program.units == unit].sum()) for unit in Unit}
    matrix_bytes = 300 * 1000 * 2
    operands = 2 if function in ("silu_mul", "add_rmsnorm") else 1
    written = matrix_bytes // 2 + (matrix_bytes if function == "add_rmsnorm" else 0)
    assert moved[Unit.LOAD] == operands * matrix_bytes
    assert moved[Unit.STORE] == written
    assert problem.compulsory_bytes == operands * matrix_bytes + written


@pytest.mark.parametrize("function", ["softmax", "rmsnorm", "layernorm"])
def test_steps_of_rows_store_the_format_of_the_result(function):
    problem = problem_of(function, Format.BF16, Format.FP8_E4M3, 30, 1000)
    program, _ = Vector.record(problem, MACHINE, Vector.parameters(tile_cols=300), None)
    verify(program)
    assert int(program.hbm_bytes[program.units == Unit.STORE].sum()) == 30 * 1000


def test_the_same_format_is_no_other_program():
    said, absent = (
        Vector.record(problem_of("copy", Format.BF16, fmt), MACHINE, Vector.parameters(), None)[0]
        for fmt in (Format.BF16, None)
    )
    assert said.num_ops == absent.num_ops
    assert (said.hbm_bytes == absent.hbm_bytes).all()


def test_functions_without_a_format_of_their_result_are_named():
    with pytest.raises(ConfigError) as found:
        load_workload("rmsnorm-4096", {"function": "argmax", "result_dtype": "fp8_e4m3"})
    assert "result_dtype: found fp8_e4m3 with function = argmax, allowed: only with copy, " in str(
        found.value
    )


def test_codes_and_a_format_are_one_too_many():
    workload = load_workload("rmsnorm-4096", {"result_dtype": "fp8_e4m3"})
    with pytest.raises(WorkloadError) as found:
        simulate("ascend-910b", workload, "vector(codes=int8)")
    assert str(found.value).endswith(
        "found result_dtype = fp8_e4m3 beside codes = int8, allowed: one of both"
    )
