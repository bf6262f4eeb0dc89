"""A kernel inside the network against the network without it."""

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.library.recipe import Recipe
from accelsim.numerics.formats import Format
from accelsim.quality.attention import KernelAttention
from accelsim.workload.model.forward import Hooks, hidden_states, token_losses
from accelsim.workload.model.language import load_model
from tests.unit.quality.decoding import decoded_states

IDS = [5, 17, 200, 3, 3, 90, 41]
FLOAT32_STEPS = 2e-5
"""Bound of the forward pass against its float64 oracle (test_forward); both sides round here."""


def exact(**parameters):
    """Flash attention with every step in FP32."""
    recipe = Recipe("flash", precision="fp32", **parameters)
    return KernelAttention(Bench.prepare("edge-npu", recipe), Format.FP32)


@pytest.fixture
def weights(installed):
    return load_model(installed).weights


def test_an_exact_kernel_changes_nothing_but_the_rounding(weights):
    attention = exact()
    found = token_losses(weights, IDS, Hooks(attention=attention))
    np.testing.assert_allclose(found, token_losses(weights, IDS), atol=FLOAT32_STEPS)
    assert [report.workload for report in attention.reports] == ["layer 0", "layer 1"]
    assert attention.rows == [6, 6]
    assert attention.nonfinite_outputs == 0


@pytest.mark.parametrize("parameters", [{}, {"tile_q": 2, "tile_k": 3}])
def test_decode_steps_equal_prefill(weights, parameters):
    attention = exact(**parameters)
    prefill = hidden_states(weights, IDS, Hooks(attention=exact(**parameters)))
    found = decoded_states(weights, IDS, attention)
    np.testing.assert_allclose(found, prefill, atol=FLOAT32_STEPS)
    np.testing.assert_allclose(found, hidden_states(weights, IDS), atol=FLOAT32_STEPS)
    assert attention.rows == [1] * (2 * len(IDS))


def test_operands_are_rounded_to_the_format_of_the_memory(weights):
    stored = {}
    for dtype in (Format.FP32, Format.FP16, Format.BF16):
        run = Bench.prepare("ascend-910b-no-l2", "flash(precision=fp32)")
        hooks = Hooks(attention=KernelAttention(run, dtype))
        change = hidden_states(weights, IDS, hooks) - hidden_states(weights, IDS)
        stored[dtype] = np.abs(change).max()
    assert stored[Format.FP32] < FLOAT32_STEPS < stored[Format.FP16] < stored[Format.BF16]


def test_outputs_that_are_not_finite_are_counted():
    run = Bench.prepare("edge-npu", "flash(precision=fp32)")
    attention = KernelAttention(run, Format.FP32)
    q, k, v = (np.ones((heads, 3, 16), np.float32) for heads in (2, 1, 1))
    q[1, 2, 5] = np.inf
    output = attention(0, q, k, v)
    # Every score of this row is infinite, and so is their maximum: inf - inf is NaN.
    assert attention.nonfinite_outputs == 16
    assert np.isnan(output[1, 2]).all()
