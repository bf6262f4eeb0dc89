"""Ops of the shift-capable integer array.

Their numbers are in `accelsim.numerics.integer`. Operands are tiles of 4 or 8 bits, not always of
the same width; results are 32-bit tiles of the accumulator.
"""

from typing import NamedTuple

from accelsim.numerics import integer as arithmetic
from accelsim.numerics.formats import INT4, INT8, INT32
from accelsim.numerics.integer import Accumulator, Starts
from accelsim.numerics.views import block
from accelsim.program.language.tiles import columns, rows_from
from accelsim.program.ops import (
    ACCUMULATOR_SHIFT,
    BITS_B_SHIFT,
    NUM_OVERFLOWS,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    SHIFTS_SHIFT,
    SLOT_BITS,
    Op,
)
from accelsim.program.recording import (
    Recorder,
    Tile,
    blame_product,
    differs,
    exists,
    has_extent,
    has_numbers,
    is_off,
    record_op,
)
from accelsim.runtime.jit import jit_inner

__all__ = [
    "Groups",
    "groups_from",
    "int_matmul",
    "shift_accumulate",
]

_INT_MATMUL = Op.INT_MATMUL.value
_NARROW_BITS = 4


class Groups(NamedTuple):
    """Channels of a product by group: group g lies in `order` from starts[g] to starts[g + 1]."""

    order: Tile
    """int32 [1, channels] in the index buffer; the array reads channels in this order."""
    starts: Starts
    """[groups + 1]"""


@jit_inner
def groups_from(order: Tile, starts: Starts, first: int, count: int) -> Groups:
    """Return `count` groups, from group `first` on; none if there are fewer."""
    is_there = (first >= 0) & (count >= 1) & (first + count < starts.size)
    begin, end = (first, first + count + 1) if is_there else (0, 0)
    return Groups(order, starts[begin:end])


@jit_inner
def shift_accumulate(
    p: Recorder,
    acc: Tile,
    a: Tile,
    b: Tile,
    groups: Groups,
    accumulator: Accumulator,
    accumulate: bool,
) -> None:
    """acc[m, n] = sum over g of 2^(groups - 1 - g) a[:, group g] b[group g, :].

    Added to acc if `accumulate`. The array reads channels in the order of their groups, without
    moving them, and doubles all accumulators between two groups.
    """
    starts, k = groups.starts, 0
    fits = (differs(a, acc.rows, a.cols) | differs(b, b.rows, acc.cols)) == 0
    fits = fits and (is_off(acc) | is_off(a) | is_off(b) | _lacks_channels(a, b, groups)) == 0
    if fits:
        k = starts[starts.size - 1] - starts[0]
    else:
        _blame_groups(p, acc, a, b, groups)
    reads = groups.order.slot << (2 * SLOT_BITS)
    _record(p, acc, a, b, k, reads, starts.size - 2, accumulate)
    if fits:
        p[NUM_OVERFLOWS] += arithmetic.shift_accumulate(
            block(acc.data, acc.rows, acc.cols),
            a.data,
            b.data,
            groups.order.data,
            starts,
            a.bits + b.bits,
            accumulator,
            accumulate,
        )


@jit_inner
def _lacks_channels(a: Tile, b: Tile, groups: Groups) -> int:
    """Return a number that is not 0 where the order lacks a position, or a or b a channel of it.

    Numbers below zero are joined, so that an op takes few branches: see `differs`.
    """
    starts, order = groups.starts, groups.order
    if starts.size < 2:
        return -1
    begin, end = starts[0], starts[starts.size - 1]
    lack = begin | (end - 1) | order.rows | (order.cols - end)
    for g in range(starts.size - 1):
        lack |= starts[g + 1] - starts[g]
    if lack < 0:
        return -1
    lowest, highest = arithmetic.channel_range(order.data, begin, end)
    lack = lowest | highest | (a.cols - 1 - highest) | (b.rows - 1 - highest)
    return -1 if lack < 0 else 0


@jit_inner
def _blame_groups(p: Recorder, acc: Tile, a: Tile, b: Tile, groups: Groups) -> None:
    """Refuse the next op for the first of its tiles, or groups, that is not what it needs."""
    fits = exists(p, acc) and has_numbers(p, groups.starts.size, 0, 2)
    fits = fits and has_extent(p, a, acc.rows, a.cols) and has_extent(p, b, b.rows, acc.cols)
    if fits:
        _blame_channels(p, a, b, groups)


@jit_inner
def _blame_channels(p: Recorder, a: Tile, b: Tile, groups: Groups) -> None:
    starts = groups.starts
    begin, end = starts[0], starts[starts.size - 1]
    asked = end
    for g in range(starts.size - 1):
        shortest = min(begin, starts[g + 1] - starts[g])
        asked = shortest if shortest < 0 else asked
    if exists(p, columns(groups.order, 0, asked)):
        lowest, highest = arithmetic.channel_range(groups.order.data, begin, end)
        if exists(p, columns(a, 0, lowest + 1)) and exists(p, columns(a, 0, highest + 1)):
            exists(p, rows_from(b, 0, highest + 1))


@jit_inner
def int_matmul(
    p: Recorder, acc: Tile, a: Tile, b: Tile, accumulator: Accumulator, accumulate: bool
) -> None:
    """acc[m, n] = a[m, k] b[k, n] in integers, added to acc if `accumulate`."""
    m, n, k = acc.rows, acc.cols, a.cols
    fits = (differs(a, m, k) | differs(b, k, n) | is_off(acc) | is_off(a)) == 0
    if not fits:
        blame_product(p, acc, a, b)
    _record(p, acc, a, b, k, 0, 0, accumulate)
    if fits:
        p[NUM_OVERFLOWS] += arithmetic.multiply_accumulate(
            block(acc.data, m, n),
            block(a.data, m, k),
            b.data,
            a.bits + b.bits,
            accumulator,
            accumulate,
        )


@jit_inner
def _record(
    p: Recorder,
    acc: Tile,
    a: Tile,
    b: Tile,
    k: int,
    other_reads: int,
    shifts: int,
    accumulate: bool,
) -> None:
    head = _INT_MATMUL | (_format(a.bits) << OPERAND_SHIFT) | (INT32 << ACCUMULATOR_SHIFT)
    reads = a.slot | (b.slot << SLOT_BITS) | other_reads
    if accumulate:
        reads |= acc.slot << (3 * SLOT_BITS)
    sizes = a.bits | (b.bits << BITS_B_SHIFT) | (shifts << SHIFTS_SHIFT)
    head |= _format(b.bits) << OUTPUT_SHIFT
    record_op(p, head, reads, acc.slot, acc.rows, acc.cols, k, sizes)


@jit_inner
def _format(bits: int) -> int:
    return INT4 if bits == _NARROW_BITS else INT8
