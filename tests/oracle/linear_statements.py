"""Quantized linears stated in NumPy, step by step as a kernel rounds them."""

import numpy as np

from accelsim.numerics.rounding import round_array
from accelsim.quantization.channel_groups import channel_groups
from accelsim.quantization.schemes import per_column, per_tensor
from accelsim.quantization.statements import grouped_product, shifted_sums
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


def linear(m, n, k, seed, outliers=2, magnitude=60.0):
    """Return a problem and its FP16 tensors, with channels of outliers and of their own offset.

    The family of algorithms.md's error table: channels of different spread, some far larger.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (m, k)) * np.exp(rng.normal(0, 0.6, k))
    x[:, rng.choice(k, min(outliers, k), replace=False)] *= magnitude
    x += rng.normal(0, 2, k)
    w = rng.normal(0, 0.05, (k, n))
    problem = GemmProblem(kind="gemm", name="drawn", m=m, n=n, k=k)
    return problem, GemmTensors(*(round_array(each, problem.dtype) for each in (x, w)))


def weights_of(tensors, bits, shared_by="column"):
    quantize = per_column if shared_by == "column" else per_tensor
    return quantize(tensors.b, bits)


def shifted_result(tensors, options, weights):
    """Return tender's Y bit by bit: exact sums, then FP32 for scale and bias, then FP16."""
    groups = channel_groups(tensors.a[None], options)
    parts = []
    for span in groups.spans(len(tensors.a)):
        group = groups.group[span.chunk]
        sums = shifted_sums(groups.encode(tensors.a, span), weights.codes, group, options.groups)
        last = groups.scale[span.chunk] * 2.0 ** (1 - options.groups)
        values = sums.astype(np.float32) * (last * weights.scale).astype(np.float32)
        if options.use_bias:
            bias = groups.bias[span.chunk].astype(np.float64)
            products = np.zeros(weights.codes.shape[1])
            for channel, row in zip(bias, weights.codes, strict=True):
                products += channel * row
            values += (products * weights.scale[0]).astype(np.float32)
        parts.append(values)
    return np.concatenate(parts).astype(np.float16).astype(np.float32)


def exact_result(tensors, options, weights):
    """Return tender's Y in float64."""
    return grouped_product(tensors.a, weights, channel_groups(tensors.a[None], options))
