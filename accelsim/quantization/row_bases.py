"""The best of several bases for every row of scaled channels, in FP32 as a kernel computes it.

Candidate i of a row is its largest magnitude over 2^(i/4); the row takes the one of the smallest
squared error, of equal ones the largest base. What is scaled is judged as it was before: a channel
that was multiplied by a factor has its error divided by that factor.
"""

import numpy as np
from numpy.typing import NDArray

from accelsim.quantization.codes import Quantized, Scales, Values, encode, scale_of

SHRINK = [float(np.float32(2.0 ** (-i / 4))) for i in range(8)]
"""By what the largest magnitude of a row is multiplied for candidate i, in FP32."""


def best_rows(scaled: Values, factors: Values, bits: int, candidates: int) -> Quantized:
    """Return codes of scaled [rows, k] and a scale a row [rows, 1]; factors [k] scaled it."""
    peaks = np.abs(scaled).max(1, keepdims=True)
    best = scale_of(peaks, bits)
    if candidates > 1:
        least = _errors(scaled, best, factors, bits)
        for shrink in SHRINK[1:candidates]:
            scale = scale_of(peaks * np.float32(shrink), bits)
            errors = _errors(scaled, scale, factors, bits)
            is_kept = errors >= least
            best, least = np.where(is_kept, best, scale), np.where(is_kept, least, errors)
    return Quantized(encode(scaled, best, bits), best)


def _errors(scaled: Values, scale: Scales, factors: Values, bits: int) -> Values:
    """Return the squared error of every row [rows, 1], each operation rounded to FP32."""
    restored = encode(scaled, scale, bits).astype(np.float32) * scale.astype(np.float32)
    errors = (restored - scaled) * (np.float32(1) / factors)
    return _halving_sum(errors * errors)


def _halving_sum(values: Values) -> NDArray[np.float32]:
    """Return the sum of every row [rows, 1]: the second half is added to the first, and so on."""
    while (width := values.shape[1]) > 1:
        half = (width + 1) // 2
        first, second = values[:, :half].copy(), values[:, half:]
        first[:, : width - half] += second
        values = first
    return values
