"""Flash attention in FP16 against a second program, step by step and bit for bit.

The emulation knows nothing of the kernel language: NumPy's own float16, one element after the
other, in the order that the kernel's docstrings state.
"""

import math

import numpy as np
import pytest

from accelsim.kernels.attention.flash.flash import Flash
from accelsim.workload.problem import AttentionProblem
from tests.oracle.machines import any_format_machine
from tests.oracle.test_attention_oracle import normal_tensors

HALF, SINGLE = np.float16, np.float32


def dot_in_order(left, right):
    """Sum of products, every partial sum rounded to FP32."""
    total = SINGLE(0)
    for a, b in zip(left, right, strict=True):
        total = total + SINGLE(a) * SINGLE(b)
    return total


def sum_by_halving(values):
    """FP16 sum: the second half is added to the first until one is left."""
    values = list(values)
    while len(values) > 1:
        half = (len(values) + 1) // 2
        for i in range(half, len(values)):
            values[i - half] = values[i - half] + values[i]
        del values[half:]
    return values[0]


def half_exp(x):
    return HALF(SINGLE(math.exp(float(x))))


def flash_row(query, keys, values, tile_k, visible, scale_query):
    """One row of the output in FP16; `visible` keys are seen."""
    dim = len(query)
    factor = HALF(1 / math.sqrt(dim))
    if scale_query:
        query = query * factor
    largest, total, output = HALF(-np.inf), HALF(0), np.zeros(dim, HALF)
    for start in range(0, visible, tile_k):
        stop = min(start + tile_k, len(keys))
        scores = [HALF(dot_in_order(query, key)) for key in keys[start:stop]]
        if not scale_query:
            scores = [score * factor for score in scores]
        scores = [score if start + i < visible else HALF(-np.inf) for i, score in enumerate(scores)]
        new_largest = max(largest, *scores)
        rescale = half_exp(largest - new_largest)
        weights = [half_exp(score - new_largest) for score in scores]
        total = total * rescale + sum_by_halving(weights)
        product = [HALF(dot_in_order(weights, column)) for column in values[start:stop].T]
        output = output * rescale + np.array(product, HALF)
        largest = new_largest
    return output / total


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale_at", ["scores", "query"])
@pytest.mark.parametrize("head_dim", [16, 24])  # 1 / sqrt(24) is not an FP16 number
def test_every_bit_of_fp16_flash_is_as_specified(causal, scale_at, head_dim):
    problem = AttentionProblem(
        kind="attention",
        name="p",
        q_heads=2,
        kv_heads=1,
        head_dim=head_dim,
        q_len=11,
        kv_len=29,
        causal=causal,
    )
    tensors = normal_tensors(problem, seed=20, amplitude=2)
    parameters = Flash.parameters(tile_q=4, tile_k=8, precision="fp16", scale_at=scale_at)
    _, output = Flash.record(problem, any_format_machine(), parameters, tensors)
    keys, values = tensors.k[0].astype(HALF), tensors.v[0].astype(HALF)
    expected = [
        flash_row(
            query,
            keys,
            values,
            tile_k=8,
            # Keys hidden from all rows of a query tile are never read; others weigh 0.
            visible=row + 1 + 29 - 11 if causal else 29,
            scale_query=scale_at == "query",
        )
        for head in tensors.q.astype(HALF)
        for row, query in enumerate(head)
    ]
    np.testing.assert_array_equal(output, np.array(expected, SINGLE))
