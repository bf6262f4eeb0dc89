"""The weight_only kernel against its statement in float64, over shapes, formats and tiles."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import DoesNotFitError, QuantizationError, WorkloadError
from accelsim.kernels.linear.gemm import Gemm
from accelsim.kernels.linear.weight_only import WeightOnly
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import round_array
from accelsim.program.ops import Op
from accelsim.quantization.schemes import per_row_group
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors
from tests.oracle.bounds import gemm_bound
from tests.oracle.machines import any_format_machine
from tests.oracle.recorded import moved_bytes, run

sizes = st.integers(1, 40)
evens = st.integers(1, 12).map(lambda half: 2 * half)


def problem_of(m, n, k, dtype="fp16"):
    return GemmProblem(kind="gemm", name="drawn", m=m, n=n, k=k, dtype=Format(dtype))


def tensors_of(problem, seed):
    rng = np.random.default_rng(seed)
    return GemmTensors(
        *(
            round_array(rng.standard_normal(shape), problem.dtype)
            for shape in problem.input_shapes.values()
        )
    )


def dequantized(weights, bits, group_rows, dtype):
    """Return what the cube multiplies: codes times scales, rounded to the format of A."""
    codes, scale = per_row_group(weights, bits, group_rows, dtype)
    return round_array(codes * scale, dtype)


@settings(max_examples=60)
@given(
    sizes,
    sizes,
    sizes,
    st.sampled_from(["fp32", "bf16", "fp16"]),
    st.sampled_from([4, 8]),
    st.integers(1, 50),
    st.tuples(st.none() | evens, st.none() | evens, st.none() | st.integers(1, 30)),
    st.integers(0, 2**32),
)
def test_the_product_is_that_of_the_dequantized_weights(m, n, k, dtype, bits, rows, tiles, seed):
    problem = problem_of(m, n, k, dtype)
    tensors = tensors_of(problem, seed)
    choices = dict(zip(("tile_m", "tile_n", "tile_k"), tiles, strict=True))
    _, output = run(
        "weight_only",
        problem,
        tensors,
        machine=any_format_machine(),
        bits=bits,
        group_rows=rows,
        **choices,
    )
    weights = dequantized(tensors.b, bits, rows, problem.dtype)
    bound = gemm_bound(tensors.a, weights, problem.dtype, problem.dtype)
    assert (np.abs(output - tensors.a.astype(np.float64) @ weights) <= bound).all()


@pytest.mark.parametrize(("bits", "relative"), [(4, 0.2), (8, 0.01)])
def test_no_weight_is_further_from_its_own_than_half_a_step(bits, relative):
    """With A = 1 the output is the weights; a scale in FP16 moves the ends by 2^-11 more."""
    problem = problem_of(64, 8, 64)
    tensors = tensors_of(problem, seed=0)._replace(a=np.eye(64, dtype=np.float32))
    _, output = run("weight_only", problem, tensors, bits=bits, group_rows=32)
    largest = 2 ** (bits - 1) - 1
    for start in (0, 32):
        rows = tensors.b[start : start + 32]
        step = np.abs(rows).max(0) / largest
        error = np.abs(output[start : start + 32] - rows)
        assert (error <= step / 2 + 2.0**-10 * np.abs(rows).max(0)).all()
        assert error.max() > relative * step.max()


def test_zero_columns_stay_zero():
    problem = problem_of(3, 4, 5)
    tensors = tensors_of(problem, seed=2)
    tensors.b[:, 1] = 0
    _, output = run("weight_only", problem, tensors)
    assert (output[:, 1] == 0).all()
    assert (output[:, [0, 2, 3]] != 0).all()


@settings(max_examples=40)
@given(
    *[st.integers(1, 150)] * 3,
    st.sampled_from([4, 8]),
    st.integers(1, 40),
    st.integers(1, 50),
    st.integers(1, 20).map(lambda half: 2 * half),
    st.integers(1, 4),
)
def test_traffic_is_the_closed_form(m, n, k, bits, rows, tile_m, tile_n, groups):
    problem = problem_of(m, n, k)
    choices = {"bits": bits, "group_rows": rows, "tile_m": tile_m, "tile_n": tile_n}
    choices["tile_k"] = groups * rows
    machine = load_machine(
        "ascend-910b-no-l2", {"scratchpad.capacity": "4 MiB", "accumulator.capacity": "1 MiB"}
    )
    program, _ = run("weight_only", problem, None, machine=machine, **choices)
    tiles_m, tiles_n = ceil(m / tile_m), ceil(n / tile_n)
    code_row = sum(ceil(min(tile_n, n - col) * bits / 8) for col in range(0, n, tile_n))
    assert moved_bytes(program, "a") == tiles_n * m * k * 2
    assert moved_bytes(program, "codes") == tiles_m * k * code_row
    assert moved_bytes(program, "scales") == tiles_m * ceil(k / rows) * n * 2
    assert moved_bytes(program, "c") == m * n * 2
    is_conversion = program.op_codes == Op.CONVERT
    assert (program.ops[is_conversion, 3] * program.ops[is_conversion, 4]).sum() == tiles_m * k * n


@pytest.mark.parametrize("m", [1, 16])
def test_decode_moves_a_quarter_of_the_weights(m):
    problem = problem_of(m, 1024, 1024)
    packed, _ = run("weight_only", problem, None)
    plain, _ = run("gemm", problem, None)
    assert moved_bytes(plain, "b") == 1024 * 1024 * 2
    assert moved_bytes(packed, "codes") == 1024 * 1024 // 2
    assert moved_bytes(packed, "scales") == 8 * 1024 * 2


def test_the_oracle_knows_the_weights_before_quantization():
    problem = problem_of(4, 5, 6)
    tensors = tensors_of(problem, seed=3)
    np.testing.assert_array_equal(
        WeightOnly.oracle(problem, tensors), Gemm.oracle(problem, tensors)
    )


def test_integers_are_refused():
    with pytest.raises(WorkloadError) as refusal:
        run("weight_only", problem_of(4, 4, 4, "int8"), None)
    assert str(refusal.value) == (
        "weight_only on drawn: found dtype = int8, allowed: fp32, bf16, fp16"
    )


def test_a_tile_that_splits_a_byte_is_refused():
    with pytest.raises(DoesNotFitError, match="found tile_n = 3, but elements of 4 bits"):
        run("weight_only", problem_of(4, 8, 4), None, tile_n=3)
    run("weight_only", problem_of(4, 8, 4), None, tile_n=3, bits=8)


def test_a_machine_without_a_cube_is_refused():
    with pytest.raises(DoesNotFitError, match="machine tender-asic has no cube, which weight_only"):
        run("weight_only", problem_of(4, 4, 4), None, machine=load_machine("tender-asic"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    problem = problem_of(2, 3, 4)
    tensors = tensors_of(problem, seed=1)
    tensors.b[1, 1] = value
    with pytest.raises(QuantizationError) as refusal:
        run("weight_only", problem, tensors)
    assert str(refusal.value) == (
        "weight_only on drawn: weights: found 1 of 12 infinite or NaN, allowed: finite numbers"
    )
