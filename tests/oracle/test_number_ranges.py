"""Formats inside kernels: no step has a smaller range than the problem, and FP8 saturates.

A model that is served in BF16 may have scores far beyond FP16. Of the cases here one has raw scores
of -245,000, as reported of a model with a massive channel, and one has scores of 1e30.
"""

import ml_dtypes
import numpy as np
import pytest

from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format, common_format
from accelsim.numerics.metrics import compare
from accelsim.numerics.rounding import round_array
from accelsim.program.verifier import verify
from accelsim.workload.problem import FLOAT_FORMATS, AttentionProblem, GemmProblem
from accelsim.workload.tensors import AttentionTensors, GemmTensors
from tests.oracle.bounds import gemm_bound
from tests.oracle.machines import any_format_machine

ALL_BLOCKS = {"block": 64, "select": "threshold", "threshold": 0.0}
KERNELS = {
    "flash": ("flash", {}),
    "flash in turns": ("flash", {"query_tiles": 2, "tile_q": 2, "tile_k": 64}),
    "dense": ("dense", {}),
    "split_kv": ("split_kv", {"splits": 3}),
    "window": ("window", {"window": 300}),
    "topk": ("topk", {"kept": 0.5}),
    "quest": ("quest", {"kept": 0.8}),
    "sift": ("sift", {"rule": "given", "c": 1e-4}),
    "pooled": ("sparse", {"mask": "pooled", **ALL_BLOCKS}),
    "antidiagonal": ("sparse", {"mask": "antidiagonal", **ALL_BLOCKS}),
    "indexer": ("sparse", {"mask": "indexer", **ALL_BLOCKS}),
    "pasa": ("pasa", {}),
    "pasa by query tile": ("pasa", {"shift": "per_query_tile", "tile_k": 64}),
    "centered": ("centered", {}),
}
"""Every kernel of floating-point attention, with choices that leave out nothing that counts: the
scores of these problems are so far apart that only the largest ones do."""


def problem_of(dtype, kernel, **sizes):
    """Four query rows a head: steps of a generation for kernels of one new token."""
    rows = {"q_len": 4} if get_kernel(kernel).query_rows == "any" else {"q_len": 1, "steps": 4}
    defaults = {"q_heads": 8, "kv_heads": 2, "head_dim": 128, "kv_len": 300, **rows}
    return AttentionProblem(
        kind="attention", name="wide", causal=True, dtype=dtype, **(defaults | sizes)
    )


def rounded(problem, q, k, v):
    return AttentionTensors(*(round_array(each, problem.dtype) for each in (q, k, v)))


def massive(problem):
    """Queries and keys that share one channel, where they are 448 and about -544."""
    rng = np.random.default_rng(11)
    q, k, v = (rng.standard_normal(shape) for shape in problem.input_shapes.values())
    q[:, :, 5] = 448
    k[:, :, 5] = rng.uniform(-548, -540, k.shape[:2])
    return rounded(problem, q, k, v)


def attend(kernel, problem, tensors, machine, **parameters):
    chosen = get_kernel(kernel)
    program, output = chosen.record(problem, machine, chosen.parameters(**parameters), tensors)
    verify(program)
    return program, output


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("machine", ["ascend-910b-no-l2", "h200-sxm"])
def test_a_massive_channel_leaves_the_output_right(machine, dtype, name):
    kernel, parameters = KERNELS[name]
    problem = problem_of(dtype, kernel)
    tensors = massive(problem)
    _, output = attend(kernel, problem, tensors, load_machine(machine), **parameters)
    found = compare(output, softmax_attention(problem, tensors))
    assert found.nonfinite_fraction == 0
    # BF16 rounds weights and output by up to 2^-8 each: deviations of 2^-8 / sqrt(3) at most, or
    # 3.2e-3 together. FP32 sums of 2.5e5 are rounded in steps of 2^-6: 122 errors of up to 2^-7
    # leave a deviation of 0.05 in a raw score and of 0.0045 in an exponent, of which all weights
    # share a part. PASA multiplies what means of rows lost by beta / (1 - beta) = 15: 15 x 2e-3.
    assert found.relative_rmse < (3e-2 if kernel == "pasa" else 5e-3)


@pytest.mark.parametrize("name", [name for name in KERNELS if not name.startswith("pasa")])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_scores_of_1e30_pick_the_right_value(dtype, name):
    kernel, parameters = KERNELS[name]
    problem = problem_of(dtype, kernel, head_dim=16)
    rng = np.random.default_rng(12)
    q, k, v = (rng.standard_normal(shape) for shape in problem.input_shapes.values())
    tensors = rounded(problem, 1e15 * q, 1e15 * k, v)
    _, output = attend(kernel, problem, tensors, any_format_machine(), **parameters)
    # Scores are 1e28 apart, so that every weight is 0 or 1.
    np.testing.assert_array_equal(output, softmax_attention(problem, tensors).astype(np.float32))


