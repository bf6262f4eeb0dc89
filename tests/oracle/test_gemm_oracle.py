"""The gemm kernel against float64 and int64 matrix products, over any shape, format and tile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.errors import DoesNotFitError
from accelsim.kernels.linear.gemm import Gemm
from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import round_array
from accelsim.program.verifier import verify
from accelsim.workload.problem import FLOAT_FORMATS, GemmProblem
from accelsim.workload.tensors import GemmTensors
from tests.oracle.bounds import gemm_bound
from tests.oracle.machines import any_format_machine

INTEGERS = (Format.INT8, Format.INT4)
sizes = st.integers(1, 40)
seeds = st.integers(0, 2**32)


@st.composite
def tilings(draw, *, even=False):
    """Tile sizes, each chosen by the kernel or given; packed 4-bit columns need even ones."""
    tile = st.none() | (st.integers(1, 24).map(lambda x: 2 * x) if even else st.integers(1, 48))
    return {name: draw(tile) for name in ("tile_m", "tile_n", "tile_k")}


def multiply(problem, tensors, **parameters):
    program, output = Gemm.record(
        problem, any_format_machine(), Gemm.parameters(**parameters), tensors
    )
    verify(program)
    return output


def problem_of(m, n, k, dtype):
    return GemmProblem(kind="gemm", name="drawn", m=m, n=n, k=k, dtype=dtype)


def normal_tensors(problem, seed):
    rng = np.random.default_rng(seed)
    return GemmTensors(
        *(
            round_array(rng.standard_normal(shape), problem.dtype)
            for shape in problem.input_shapes.values()
        )
    )


def integer_tensors(problem, seed):
    """Codes over the whole range of the format, the most negative one included."""
    rng = np.random.default_rng(seed)
    low = -(2 ** (problem.dtype.bits - 1))
    shapes = problem.input_shapes.values()
    return GemmTensors(*(rng.integers(low, -low, shape, dtype=np.int32) for shape in shapes))


def exact(tensors):
    return tensors.a.astype(np.int64) @ tensors.b.astype(np.int64)


@settings(max_examples=200)
@given(
    sizes,
    sizes,
    sizes,
    st.sampled_from(FLOAT_FORMATS),
    st.none() | st.sampled_from(FLOAT_FORMATS),
    tilings(),
    seeds,
)
def test_float_products_are_within_rounding(m, n, k, dtype, output_format, tiling, seed):
    problem = problem_of(m, n, k, dtype)
    tensors = normal_tensors(problem, seed)
    output = multiply(problem, tensors, output_format=output_format, **tiling)
    bound = gemm_bound(tensors.a, tensors.b, dtype, output_format or problem.output_dtype)
    assert (np.abs(output - Gemm.oracle(problem, tensors)) <= bound).all()


@settings(max_examples=200)
@given(sizes, sizes, sizes, st.sampled_from(INTEGERS), tilings(even=True), seeds)
def test_integer_products_are_exact(m, n, k, dtype, tiling, seed):
    problem = problem_of(m, n, k, dtype)
    tensors = integer_tensors(problem, seed)
    output = multiply(problem, tensors, **tiling)
    assert output.dtype == np.int32
    np.testing.assert_array_equal(output, exact(tensors))


@settings(max_examples=60)
@given(sizes, sizes, sizes, st.sampled_from(INTEGERS), st.sampled_from(INTEGERS), seeds)
def test_integer_outputs_saturate(m, n, k, dtype, output_format, seed):
    problem = problem_of(m, n, k, dtype)
    tensors = integer_tensors(problem, seed)
    output = multiply(problem, tensors, output_format=output_format)
    largest = 2 ** (output_format.bits - 1)
    np.testing.assert_array_equal(output, np.clip(exact(tensors), -largest, largest - 1))


@settings(max_examples=60)
@given(sizes, sizes, sizes, st.sampled_from([Format.FP16, Format.FP32]), seeds)
def test_integer_sums_are_rounded_once_to_float_outputs(m, n, k, output_format, seed):
    problem = problem_of(m, n, k, Format.INT8)
    tensors = integer_tensors(problem, seed)
    output = multiply(problem, tensors, output_format=output_format)
    # Sums of 40 products of INT8 stay below 2^20, so that FP32 holds them.
    with np.errstate(over="ignore"):
        expected = exact(tensors).astype(np.float16 if output_format == "fp16" else np.float32)
    np.testing.assert_array_equal(output, expected.astype(np.float32))


@settings(max_examples=60)
@given(sizes, sizes, sizes, st.sampled_from([*INTEGERS, Format.INT32]), seeds)
def test_float_sums_are_rounded_to_the_nearest_integer(m, n, k, output_format, seed):
    problem = problem_of(m, n, k, Format.FP16)
    rng = np.random.default_rng(seed)
    # Multiples of 1/2 and small integers: products and sums are exact, ties included.
    a = rng.integers(-5, 6, (m, k)).astype(np.float32) / 2
    b = rng.integers(-5, 6, (k, n)).astype(np.float32)
    output = multiply(problem, GemmTensors(a, b), output_format=output_format)
    largest = 2.0 ** (output_format.bits - 1)
    expected = np.clip(np.rint(a.astype(np.float64) @ b), -largest, largest - 1)
    np.testing.assert_array_equal(output, expected)


def test_all_int8_extremes_fill_the_accumulator():
    k = 2**17 - 1  # 2^14 x (2^17 - 1) is the last sum below 2^31
    problem = problem_of(1, 2, k, Format.INT8)
    tensors = GemmTensors(np.full((1, k), -128, np.int32), np.full((k, 2), -128, np.int32))
    np.testing.assert_array_equal(multiply(problem, tensors), 2**14 * k)


@pytest.mark.parametrize(("dtype", "k", "worst"), [("int8", 2**17, 2**31), ("int4", 2**25, 2**31)])
def test_a_sum_that_could_overflow_is_refused(dtype, k, worst):
    problem = problem_of(1, 1, k, Format(dtype))
    with pytest.raises(DoesNotFitError) as refusal:
        multiply(problem, None)
    assert str(refusal.value) == (
        f"gemm on drawn: sums over k = {k} products of {dtype} can reach {worst}, "
        "more than a 32-bit accumulator holds"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row(value):
    problem = problem_of(9, 7, 5, Format.FP16)
    tensors = normal_tensors(problem, seed=1)
    tensors.a[4, 2] = value
    output = multiply(problem, tensors)
    np.testing.assert_array_equal(np.isfinite(output).all(axis=1), np.arange(9) != 4)
    assert not np.isfinite(output[4]).any()


def test_sums_beyond_fp16_become_infinite():
    problem = problem_of(2, 3, 4, Format.FP16)
    tensors = GemmTensors(np.full((2, 4), 200, np.float32), np.full((4, 3), 100, np.float32))
    assert (multiply(problem, tensors) == np.inf).all()
    np.testing.assert_array_equal(multiply(problem, tensors, output_format="fp32"), 80000)


@pytest.mark.parametrize(
    ("given_tile", "key", "value"), [({"tile_k": 3}, "tile_k", 3), ({"tile_n": 5}, "tile_n", 5)]
)
def test_a_tile_that_splits_a_byte_is_refused(given_tile, key, value):
    problem = problem_of(8, 8, 8, Format.INT4)
    with pytest.raises(DoesNotFitError) as refusal:
        multiply(problem, None, **given_tile)
    assert str(refusal.value) == (
        f"gemm on drawn: found {key} = {value}, but elements of 4 bits are packed 2 to a byte; "
        "allowed: multiples of 2"
    )
