"""Products of operands whose elements share scales; the conventions of `numerics.views` hold.

Elements are a [m, k] and b [k, n]. Elements of a row of a share a scale in runs of `of_a` along k,
those of b in runs of `of_b` rows and `across` columns. One run is a multiple of the other. The sum
over a run of the shorter kind is a block: all its products have the same two scales.
"""

from typing import NamedTuple

import numpy as np

from accelsim.numerics.integer import Accumulator, held
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit_inner

_EXPONENT_SHIFT, _EXPONENT_MASK, _BIAS = 23, 0xFF, 127
_LONGEST_SHIFT = 31
"""A sum of a block has fewer bits, so that nothing is left of it."""


class Runs(NamedTuple):
    """Elements that share a scale."""

    of_a: int
    of_b: int
    across: int


@jit_inner
def scaled_multiply_accumulate(
    acc: Data,
    a: Data,
    b: Data,
    scales_a: Data,
    scales_b: Data,
    runs: Runs,
    accumulate: bool,
) -> None:
    """acc[m, n] (+)= sum over blocks of (sum over i of a_i b_i) s_a s_b; all of acc and a.

    Products of a block are summed in FP32 in the order of k. The sum is multiplied by both scales,
    rounded to FP32 once and added to acc in FP32, in the order of the blocks. (The product with
    scales is in float64, where it is exact for scales of up to 14 bits.)
    """
    if acc is None:
        return
    m, n, k = acc.shape[0], acc.shape[1], a.shape[1]
    sums = np.empty(n, np.float32)
    block = min(runs.of_a, runs.of_b)
    for i in range(m):
        if not accumulate:
            for j in range(n):
                acc[i, j] = 0
        for start in range(0, k, block):
            for j in range(n):
                sums[j] = 0
            for step in range(start, min(start + block, k)):
                left = a[i, step]
                for j in range(n):
                    sums[j] += left * b[step, j]
            scale = np.float64(scales_a[i, start // runs.of_a])
            _add_scaled(acc[i], sums, scale, scales_b[start // runs.of_b], runs.across)


@jit_inner
def _add_scaled(acc, sums, scale, scales_b, across):
    if across == 1:
        for j in range(sums.size):
            acc[j] += np.float32(sums[j] * (scale * scales_b[j]))
    else:
        for first in range(0, sums.size, across):
            both = scale * scales_b[first // across]
            for j in range(first, min(first + across, sums.size)):
                acc[j] += np.float32(sums[j] * both)


@jit_inner
def exponent_of(scale):
    """Return the exponent of a power of two from 2^-127 to 2^127, all numbers of E8M0."""
    bits = np.int32(np.float32(scale).view(np.int32))
    return ((bits >> _EXPONENT_SHIFT) & _EXPONENT_MASK) - _BIAS


@jit_inner
def aligned(total, exponent):
    """Return total 2^exponent, rounded to a whole number, halves up.

    So the last bit that a shift loses is the carry into the addition that follows.
    """
    if exponent >= 0:
        return np.int64(total) << min(exponent, _LONGEST_SHIFT)
    lost = min(-exponent, _LONGEST_SHIFT)
    return (np.int64(total) + (np.int64(1) << (lost - 1))) >> lost


@jit_inner
def aligned_multiply_accumulate(
    acc: Data,
    a: Data,
    b: Data,
    scales_a: Data,
    scales_b: Data,
    runs: Runs,
    guard_bits: int,
    accumulator: Accumulator,
    accumulate: bool,
) -> int:
    """acc[m, n] (+)= sum over blocks of round((sum over i of a_i b_i) s_a s_b 2^guard_bits).

    int32; all of acc and a. Scales are powers of two. A unit of acc is worth 2^-guard_bits. The sum
    of a block is exact, is shifted to that unit, halves rounded up, and added in the order of the
    blocks. Returns how many sums an accumulator did not hold.
    """
    if acc is None:
        return 0
    m, n, k = acc.shape[0], acc.shape[1], a.shape[1]
    block = min(runs.of_a, runs.of_b)
    sums, right = np.empty(n, np.int32), _exponents(scales_b)
    overflows = 0
    for i in range(m):
        if not accumulate:
            for j in range(n):
                acc[i, j] = 0
        for start in range(0, k, block):
            for j in range(n):
                sums[j] = 0
            for step in range(start, min(start + block, k)):
                left = a[i, step]
                for j in range(n):
                    sums[j] += left * b[step, j]
            exponent = exponent_of(scales_a[i, start // runs.of_a]) + guard_bits
            row = right[start // runs.of_b]
            overflows += _add_aligned(acc[i], sums, exponent, row, runs.across, accumulator)
    return overflows


@jit_inner
def _exponents(scales):
    exponents = np.empty(scales.shape, np.int32)
    for row in range(scales.shape[0]):
        for col in range(scales.shape[1]):
            exponents[row, col] = exponent_of(scales[row, col])
    return exponents


@jit_inner
def _add_aligned(acc, sums, exponent, exponents_b, across, accumulator):
    overflows = 0
    for j in range(sums.size):
        total = acc[j] + aligned(sums[j], exponent + exponents_b[j // across])
        acc[j] = held(total, accumulator)
        overflows += acc[j] != total
    return overflows