@pytest.mark.parametrize("dtype", ["fp8_e4m3", "fp8_e5m2"])
@pytest.mark.parametrize("name", KERNELS)
def test_fp8_operands_that_fill_their_range_give_a_finite_output_in_bf16(name, dtype):
    kernel, parameters = KERNELS[name]
    problem = problem_of(dtype, kernel)
    rng = np.random.default_rng(13)
    q, k, v = (rng.standard_normal(shape) for shape in problem.input_shapes.values())
    # Operands are scaled so that their largest value is the largest of E4M3: scores reach 1e6.
    q, k = (448 * each / np.abs(each).max() for each in (q, k))
    tensors = rounded(problem, q, k, v)
    program, output = attend(kernel, problem, tensors, any_format_machine(), **parameters)
    (stored,) = (tensor for tensor in program.tensors if tensor.name == "o")
    assert stored.size_bytes == 2 * output.size
    np.testing.assert_array_equal(output, round_array(output, Format.BF16))
    found = compare(output, softmax_attention(problem, tensors))
    assert found.nonfinite_fraction == 0
    assert found.relative_rmse < 2 * 2**-8


def test_a_scaled_query_has_the_range_of_its_format():
    problem = problem_of("bf16", "flash")
    tensors, machine = massive(problem), any_format_machine()
    _, output = attend("flash", problem, tensors, machine, scale_at="query")
    found = compare(output, softmax_attention(problem, tensors))
    # The scaled query is rounded to BF16 once more: a weight whose score is 1 below the largest
    # moves by up to 2^-8.
    assert found.nonfinite_fraction == 0
    assert found.relative_rmse < 1e-2


@pytest.mark.parametrize("precision", ["fp16_fp32", "fp16"])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_a_precision_that_is_asked_for_is_obeyed(dtype, precision):
    problem = problem_of(dtype, "flash")
    tensors, machine = massive(problem), any_format_machine()
    _, output = attend("flash", problem, tensors, machine, precision=precision)
    assert np.isnan(output).all()


@pytest.mark.parametrize("stored", FLOAT_FORMATS)
def test_the_default_precision_is_what_the_format_calls_for(stored):
    expected = {"fp16": "fp16_fp32", "fp32": "fp32"}.get(stored, "fp32_scores")
    assert step_formats(stored, None) == step_formats(stored, expected)


def test_the_scheme_of_flash_attention_2():
    formats = step_formats(Format.BF16, "fp32_scores")
    assert (formats.scores, formats.vector) == (Format.FP32, Format.FP32)
    assert formats.weights == formats.output == formats.output_operand == Format.BF16


@pytest.mark.parametrize(
    ("a", "b", "common"),
    [
        ("fp8_e4m3", "bf16", "bf16"),
        ("fp16", "fp8_e5m2", "fp16"),
        ("fp8_e5m2", "fp8_e4m3", "fp16"),
        ("bf16", "fp16", "fp32"),
        ("fp32", "fp8_e4m3", "fp32"),
        ("bf16", "bf16", "bf16"),
    ],
)
def test_the_cube_multiplies_in_a_format_that_holds_both_operands(a, b, common):
    assert common_format(Format(a), Format(b)) == common
    assert common_format(Format(b), Format(a)) == common


def scaled_product():
    """The FP8 product of a linear whose operands are scaled to the largest value of E4M3."""
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((64, 256)), rng.standard_normal((256, 64))
    a[:, 3] *= 40
    scaled = (round_array(448 * each / np.abs(each).max(), Format.FP8_E4M3) for each in (a, b))
    problem = GemmProblem(kind="gemm", name="fp8", m=64, n=64, k=256, dtype="fp8_e4m3")
    return problem, GemmTensors(*scaled)


def test_a_product_of_fp8_is_stored_in_bf16():
    problem, tensors = scaled_product()
    gemm = get_kernel("gemm")
    program, c = gemm.record(problem, load_machine("h200-sxm"), gemm.parameters(), tensors)
    exact = gemm.oracle(problem, tensors)
    assert program.tensors[2].size_bytes == problem.tensor_bytes["c"] == 64 * 64 * 2
    assert (np.abs(c - exact) <= gemm_bound(*tensors[:2], problem.dtype, Format.BF16)).all()


@pytest.mark.parametrize(
    ("output_format", "dtype", "largest"),
    [
        ("fp8_e4m3", ml_dtypes.float8_e4m3fn, 448),
        ("fp8_e5m2", ml_dtypes.float8_e5m2, 57344),
    ],
)
def test_sums_beyond_fp8_saturate(output_format, dtype, largest):
    problem, tensors = scaled_product()
    gemm, machine = get_kernel("gemm"), load_machine("h200-sxm")
    _, wide = gemm.record(problem, machine, gemm.parameters(output_format="fp32"), tensors)
    _, c = gemm.record(problem, machine, gemm.parameters(output_format=output_format), tensors)
    assert np.abs(wide).max() > largest
    expected = np.clip(wide, -largest, largest).astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(c, expected)


def test_a_quantized_linear_of_fp8_is_stored_in_bf16():
    problem = GemmProblem(kind="gemm", name="fp8", m=8, n=8, k=64, dtype="fp8_e4m3")
    chosen, machine = get_kernel("quantized"), load_machine("tender-asic")
    program, _ = chosen.record(problem, machine, chosen.parameters(), None)
    (stored,) = (tensor for tensor in program.tensors if tensor.role == "output")
    assert stored.size_bytes == 8 * 8 * 2
