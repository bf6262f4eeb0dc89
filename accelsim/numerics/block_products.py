"""Products of operands whose elements share scales; the conventions of `numerics.views` hold.

Elements are a [m, k] and b [k, n]. Elements of a row of a share a scale in runs of `of_a` along k,
those of b in runs of `of_b` rows and `across` columns. One run is a multiple of the other. The sum
over a run of the shorter kind is a block: all its products have the same two scales.
"""

from typing import NamedTuple

import numpy as np

from accelsim.numerics.integer import Accumulator, held
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit, jit_inner

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
    if not accumulate:
        acc[:, :] = 0
    _add_blocks(acc, a, b, scales_a, _by_column(scales_b, acc.shape[1], runs.across), runs)


# Compiled on its own: as a part of its caller, the sums would not use vectors.
@jit
def _add_blocks(acc: Data, a: Data, b: Data, scales_a: Data, scales_b: Data, runs: Runs) -> None:
    """The same with a scale in float64 for every column of b."""
    k, n, block = a.shape[1], acc.shape[1], min(runs.of_a, runs.of_b)
    sums = np.empty(n, np.float32)
    for i in range(acc.shape[0]):
        for start in range(0, k, block):
            _sum_block(sums, a[i], b, start, min(start + block, k))
            left, row = np.float64(scales_a[i, start // runs.of_a]), scales_b[start // runs.of_b]
            for j in range(n):
                acc[i, j] += np.float32(sums[j] * (left * row[j]))


@jit_inner
def _by_column(scales, n, across):
    """Scales with one for each of n columns, in float64."""
    columns = np.empty((scales.shape[0], n))
    for row in range(scales.shape[0]):
        for col in range(n):
            columns[row, col] = scales[row, col // across]
    return columns


@jit_inner
def _sum_block(sums, left, b, start, stop):
    """sums[j] = sum of left[step] b[step, j] from `start` to `stop`, in the order of the steps."""
    for j in range(sums.size):
        sums[j] = 0
    for step in range(start, stop):
        factor = left[step]
        for j in range(sums.size):
            sums[j] += factor * b[step, j]


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
    wide, one = np.int64(total), np.int64(1)
    left = min(max(exponent, 0), _LONGEST_SHIFT)
    right = min(max(-exponent, 0), _LONGEST_SHIFT)
    return ((wide << left) + ((one << right) >> 1)) >> right


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
    if not accumulate:
        acc[:, :] = 0
    left, right = _exponents(scales_a) + guard_bits, _exponents(scales_b)
    if runs.across == 1 and _fits_always(acc, a, b, left.max() + right.max(), accumulator):
        _align_blocks(acc, a, b, left, right, runs)
        return 0
    return _align_checked(acc, a, b, left, right, runs, accumulator)


@jit
def _align_blocks(acc: Data, a: Data, b: Data, left: Data, right: Data, runs: Runs) -> None:
    """Add the blocks of a product whose exponents are left and right; all sums fit."""
    k, n, block = a.shape[1], acc.shape[1], min(runs.of_a, runs.of_b)
    sums = np.empty(n, np.int32)
    for i in range(acc.shape[0]):
        for start in range(0, k, block):
            _sum_block(sums, a[i], b, start, min(start + block, k))
            exponent, row = left[i, start // runs.of_a], right[start // runs.of_b]
            for j in range(n):
                acc[i, j] += aligned(sums[j], exponent + row[j])


@jit_inner
def _align_checked(acc, a, b, left, right, runs, accumulator):
    k, n, block, overflows = a.shape[1], acc.shape[1], min(runs.of_a, runs.of_b), 0
    sums = np.empty(n, np.int32)
    for i in range(acc.shape[0]):
        for start in range(0, k, block):
            _sum_block(sums, a[i], b, start, min(start + block, k))
            exponent, row = left[i, start // runs.of_a], right[start // runs.of_b]
            for j in range(n):
                total = acc[i, j] + aligned(sums[j], exponent + row[j // runs.across])
                acc[i, j] = held(total, accumulator)
                overflows += acc[i, j] != total
    return overflows


@jit_inner
def _exponents(scales):
    exponents = np.empty(scales.shape, np.int32)
    for row in range(scales.shape[0]):
        for col in range(scales.shape[1]):
            exponents[row, col] = exponent_of(scales[row, col])
    return exponents


@jit_inner
def _fits_always(acc, a, b, exponent, accumulator):
    """Whether no sum can leave an accumulator, or 31 bits on its way: then none is checked."""
    k = a.shape[1]
    largest = np.int64(_largest(a)) * _largest(b) * k
    grown = (largest << min(max(exponent, 0), _LONGEST_SHIFT)) + k + _largest(acc)
    return largest < 1 << 30 and grown < 1 << (accumulator.bits - 1) and exponent <= _LONGEST_SHIFT


@jit_inner
def _largest(values):
    found = np.int64(0)
    for row in range(values.shape[0]):
        for col in range(values.shape[1]):
            found = max(found, abs(np.int64(values[row, col])))
    return found
