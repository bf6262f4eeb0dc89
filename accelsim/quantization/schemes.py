"""The quantizers that several schemes share, for activations x [rows, k] and weights w [k, n].

Schemes are named by what shares a scale: tensor, row, column, rows of a column, block; channel
groups (Tender) have a module of their own. Static schemes take peaks that a calibration has seen;
without them the peaks are those of the values at hand, which a machine must find first (dynamic).
"""

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import Blocks, encode_blocks
from accelsim.numerics.formats import Format
from accelsim.quantization.codes import (
    SMALLEST_SCALE,
    Quantized,
    Values,
    check_finite,
    encode,
    scale_of,
)

WEIGHT_GROUP = 128
"""Rows of k that share a scale in weight-only INT4 (GPTQ, arXiv 2210.17323; AWQ, 2306.00978)."""
MIGRATION_STRENGTH = 0.5
"""SmoothQuant's alpha for most models (arXiv 2211.10438, section 5.1)."""
OUTLIER_MAGNITUDE = 6.0
"""LLM.int8()'s threshold for a feature channel of outliers (arXiv 2208.07339, section 3.2)."""


def per_tensor(values: Values, bits: int, peak: float | None = None) -> Quantized:
    """Return codes with one scale [1, 1], static with `peak` and dynamic without."""
    found = np.abs(values).max() if peak is None else peak
    return _encoded(values, np.reshape(found, (1, 1)), bits)


def per_row(values: Values, bits: int) -> Quantized:
    """Return codes with one scale a row [rows, 1]: for activations one a token, dynamic.

    Source: ZeroQuant, arXiv 2206.01861, section 4.1.
    """
    return _encoded(values, np.abs(values).max(1, keepdims=True), bits)


def per_column(values: Values, bits: int, peaks: Values | None = None) -> Quantized:
    """Return codes with one scale a column [1, columns].

    For weights a column is an output channel; the scale leaves the sum. For activations it is a
    feature channel: then no integer unit can add the products, and the result is a bound on what
    grouping channels can reach.
    """
    found = np.abs(values).max(0) if peaks is None else peaks
    return _encoded(values, found[None], bits)


def per_row_group(
    weight: Values, bits: int, group_rows: int = WEIGHT_GROUP, fmt: Format = Format.FP32
) -> Quantized:
    """Return codes with one scale for `group_rows` rows of a column; the last group may be short.

    The scale is a number of `fmt`, repeated for every row [k, n].
    """
    if group_rows < 1:
        raise QuantizationError(f"group_rows: found {group_rows}, allowed: 1 or more")
    k = len(weight)
    starts = np.arange(0, k, group_rows)
    peaks = np.maximum.reduceat(np.abs(weight), starts, axis=0)
    return _encoded(weight, np.repeat(peaks, group_rows, axis=0)[:k], bits, fmt)


def per_block(
    values: Values,
    fmt: BlockFormat,
    axis: int,
    across: int | None = None,
    rounds_up: bool = False,
) -> Blocks:
    """Return elements of a block format, one scale for the elements of a block along `axis`.

    Activations [rows, k] are summed over axis 1, weights [k, n] over axis 0. `across` is how many
    rows or columns share a scale too, 128 for the weights of DeepSeek-V3. `rounds_up` asks for
    scales that are powers of two by which no element is clamped (`numerics.blocks`).
    """
    check_finite(values)
    return encode_blocks(values, fmt, axis, across, rounds_up)


def migration_factors(
    channel_peaks: Values, weight: Values, strength: float = MIGRATION_STRENGTH
) -> Values:
    """Return s_j = max|X_j|^strength / max|W_j|^(1 - strength) of every channel [k].

    x / s and s w have the same product, and the outliers of x are smaller. A channel without
    activations or without weights keeps its own scale, 1. Source: SmoothQuant, arXiv 2211.10438,
    equation 4.
    """
    if not 0 <= strength <= 1:
        raise QuantizationError(f"migration strength: found {strength}, allowed: 0 to 1")
    weight_peaks = np.abs(weight).max(1).astype(np.float64)
    is_used = (channel_peaks > SMALLEST_SCALE) & (weight_peaks > SMALLEST_SCALE)
    # Logarithms, so that no power of a very small or large number is lost on the way.
    log_x, log_w = (np.log(np.where(is_used, each, 1)) for each in (channel_peaks, weight_peaks))
    return np.exp(strength * log_x - (1 - strength) * log_w).astype(np.float32)


def channels_above(
    channel_peaks: Values, magnitude: float = OUTLIER_MAGNITUDE
) -> NDArray[np.int32]:
    """Return the channels with a value of at least `magnitude`, ascending.

    Source: LLM.int8(), arXiv 2208.07339, section 3.2.
    """
    check_finite(channel_peaks, "channel peaks")
    return np.flatnonzero(channel_peaks >= magnitude).astype(np.int32)


def top_channels(channel_peaks: Values, share: float) -> NDArray[np.int32]:
    """Return the `share` of channels with the largest peaks (rounded to whole ones), ascending.

    Of equal peaks the first counts as larger. Source: OLAccel, Park, Kim and Yoo, ISCA 2018, which
    keeps a fixed share of outliers (3 %) in high precision.
    """
    if not 0 <= share <= 1:
        raise QuantizationError(f"share of outlier channels: found {share}, allowed: 0 to 1")
    count = round(share * len(channel_peaks))
    largest_first = np.argsort(-channel_peaks, kind="stable")
    return np.sort(largest_first[:count]).astype(np.int32)


def _encoded(
    values: Values, peaks: NDArray[np.floating], bits: int, fmt: Format = Format.FP32
) -> Quantized:
    check_finite(values)
    scale = scale_of(peaks, bits, fmt)
    return Quantized(encode(values, scale, bits), scale)
