"""The kernel language, continued: ops of the shift-capable integer array.

Their numbers are in `accelsim.numerics.integer`. Operands are tiles of 4 or 8 bits, not always of
the same width; results are 32-bit tiles of the accumulator.
"""

from accelsim.jit import jit_inner
from accelsim.numerics import integer as arithmetic
from accelsim.numerics.formats import INT4, INT8, INT32
from accelsim.numerics.integer import Accumulator, Starts
from accelsim.numerics.tile import block
from accelsim.program.old.recording import Recorder, Tile, has_numbers, holds, record_op
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

_INT_MATMUL = Op.INT_MATMUL.value
_NARROW_BITS = 4


@jit_inner
def shift_accumulate(
    p: Recorder,
    acc: Tile,
    a: Tile,
    b: Tile,
    order: Tile,
    starts: Starts,
    first: int,
    groups: int,
    m: int,
    n: int,
    accumulator: Accumulator,
    accumulate: bool,
) -> None:
    """acc[m, n] = sum over g of 2^(groups - 1 - g) a[:, group g] b[group g, :].

    Added to acc if `accumulate`. Groups first..first + groups - 1 lie in `order`, int32
    [1, channels] in the index buffer, from starts[g] to starts[g + 1]; the array reads channels in
    that order, without moving them, and doubles all accumulators between two groups.
    """
    reads, k = order.slot << (2 * SLOT_BITS), 0
    fits = has_numbers(p, starts.size, first, groups + 1) and _has_channels(
        p, a, b, order, starts[first : first + groups + 1], m, n
    )
    if fits:
        k = starts[first + groups] - starts[first]
    fits &= _record(p, acc, a, b, reads, m, n, k, groups - 1, accumulate)
    if fits:
        p[NUM_OVERFLOWS] += arithmetic.shift_accumulate(
            block(acc.data, m, n),
            a.data,
            b.data,
            order.data,
            starts[first : first + groups + 1],
            a.bits + b.bits,
            accumulator,
            accumulate,
        )


@jit_inner
def _has_channels(
    p: Recorder, a: Tile, b: Tile, order: Tile, starts: Starts, m: int, n: int
) -> bool:
    """Return whether `order` has the positions `starts`, and a and b the channels there."""
    begin, end = starts[0], starts[starts.size - 1]
    asked = end
    for g in range(starts.size - 1):
        shortest = min(begin, starts[g + 1] - starts[g])
        asked = shortest if shortest < 0 else asked
    if not holds(p, order, 1, asked):
        return False
    lowest, highest = arithmetic.channel_range(order.data, begin, end)
    fits: bool = holds(p, a, m, lowest + 1) & holds(p, a, m, highest + 1)
    fits &= holds(p, b, lowest + 1, n) & holds(p, b, highest + 1, n)
    return fits


@jit_inner
def int_matmul(
    p: Recorder,
    acc: Tile,
    a: Tile,
    b: Tile,
    m: int,
    n: int,
    k: int,
    accumulator: Accumulator,
    accumulate: bool,
) -> None:
    """acc[m, n] = a[m, k] b[k, n] in integers, added to acc if `accumulate`."""
    if _record(p, acc, a, b, 0, m, n, k, 0, accumulate):
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
    other_reads: int,
    m: int,
    n: int,
    k: int,
    shifts: int,
    accumulate: bool,
) -> bool:
    fits: bool = holds(p, acc, m, n) & holds(p, a, m, k) & holds(p, b, k, n)
    head = _INT_MATMUL | (_format(a.bits) << OPERAND_SHIFT) | (INT32 << ACCUMULATOR_SHIFT)
    reads = a.slot | (b.slot << SLOT_BITS) | other_reads
    if accumulate:
        reads |= acc.slot << (3 * SLOT_BITS)
    sizes = a.bits | (b.bits << BITS_B_SHIFT) | (shifts << SHIFTS_SHIFT)
    record_op(p, head | (_format(b.bits) << OUTPUT_SHIFT), reads, acc.slot, m, n, k, sizes)
    return fits


@jit_inner
def _format(bits: int) -> int:
    return INT4 if bits == _NARROW_BITS else INT8
