"""Quantized linears stated in NumPy, step by step as a kernel rounds them."""

import numpy as np

from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import round_array
from accelsim.quantization.channel_groups import channel_groups
from accelsim.quantization.schemes import per_column, per_tensor
from accelsim.quantization.statements import grouped_product, shifted_sums
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors


def linear(m, n, k, seed, outliers=2, dtype=Format.FP16):
    """Return a problem and its tensors: channels of different spread and offset, some 60 times."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (m, k)) * np.exp(rng.normal(0, 0.6, k))
    x[:, rng.choice(k, min(outliers, k), replace=False)] *= 60
    x += rng.normal(0, 2, k)
    w = rng.normal(0, 0.05, (k, n))
    problem = GemmProblem(kind="gemm", name="drawn", m=m, n=n, k=k, dtype=dtype)
    return problem, GemmTensors(*(round_array(each, problem.dtype) for each in (x, w)))


def weights_of(tensors, bits, shared_by="column"):
    quantize = per_column if shared_by == "column" else per_tensor
    return quantize(tensors.b, bits)


def rows_scale(quantized, groups, chunk):
    """Return the scale of group 0 of every row in FP32 [rows, 1], where rows find their own."""
    return (quantized.scale[:, :1] * groups.channel_factors(chunk)[0]).astype(np.float32)


def scaled_sums(sums, x, groups, span, weights):
    """Return sums of the unit of the last group as values in FP32, as the epilogue scales them."""
    last, chunk = 2.0 ** (1 - groups.options.groups), span.chunk
    if groups.options.base == "static":
        return sums * (groups.scale[chunk] * last * weights.scale).astype(np.float32)
    values = sums * (last * weights.scale).astype(np.float32)
    return values * rows_scale(groups.quantize(x, span), groups, chunk)


def shifted_result(tensors, options, weights):
    """Return tender's Y bit by bit: exact sums, then FP32 for scale and bias, then FP16."""
    groups = channel_groups(tensors.a[None], options)
    parts = []
    for span in groups.spans(len(tensors.a)):
        group = groups.group[span.chunk]
        sums = shifted_sums(groups.encode(tensors.a, span), weights.codes, group, options.groups)
        values = scaled_sums(sums.astype(np.float32), tensors.a, groups, span, weights)
        parts.append(values + _bias_row(groups, span.chunk, weights))
    return np.concatenate(parts).astype(np.float16).astype(np.float32)


def _bias_row(groups, chunk, weights):
    """Return what brings the bias of a chunk back, through the quantized weights, in FP32."""
    products = np.zeros(weights.codes.shape[1])
    for channel, row in zip(groups.bias[chunk].astype(np.float64), weights.codes, strict=True):
        products += channel * row
    return (products * weights.scale[0]).astype(np.float32)


def exact_result(tensors, options, weights):
    """Return tender's Y in float64."""
    return grouped_product(tensors.a, weights, channel_groups(tensors.a[None], options))


def requantized_result(tensors, options, weights):
    """Return requantized's Y bit by bit, for one panel: groups scaled and added in FP32."""
    groups = channel_groups(tensors.a[None], options)
    parts = []
    for span in groups.spans(len(tensors.a)):
        codes, group = groups.encode(tensors.a, span), groups.group[span.chunk]
        total = np.zeros((span.stop - span.start, weights.codes.shape[1]), np.float32)
        for index in np.unique(group):
            members = group == index
            sums = codes[:, members] @ weights.codes[members]
            total += sums.astype(np.float32) * np.float32(2.0 ** (options.groups - 1 - index))
        values = scaled_sums(total, tensors.a, groups, span, weights)
        parts.append(values + _bias_row(groups, span.chunk, weights))
    return np.concatenate(parts).astype(np.float16).astype(np.float32)


def uniform_result(x, weights, is_found_in_run):
    """Return quantized's Y bit by bit, for codes X whose scales leave the sum.

    Scales known before the run are multiplied before it; those found in it are a factor of rows.
    """
    values = (x.codes @ weights.codes).astype(np.float32)
    if is_found_in_run:
        values *= weights.scale.astype(np.float32)
        values *= x.scale.astype(np.float32)
    else:
        values *= (x.scale * weights.scale).astype(np.float32)
    return values.astype(np.float16).astype(np.float32)


def channel_result(x, weights):
    """Return quantized's Y bit by bit, for X in codes with a scale per channel; one panel."""
    total = np.zeros((len(x.codes), weights.codes.shape[1]), np.float32)
    for channel, step in enumerate(x.scale[0].astype(np.float32)):
        products = np.outer(x.codes[:, channel], weights.codes[channel])
        total += products.astype(np.float32) * step
    return (total * weights.scale.astype(np.float32)).astype(np.float16).astype(np.float32)
