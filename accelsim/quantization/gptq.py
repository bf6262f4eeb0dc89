"""Codes of weights whose errors compensate each other, by what their linear was seen to take in.

Rounding a weight w_cj to the nearest code changes the output by what is lost of it times x_c, and
inputs depend on each other: what is lost of one channel can be made good by others. With H the sum
of x_r x_r^T the squared error of the output is the quadratic form of the lost weights with H. So
channels are encoded one after the other, and the weights of those still to come are moved to where
that form is least, given what is lost already. Source: Frantar et al., "GPTQ", 2022, arXiv
2210.17323, sections 3.1 to 3.3 (OBQ's update, in one order for all columns, in blocks, by the
Cholesky factor of the inverse of H, damped by 1 % of its mean diagonal).

Not from there: a row counts relative to its own root mean square, because a norm follows every
residual sum and few rows are a thousand times as large as others. The step of a column is the best
of a few fractions of its largest magnitude, by the squared errors weighted with the diagonal of H.
Channels are encoded by falling diagonal, as the authors' program does by `act-order`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.quantization.codes import (
    SMALLEST_SCALE,
    Quantized,
    Scales,
    Values,
    encode,
    largest_code,
    scale_of,
)

Moments = NDArray[np.floating[Any]]
"""Mean of x_r x_r^T over rows, each relative to its RMS [k, k]."""

_DAMPING = 0.01
_BLOCK = 64
"""Channels whose updates of all that follow are made at once."""
_FRACTIONS = [2.0 ** (-i / 8) for i in range(9)]
"""Of the largest magnitude of a column, tried as the range of its codes."""


def second_moments(x: Values) -> Moments:
    """Return the second moments of inputs x [rows, k]."""
    mean_square = np.mean(np.square(x, dtype=np.float64), axis=1, keepdims=True)
    relative = (x / np.sqrt(np.maximum(mean_square, SMALLEST_SCALE))).astype(np.float32)
    moments: Moments = (relative.T @ relative).astype(np.float64) / len(x)
    return moments


def compensated(weight: Values, moments: Moments, bits: int) -> Quantized:
    """Return codes of w [k, n] with a scale a column [1, n]."""
    importance = np.asarray(np.diag(moments), np.float64)
    order = np.argsort(-importance, kind="stable")
    factor = _factor(moments[order][:, order])
    scale = clipped_scale(weight, importance, bits)
    ordered = _encode(weight[order].astype(np.float64), factor, scale[0], bits)
    codes = np.empty_like(ordered)
    codes[order] = ordered
    return Quantized(codes, scale)


def clipped_scale(weight: Values, importance: NDArray[np.float64], bits: int) -> Scales:
    """Return the step of every column [1, n] of the least squared error, weighted by rows [k]."""
    peaks: Scales = np.abs(weight).max(0, keepdims=True).astype(np.float64)
    scales: Scales = np.stack([scale_of(peaks * fraction, bits) for fraction in _FRACTIONS])
    lost = [encode(weight, scale, bits) * scale - weight for scale in scales]
    errors = np.stack([importance[None] @ np.square(each) for each in lost])
    best: Scales = np.take_along_axis(scales, errors.argmin(0, keepdims=True), 0)[0]
    return best


def _factor(moments: Moments) -> Moments:
    """Return U, upper triangular, with U^T U the inverse of the damped moments.

    With the channels in reverse order, moments are L L^T; U is the inverse of L, reversed back.
    """
    k = len(moments)
    damping = max(_DAMPING * float(np.trace(moments)) / k, SMALLEST_SCALE)
    lower = np.linalg.cholesky((moments + damping * np.eye(k))[::-1, ::-1])
    return _inverse_of_lower(lower)[::-1, ::-1]


def _inverse_of_lower(lower: Moments) -> Moments:
    """Return the inverse of a lower triangular matrix, half by half."""
    k = len(lower)
    if k <= _BLOCK:
        inverse: Moments = np.linalg.inv(lower)
        return inverse
    half, found = k // 2, np.zeros((k, k))
    found[:half, :half] = _inverse_of_lower(lower[:half, :half])
    found[half:, half:] = _inverse_of_lower(lower[half:, half:])
    found[half:, :half] = -found[half:, half:] @ lower[half:, :half] @ found[:half, :half]
    return found


def _encode(
    left: NDArray[np.float64], factor: Moments, scale: Scales, bits: int
) -> NDArray[np.int32]:
    """Return the codes of weights [k, n] in the order of the factor; `left` is overwritten."""
    largest, k = largest_code(bits), len(left)
    codes = np.empty(left.shape, np.int32)
    for start in range(0, k, _BLOCK):
        stop = min(start + _BLOCK, k)
        lost = np.empty((stop - start, left.shape[1]))
        for channel in range(start, stop):
            codes[channel] = np.clip(np.rint(left[channel] / scale), -largest - 1, largest)
            own = (left[channel] - codes[channel] * scale) / factor[channel, channel]
            left[channel + 1 : stop] -= factor[channel, channel + 1 : stop, None] * own
            lost[channel - start] = own
        left[stop:] -= factor[start:stop, stop:].T @ lost
    return codes
