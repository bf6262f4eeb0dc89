"""The linear schemes that are compared, as statements: what stands in the place of X and of W.

A form says which calibration it needs. What it returns is multiplied in FP32, so that sums are
those of the scheme up to FP32's rounding.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from accelsim.numerics.block_formats import BlockFormat
from accelsim.quantization.calibration import best_options
from accelsim.quantization.channel_groups import GroupOptions
from accelsim.quantization.rotation import Rotation, hadamard_rotation, usual_block
from accelsim.quantization.row_bases import best_rows
from accelsim.quantization.schemes import (
    migration_factors,
    per_block,
    per_column,
    per_row,
    per_row_group,
    per_tensor,
    top_channels,
)
from accelsim.quantization.statements import grouped_values
from accelsim.workload.model.llama import Array

OUTLIER_SHARE = 0.03
"""Channels that stay in floating point in `outlier_split`, by default."""


class Linear(NamedTuple):
    """What a form may know of a linear."""

    weight: Array
    """[k, n]"""
    groups: Any
    """`ChannelGroups` of its input, if the form is calibrated, else None."""
    stored: Any
    """`StoredWeights`, if the calibration has any, else None."""


Operand = Callable[[Array, Linear], Any]
"""(X [rows, k] or W [k, n], of which linear) -> what it is replaced by"""


class Calibrated(NamedTuple):
    """A calibration that forms share: how channels are grouped, and bits of weights, if any."""

    name: str
    options: GroupOptions
    weight_bits: int | None = None


class Form(NamedTuple):
    """A scheme for X and W."""

    name: str
    x: Operand
    w: Operand
    needs: Calibrated | None = None
    """None: it is calibrated on nothing."""
    is_x_of_linear: bool = False
    """Whether what stands for X depends on the weights, so that linears do not share it."""


PUBLISHED = GroupOptions(base="static", use_bias=True, first_rows=1, rounding="best")
"""Ranges as in the paper, with the best choices for a static base (docs/quantization.md)."""
BEST, BEST_FOUR = best_options(8), best_options(4)

STATIC = Calibrated("static", PUBLISHED)
STATIC_FOUR = Calibrated("static, 4 bits", replace(PUBLISHED, bits=4))
ROW = Calibrated("row", GroupOptions())
ROW_FOUR = Calibrated("row, 4 bits", GroupOptions(bits=4, candidates=6, quantile=0.999))
TYPICAL = Calibrated("row, typical", GroupOptions(groups=4, ranges="typical"))
TYPICAL_FOUR = Calibrated("typical, 4 bits", replace(BEST_FOUR, rotation="none"))
W8A8 = Calibrated("best, W8A8", BEST, 8)
W4A8 = Calibrated("best, W4A8", BEST, 4)
W8A4 = Calibrated("best, W8A4", BEST_FOUR, 8)
W4A4 = Calibrated("best, W4A4", BEST_FOUR, 4)
UNROTATED = Calibrated("W8A8, not rotated", replace(BEST, rotation="none"), 8)
UNROTATED_FOUR = Calibrated("W4A8, not rotated", replace(BEST, rotation="none"), 4)


def _as_it_is(values: Array, _linear: Linear) -> Any:
    return values


def _rotation(values: Array, axis: int) -> Rotation:
    return hadamard_rotation(values.shape[axis], usual_block(values.shape[axis]))


def _rotated_x(x: Array, linear: Linear) -> Array:
    options = linear.groups and linear.groups.options
    rotation = options.rotation_of(x.shape[1]) if options else None
    return x if rotation is None else rotation.of_activations(x)


def grouped(x: Array, linear: Linear) -> Any:
    """Return X in its channel groups, rotated if they are."""
    return grouped_values(_rotated_x(x, linear), linear.groups)


def stored(_w: Array, linear: Linear) -> Any:
    """Return the weights of the calibration."""
    return linear.stored.codes * linear.stored.scale


def _columns(bits: int, w: Array, _linear: Linear) -> Any:
    return per_column(w, bits).values


def _turned_columns(bits: int | None, w: Array, _linear: Linear) -> Any:
    turned = _rotation(w, 0).of_weights(w)
    return turned if bits is None else per_column(turned, bits).values


def _rows(x: Array, _linear: Linear) -> Any:
    return per_row(x, 8).values


def _turned_rows(bits: int, tries: int, x: Array, _linear: Linear) -> Any:
    turned = _rotation(x, 1).of_activations(x)
    return best_rows(turned, np.ones(x.shape[1], np.float32), bits, tries).values


def _static_tensor(x: Array, linear: Linear) -> Any:
    return per_tensor(x, 8, float(linear.groups.channel_peaks.max())).values


def _factors(linear: Linear) -> Array:
    return migration_factors(linear.groups.channel_peaks, linear.weight)


def _migrated_x(x: Array, linear: Linear) -> Any:
    return per_row(x / _factors(linear), 8).values


def _migrated_w(w: Array, linear: Linear) -> Any:
    return per_column(w * _factors(linear)[:, None], 8).values


def _split(quantize: Operand, axis: int, values: Array, linear: Linear) -> Any:
    """Return X or W with all channels but the outliers replaced."""
    outliers = top_channels(linear.groups.channel_peaks, OUTLIER_SHARE)
    others = np.delete(np.arange(values.shape[axis]), outliers)
    split = values.astype(np.float64)
    place = (slice(None), others) if axis else others
    split[place] = quantize(values[place], linear)
    return split


def _blocks(fmt: BlockFormat, axis: int, values: Array, _linear: Linear) -> Any:
    return per_block(values, fmt, axis=axis).values


def _turned_blocks(fmt: BlockFormat, axis: int, values: Array, linear: Linear) -> Any:
    rotation = _rotation(values, axis)
    turned = rotation.of_activations(values) if axis else rotation.of_weights(values)
    return _blocks(fmt, axis, turned, linear)


def _row_groups(w: Array, _linear: Linear) -> Any:
    return per_row_group(w, 4).values


def _mx(name: str, fmt: BlockFormat, operand: Callable[..., Any] = _blocks) -> Form:
    return Form(name, partial(operand, fmt, 1), partial(operand, fmt, 0))


columns, turned_columns = partial(_columns, 8), partial(_turned_columns, 8)

MATRIX = (
    Form("tender(base=static)", grouped, columns, STATIC),
    Form("tender, 8 groups", grouped, columns, ROW),
    Form("tender, as calibrated by default", grouped, stored, W8A8),
    Form("quantized, static tensor", _static_tensor, columns, ROW),
    Form("smoothquant", _migrated_x, _migrated_w, ROW, is_x_of_linear=True),
    Form("outlier_split", partial(_split, _rows, 1), partial(_split, columns, 0), ROW),
)
"""Forms that are calibrated, run with every text that is calibrated on."""
UNCALIBRATED = (
    Form("quantized, a scale per row", _rows, columns),
    Form("quantized(rotation=hadamard)", partial(_turned_rows, 8, 1), turned_columns),
    _mx("mx(mxint8)", BlockFormat.MXINT8),
    _mx("mx(mxfp8)", BlockFormat.MXFP8_E4M3),
    _mx("mx(mxfp4, rotation=hadamard)", BlockFormat.MXFP4, _turned_blocks),
    _mx("mx(nvfp4)", BlockFormat.NVFP4),
    Form("weight_only", _as_it_is, _row_groups),
)
"""Forms that are calibrated on nothing."""
FOUR_BITS = (
    Form("tender, W8A4, as calibrated by default", grouped, stored, W8A4),
    Form("tender, W4A8, as calibrated by default", grouped, stored, W4A8),
    Form("tender, W4A4, as calibrated by default", grouped, stored, W4A4),
)
"""Forms with 4 bits, run with the mixture."""
HEADLINE = (MATRIX[1], MATRIX[2], *FOUR_BITS)
"""Forms that are run over many tokens."""

plain_turned = partial(_turned_columns, None)
EIGHT = {
    "one scale a row": Form("row", _rows, _as_it_is),
    "8 groups, largest ranges": Form("groups", grouped, _as_it_is, ROW),
    "4 groups, typical ranges": Form("typical", grouped, _as_it_is, TYPICAL),
    "rotated, one scale a row": Form("turned", partial(_turned_rows, 8, 1), plain_turned),
}
FOUR = {
    "static, 8 groups": Form("static", grouped, _as_it_is, STATIC_FOUR),
    "8 groups, quantile, best of 6": Form("groups", grouped, _as_it_is, ROW_FOUR),
    "4 groups, typical, best of 6": Form("typical", grouped, _as_it_is, TYPICAL_FOUR),
    "rotated, one scale a row": Form("turned", partial(_turned_rows, 4, 1), plain_turned),
    "rotated, best of 6": Form("best", partial(_turned_rows, 4, 6), plain_turned),
    "rotated, 4 groups, typical, best of 6": Form("all", grouped, plain_turned, W8A4),
}
WEIGHTS = {
    ("nearest", 8): Form("columns", _as_it_is, columns),
    ("rotated, nearest", 8): Form("turned", _rotated_x, turned_columns, W8A8),
    ("gptq", 8): Form("gptq", _as_it_is, stored, UNROTATED),
    ("rotated, gptq", 8): Form("both", _rotated_x, stored, W8A8),
    ("nearest", 4): Form("columns", _as_it_is, partial(_columns, 4)),
    ("nearest, a scale for 128 rows", 4): Form("rows", _as_it_is, _row_groups),
    ("rotated, nearest", 4): Form("turned", _rotated_x, partial(_turned_columns, 4), W4A8),
    ("gptq", 4): Form("gptq", _as_it_is, stored, UNROTATED_FOUR),
    ("rotated, gptq", 4): Form("both", _rotated_x, stored, W4A8),
}
