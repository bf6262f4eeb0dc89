"""What is computed before the run: codes and scales of weights, and rows of numbers per chunk."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.jit import jit
from accelsim.quantization.channel_groups import ChannelGroups, Span
from accelsim.quantization.codes import Codes, Quantized, Values, check_finite, reciprocal
from accelsim.quantization.schemes import per_column, per_tensor
from accelsim.workload.tensors import GemmTensors

Starts = NDArray[np.int64]
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


class Order(NamedTuple):
    """Input channels by group, panel by panel."""

    channels: NDArray[np.int32]
    """[chunks, k]; within a panel counted from its first channel."""
    starts: Starts
    """[chunks x panels x (groups + 1)]: where each group starts in its panel, and the end."""


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


def ordered(group: NDArray[Any], groups: int, tile_k: int) -> Order:
    """Return the channels of group [chunks, k] by group, within panels of tile_k channels."""
    channels, starts = np.empty(group.shape, np.int32), []
    for chunk, own in enumerate(group):
        for first in range(0, len(own), tile_k):
            panel = own[first : first + tile_k]
            order = np.argsort(panel, kind="stable")
            channels[chunk, first : first + tile_k] = order
            starts.append(np.searchsorted(panel[order], np.arange(groups + 1)))
    return Order(channels, np.concatenate(starts).astype(np.int64))


def even_groups(groups: int, k: int) -> NDArray[np.int64]:
    """Return a group for every channel [1, k], equally many in each: what stands for no numbers."""
    return (np.arange(k) * groups // k)[None]


def row_tiles(spans: Sequence[Span], tile_rows: int) -> NDArray[np.int64]:
    """Return (chunk, first row, rows) of every tile; none reaches into the next chunk."""
    return np.array(
        [
            (chunk, row, min(tile_rows, stop - row))
            for chunk, start, stop in spans
            for row in range(start, stop, tile_rows)
        ]
    )


def column_tiles(codes: Codes, tile_n: int) -> Codes:
    """Return codes [k, n] as they lie in HBM: column tile after column tile, the last one padded.

    [tiles x k, tile_n], so that a panel of a tile is one run of bytes.
    """
    k, n = codes.shape
    tiles = -(-n // tile_n)
    padded = np.pad(codes, ((0, 0), (0, tiles * tile_n - n)))
    by_tile = padded.reshape(k, tiles, tile_n).transpose(1, 0, 2)
    return np.ascontiguousarray(by_tile.reshape(tiles * k, tile_n))
