"""What is computed before the run: codes and scales of weights, and rows of numbers per chunk."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.jit import jit
from accelsim.quantization.channel_groups import ChannelGroups
from accelsim.quantization.codes import (
    Codes,
    Quantized,
    Scales,
    Values,
    check_finite,
    encode,
    reciprocal,
)
from accelsim.quantization.schemes import per_column, per_row, per_tensor
from accelsim.workload.tensors import GemmTensors

Doubles = NDArray[np.float64]


class Activations(NamedTuple):
    """Static quantization of X: codes are (x - bias) times reciprocal."""

    bias: Values | None
    """[chunks, k]; None: nothing is subtracted."""
    reciprocal: Values
    """One over the step of every channel [chunks, k]."""


class Epilogue(NamedTuple):
    """What turns sums of codes into values: sums times scale, plus bias."""

    scale: Values
    """[chunks, n]"""
    bias: Values | None
    """[chunks, n]; None: nothing is added."""


def quantized_weights(w: Values, bits: int, shared_by: str) -> Quantized:
    """Return the codes of w [k, n] with a scale for each column, or for all of it."""
    check_finite(w, "weights")
    return per_column(w, bits) if shared_by == "column" else per_tensor(w, bits)


def check_activations(tensors: GemmTensors) -> None:
    """Raise QuantizationError for activations that are not finite."""
    check_finite(tensors.a, "activations")


def grouped_activations(groups: ChannelGroups, chunks: int) -> Activations:
    """Return how X is quantized in channel groups, for the first chunks."""
    steps = np.stack([groups.channel_scales(chunk) for chunk in range(chunks)])
    bias = groups.bias[:chunks] if groups.options.use_bias else None
    return Activations(bias, reciprocal(steps))


def grouped_codes(x: Values, groups: ChannelGroups) -> Quantized:
    """Return the codes of X [m, k] as its producer stores them; the epilogue has their scales."""
    codes = [groups.encode(x, span) for span in groups.spans(len(x))]
    return Quantized(np.concatenate(codes), np.ones((1, 1)))


def static_codes(x: Values, bits: int, steps: Scales) -> Quantized:
    """Return the codes of X [m, k] in steps [1, k]; the epilogue has their scales."""
    return Quantized(encode(x, steps, bits), steps)


def dynamic_codes(x: Values, bits: int, is_by_row: bool) -> Quantized:
    """Return the codes of X [m, k] by the ranges found in it, with a scale for each row [m, 1]."""
    codes, scale = per_row(x, bits) if is_by_row else per_tensor(x, bits)
    return Quantized(codes, np.broadcast_to(scale, (len(x), 1)))


def grouped_epilogue(groups: ChannelGroups, w: Quantized, chunks: int) -> Epilogue:
    """Return what turns the sums of the last group into values.

    The bias is multiplied with the quantized weights: what was taken from X is to come back through
    the same weights.
    """
    last = groups.scale[:chunks, None] * 2.0 ** (1 - groups.options.groups)
    scale = (last * w.scale).astype(np.float32)
    if not groups.options.use_bias:
        return Epilogue(_rows(scale, w), None)
    products = row_products(groups.bias[:chunks].astype(np.float64), w.codes)
    return Epilogue(_rows(scale, w), (products * w.scale).astype(np.float32))


def column_epilogue(w: Quantized, step: float) -> Epilogue:
    """Return what turns sums into values where one step of X is worth `step` everywhere."""
    return Epilogue(_rows((step * w.scale).astype(np.float32), w), None)


def _rows(scale: Values, w: Quantized) -> Values:
    """Return one scale for every column of w [chunks, n]."""
    return np.ascontiguousarray(np.broadcast_to(scale, (len(scale), w.codes.shape[1])))


@jit
def row_products(rows: Doubles, codes: Codes) -> Doubles:
    """Return rows [r, k] times codes [k, n] in float64, summed in the order of k."""
    products = np.zeros((rows.shape[0], codes.shape[1]))
    for row in range(rows.shape[0]):
        for channel in range(codes.shape[0]):
            left = rows[row, channel]
            for col in range(codes.shape[1]):
                products[row, col] += left * codes[channel, col]
    return products


def column_tiles(codes: Codes, tile_n: int) -> Codes:
    """Return codes [k, n] as they lie in HBM: column tile after column tile, the last one padded.

    [tiles x k, tile_n], so that a panel of a tile is one run of bytes.
    """
    k, n = codes.shape
    tiles = -(-n // tile_n)
    padded = np.pad(codes, ((0, 0), (0, tiles * tile_n - n)))
    by_tile = padded.reshape(k, tiles, tile_n).transpose(1, 0, 2)
    return np.ascontiguousarray(by_tile.reshape(tiles * k, tile_n))
