"""Arithmetic of the integer array: sums that are doubled between groups of channels.

Operands and accumulators are int32 [rows, cols]. An accumulator holds `bits` bits; a sum beyond
them wraps or saturates, and is counted. Sums are checked one by one only where the sizes do not
already exclude an overflow. Every function returns the count, 0 where the destination is None.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.runtime.jit import jit_inner

Data = Any
"""int32 [rows, cols], or None."""
Starts = npt.NDArray[np.int64]
"""First position of every group in the order of channels, and the end: [groups + 1]."""

_LARGEST_CHANNEL = 2**31 - 1
_MANY = 2**45
"""Products that fill an accumulator of 32 bits, whatever their bits."""


class Accumulator(NamedTuple):
    """What an accumulator of the array can hold."""

    bits: int
    saturates: bool


@jit_inner
def largest_sum(starts: Starts, product_bits: int) -> int:
    """Return the largest magnitude that sums over these groups, doubled between them, can have.

    sum over g of 2^(groups - 1 - g) K_g 2^(product_bits - 2), K_g channels of group g;
    product_bits: bits of both operands together. Where it is more than any accumulator holds, a
    smaller number may be returned that is too, so that all of this fits 64 bits.
    """
    total = 0
    for g in range(starts.size - 1):
        total = min(2 * total + (starts[g + 1] - starts[g]), _MANY)
    return total << (product_bits - 2)


@jit_inner
def held(value: int, accumulator: Accumulator) -> int:
    """Return what an accumulator holds of a sum."""
    limit = 1 << (accumulator.bits - 1)
    if -limit <= value < limit:
        return value
    if accumulator.saturates:
        return limit - 1 if value > 0 else -limit
    return ((value + limit) & (2 * limit - 1)) - limit


@jit_inner
def channel_range(order: Data, begin: int, end: int) -> tuple[int, int]:
    """Return the smallest and the largest channel from position `begin` to `end` of an order.

    Without numbers these are end - begin channels that follow each other; of none, -1 is largest.
    """
    if order is None:
        return 0, end - begin - 1
    else:
        lowest, highest = _LARGEST_CHANNEL, -1
        for at in range(begin, end):
            lowest, highest = min(lowest, order[0, at]), max(highest, order[0, at])
        return lowest, highest


@jit_inner
def shift_accumulate(
    acc: Data,
    a: Data,
    b: Data,
    order: Data,
    starts: Starts,
    product_bits: int,
    accumulator: Accumulator,
    accumulate: bool,
) -> int:
    """acc[m, n] (+)= sum over g of 2^(groups - 1 - g) a[:, group g] b[group g, :].

    order: int32 [1, channels], channels by group. Eq. 2 of Tender (ISCA 2024, arXiv 2406.12930):
    group by group, all sums doubled before each group but the first, also when it is empty.
    """
    if acc is None:
        return 0
    return _accumulate(acc, a, b, order[0], starts, product_bits, accumulator, accumulate)


@jit_inner
def multiply_accumulate(
    acc: Data, a: Data, b: Data, product_bits: int, accumulator: Accumulator, accumulate: bool
) -> int:
    """acc[m, n] (+)= a[m, k] b[k, n], in the order of k; all of acc and a."""
    if acc is None:
        return 0
    channels = np.arange(a.shape[1]).astype(np.int32)
    starts = np.array([0, a.shape[1]])
    return _accumulate(acc, a, b, channels, starts, product_bits, accumulator, accumulate)


@jit_inner
def _accumulate(acc, a, b, channels, starts, product_bits, accumulator, accumulate):
    limit = np.int64(1) << (accumulator.bits - 1)
    is_safe = largest_sum(starts, product_bits) < limit
    rows, cols = acc.shape
    overflows = 0
    if is_safe:
        sums = np.empty(cols, np.int32)
        for i in range(rows):
            _sum_row(sums, a[i], b, channels, starts)
            overflows += _add_row(acc[i], sums, accumulator, accumulate)
    else:
        checked = np.empty(cols, np.int64)
        for i in range(rows):
            overflows += _sum_row_checked(checked, a[i], b, channels, starts, accumulator)
            overflows += _add_row(acc[i], checked, accumulator, accumulate)
    return overflows


@jit_inner
def _sum_row(sums, left, b, channels, starts):
    for j in range(sums.size):
        sums[j] = 0
    for g in range(starts.size - 1):
        if g > 0:
            for j in range(sums.size):
                sums[j] *= 2
        for at in range(starts[g], starts[g + 1]):
            channel = channels[at]
            factor = left[channel]
            for j in range(sums.size):
                sums[j] += factor * b[channel, j]


@jit_inner
def _sum_row_checked(sums, left, b, channels, starts, accumulator):
    overflows = 0
    for j in range(sums.size):
        sums[j] = 0
    for g in range(starts.size - 1):
        if g > 0:
            for j in range(sums.size):
                doubled = sums[j] * 2
                sums[j] = held(doubled, accumulator)
                overflows += sums[j] != doubled
        for at in range(starts[g], starts[g + 1]):
            channel = channels[at]
            factor = np.int64(left[channel])
            for j in range(sums.size):
                added = sums[j] + factor * b[channel, j]
                sums[j] = held(added, accumulator)
                overflows += sums[j] != added
    return overflows


@jit_inner
def _add_row(acc, sums, accumulator, accumulate):
    overflows = 0
    for j in range(sums.size):
        total = np.int64(sums[j]) + (np.int64(acc[j]) if accumulate else 0)
        acc[j] = held(total, accumulator)
        overflows += acc[j] != total
    return overflows


@jit_inner
def note_clipped(clipped: Any, src: Data, rows: int, cols: int, largest: float) -> None:
    """clipped[0] += values of a tile that no code stands for; int64 [1].

    Codes reach from -largest - 1 to largest, and values are rounded half to even first.
    """
    if src is None:
        return
    count = 0
    for r in range(rows):
        for c in range(cols):
            code = np.rint(src[r, c])
            count += code > largest or code < -largest - 1
    clipped[0] += count
