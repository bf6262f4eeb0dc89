"""The linear schemes that are compared, as statements: what stands in the place of X and of W.

A form says which calibration it needs. What it returns is multiplied in FP32, so that sums are
those of the scheme up to FP32's rounding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from accelsim.numerics.block_formats import BlockFormat
from accelsim.quantization.calibration import best_options
from accelsim.quantization.channel_groups import GroupOptions
from accelsim.quantization.rotation import Rotation, hadamard_rotation, usual_block
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
    """A calibration: how channels are grouped, and bits of the codes of weights, if it has any."""

    name: str
    options: GroupOptions
    weight_bits: int | None = None


class Form(NamedTuple):
    """A scheme for X and W."""

    name: str
    x: Operand
    w: Operand
    groups: Calibrated | None = None
    """What is known of X; None: nothing."""
    weights: Calibrated | None = None
    """What holds the codes of the weights; None: they are rounded to the nearest ones."""
    is_x_of_linear: bool = False
    """Whether what stands for X depends on the weights, so that linears do not share it."""


STATIC = Calibrated(
    "static", GroupOptions(base="static", use_bias=True, first_rows=1, rounding="best")
)
"""Ranges as in the paper, with the best choices for a static base (docs/quantization.md)."""
ROW = Calibrated("row", GroupOptions())
"""What `tender` has by default, and the largest magnitudes that other schemes go by."""
GROUPED = (STATIC, ROW)
"""Calibrations without weights or rotation."""
BEST = Calibrated("best", best_options(8), 8)
BEST_FOUR = Calibrated("best-four", best_options(4), 4)
"""What `accelsim calibrate` makes by default. Both rotate, so the weights of one fit the other."""


def _as_it_is(values: Array, _linear: Linear) -> Any:
    return values


def _rotation(values: Array, axis: int) -> Rotation:
    return hadamard_rotation(values.shape[axis], usual_block(values.shape[axis]))


def grouped(x: Array, linear: Linear) -> Any:
    """Return X in its channel groups, rotated if they are."""
    rotation = linear.groups.options.rotation_of(x.shape[1])
    return grouped_values(x if rotation is None else rotation.of_activations(x), linear.groups)


def stored(_w: Array, linear: Linear) -> Any:
    """Return the weights of the calibration."""
    return linear.stored.codes * linear.stored.scale


def _columns(w: Array, _linear: Linear) -> Any:
    return per_column(w, 8).values


def _turned_columns(w: Array, _linear: Linear) -> Any:
    return per_column(_rotation(w, 0).of_weights(w), 8).values


def _rows(x: Array, _linear: Linear) -> Any:
    return per_row(x, 8).values


def _turned_rows(x: Array, _linear: Linear) -> Any:
    return per_row(_rotation(x, 1).of_activations(x), 8).values


def _channels(x: Array, linear: Linear) -> Any:
    return per_column(x, 8, linear.groups.channel_peaks).values


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


CROSSED = (
    Form("tender(base=static)", grouped, _columns, STATIC),
    Form("tender", grouped, _columns, ROW),
    Form("quantized(tensor)", _static_tensor, _columns, ROW),
    Form("quantized(channel)", _channels, _columns, ROW),
    Form("smoothquant", _migrated_x, _migrated_w, ROW, is_x_of_linear=True),
    Form("outlier_split", partial(_split, _rows, 1), partial(_split, _columns, 0), ROW),
)
"""Forms of 8 bits that a calibration groups, scales or sorts the channels of."""
COMPENSATED = (Form("tender, W8A8, calibrate", grouped, stored, BEST, BEST),)
"""The default of `accelsim calibrate` with 8 bits, whose weights are of the calibration too."""
FOUR_BITS = (
    Form("tender, W8A4, calibrate", grouped, stored, BEST_FOUR, BEST),
    Form("tender, W4A8, calibrate", grouped, stored, BEST, BEST_FOUR),
    Form("tender, W4A4, calibrate", grouped, stored, BEST_FOUR, BEST_FOUR),
)
"""Forms of 4 bits that are calibrated."""
UNCALIBRATED = (
    Form("quantized(row)", _rows, _columns),
    Form("quantized(row, rotation=hadamard)", _turned_rows, _turned_columns),
    _mx("mx(mxint8)", BlockFormat.MXINT8),
    _mx("mx(mxfp8)", BlockFormat.MXFP8_E4M3),
    _mx("mx(mxfp4, rotation=hadamard)", BlockFormat.MXFP4, _turned_blocks),
    _mx("mx(nvfp4)", BlockFormat.NVFP4),
    Form("weight_only", _as_it_is, _row_groups),
)
"""Forms that are calibrated on nothing."""
BY_KERNELS = FOUR_BITS[:2]
"""Forms that are run by their kernel as well."""
