"""Kernels in a network whose linears read codes: what is rounded, and who stores what."""

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.errors import WorkloadError
from accelsim.library.kernels import Kernels
from accelsim.numerics.formats import Format
from accelsim.quality.attention import KernelAttention
from accelsim.quality.evaluate import evaluate
from accelsim.quality.linear import KernelLinear
from accelsim.quality.passages import Reading
from accelsim.quantization.coded_rows import coded_runs
from accelsim.workload.model.language import load_model

MACHINE = "tender-asic"
HEADS, DIM, TOKENS = 4, 8, 6
HIDDEN = HEADS * DIM
ROWS = np.random.default_rng(0).normal(0, 1, (TOKENS, HIDDEN)).astype(np.float32)
WEIGHT = np.random.default_rng(1).normal(0, 0.1, (20, HIDDEN)).astype(np.float32)


def linear(recipe, dtype=Format.FP32):
    return KernelLinear(Bench.prepare(MACHINE, recipe), dtype, "smollm2", DIM)


@pytest.mark.parametrize("kernel", ["tender", "quantized"])
def test_with_fp32_in_hbm_codes_of_a_producer_change_nothing(kernel):
    here, before = (linear(f"{kernel}(input={each})") for each in ("float", "quantized"))
    np.testing.assert_array_equal(before(0, "up", ROWS, WEIGHT), here(0, "up", ROWS, WEIGHT))


def test_a_producer_codes_values_that_were_not_rounded():
    """A value right above a tie has another code than the number of FP16 next to it, the tie."""
    tie = np.float32(32.5 + 2**-10)
    x = np.array([[127.0, tie]], np.float32)
    weight = np.eye(2, dtype=np.float32)
    rounded, exact = (
        linear(f"quantized(input={each})", Format.FP16)(0, "up", x, weight)[0, 1]
        for each in ("float", "quantized")
    )
    # In FP16 it is 32.5, which is rounded to the even code.
    assert (rounded, exact) == (32, 33)


def test_what_attention_makes_has_a_scale_for_each_head():
    of_heads, of_rows = linear("tender(input=quantized)"), linear("tender(input=quantized)")
    of_heads(0, "o", ROWS, WEIGHT)
    of_rows(0, "down", ROWS, WEIGHT)
    assert of_heads.reports[0].recipe == f"tender(input=quantized, input_run={DIM})"
    assert of_rows.reports[0].recipe == "tender(input=quantized)"


def test_attention_stores_what_the_linear_behind_it_reads():
    q, k, v = np.random.default_rng(2).normal(0, 1, (3, HEADS, TOKENS, DIM)).astype(np.float32)
    bench, reader = (
        Bench.prepare(MACHINE, each) for each in ("int_flash", "quantized(input=quantized)")
    )
    plain = KernelAttention(bench, Format.FP32, "smollm2")
    coded = KernelAttention(bench, Format.FP32, "smollm2", reader)
    values = plain(0, q, k, v).reshape(-1, DIM)
    expected = coded_runs(values, DIM).values.astype(np.float32)
    np.testing.assert_array_equal(coded(0, q, k, v).reshape(-1, DIM), expected)
    assert coded.reports[0].recipe == "int_flash(codes=int8)"
    assert plain.reports[0].recipe == "int_flash"


def test_attention_that_stores_no_codes_is_refused():
    bench = Bench.prepare("ascend-910b", "dense")
    reader = Bench.prepare("ascend-910b", "quantized(input=quantized)")
    attention = KernelAttention(bench, Format.FP16, "smollm2", reader)
    ones = np.ones((2, 3, 8), np.float32)
    with pytest.raises(WorkloadError, match="reads codes of layer 0, but kernel dense"):
        attention(0, ones, ones, ones)


def test_a_model_is_read_with_codes_between_its_kernels(installed, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("hello world, hello 2000 worlds")
    asked = (None, MACHINE, Reading(path, tokens=6))
    fused, plain = (
        evaluate(installed, Kernels("int_flash", recipe), *asked)
        for recipe in ("quantized(input=quantized)", "quantized")
    )
    assert load_model(installed).weights.config.layers == 2
    assert fused.linears.hbm_bytes_by_tensor.keys() >= {"x_codes", "x_scale", "aligned_codes"}
    assert "x" not in fused.linears.hbm_bytes_by_tensor
    assert fused.linears.hbm_read_bytes < plain.linears.hbm_read_bytes
    assert fused.linears.hbm_write_bytes < plain.linears.hbm_write_bytes
    assert fused.attention.hbm_write_bytes < plain.attention.hbm_write_bytes
    assert fused.nonfinite_outputs == 0
