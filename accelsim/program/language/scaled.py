"""Products of operands with shared scales: elements and scales are two tiles each.

Scales are applied in the unit, as `tcgen05.mma` with `.block_scale` (PTX ISA 8.7) does it on the
matrix unit; their numbers are in `accelsim.numerics.block_products`.
"""

from typing import NamedTuple

from accelsim.numerics import block_products as arithmetic
from accelsim.numerics.block_products import Runs
from accelsim.numerics.formats import INT32
from accelsim.numerics.integer import Accumulator
from accelsim.numerics.views import block
from accelsim.program.ops import (
    ACCUMULATES_SHIFT,
    ACCUMULATOR_SHIFT,
    ACROSS_SHIFT,
    BITS_B_SHIFT,
    BLOCK_A_SHIFT,
    BLOCK_B_SHIFT,
    BLOCK_MASK,
    NUM_OVERFLOWS,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    SCALE_A_SHIFT,
    SCALE_B_SHIFT,
    SLOT_BITS,
    Op,
)
from accelsim.program.recording import (
    Recorder,
    Tile,
    blame_product,
    differs,
    has_extent,
    has_numbers,
    is_off,
    record_op,
)
from accelsim.runtime.jit import jit_inner

__all__ = [
    "Scaled",
    "aligned_matmul",
    "scaled_matmul",
]

_SCALED_MATMUL, _ALIGNED_MATMUL = Op.SCALED_MATMUL.value, Op.ALIGNED_MATMUL.value


class Scaled(NamedTuple):
    """An operand of a product whose elements share scales along the summed dimension."""

    elements: Tile
    """[m, k] of a left operand, [k, n] of a right one."""
    scales: Tile
    """[m, k / block] of a left operand, [k / block, n / across] of a right one, rounded up."""
    block: int
    """Elements along k that share a scale, from the first of the tile on."""
    across: int
    """Columns of a right operand that share it too; 1 of a left one."""


@jit_inner
def scaled_matmul(p: Recorder, acc: Tile, a: Scaled, b: Scaled, accumulate: bool) -> None:
    """acc[m, n] = sum over blocks of (sum over i of a_i b_i) s_a s_b, added to acc if `accumulate`.

    A block is the shorter of the runs of k that share a scale in a and in b, of which one is a
    multiple of the other. Its products are summed in FP32, and acc is in FP32. Elements of two
    formats run at the rate of the slower one.
    """
    fits = _fits(p, acc, a, b)
    wide, narrow = a.elements.fmt, b.elements.fmt
    if a.elements.bits < b.elements.bits:
        wide, narrow = narrow, wide
    head = _SCALED_MATMUL | (wide << OPERAND_SHIFT) | (narrow << OUTPUT_SHIFT)
    _record(p, head | (acc.fmt << ACCUMULATOR_SHIFT), acc, a, b, accumulate)
    if fits:
        arithmetic.scaled_multiply_accumulate(
            block(acc.data, acc.rows, acc.cols),
            block(a.elements.data, acc.rows, a.elements.cols),
            b.elements.data,
            a.scales.data,
            b.scales.data,
            Runs(a.block, b.block, b.across),
            accumulate,
        )


@jit_inner
def aligned_matmul(
    p: Recorder,
    acc: Tile,
    a: Scaled,
    b: Scaled,
    guard_bits: int,
    accumulator: Accumulator,
    accumulate: bool,
) -> None:
    """acc[m, n] = sum over blocks of round((sum over i of a_i b_i) s_a s_b 2^guard_bits).

    Added to acc if `accumulate`. Elements are integers and scales powers of two: the integer array
    shifts the sum of a block to the unit of the accumulators, 2^-guard_bits, halves rounded up.
    """
    fits = _fits(p, acc, a, b)
    head = _ALIGNED_MATMUL | (a.elements.fmt << OPERAND_SHIFT) | (INT32 << ACCUMULATOR_SHIFT)
    head |= b.elements.fmt << OUTPUT_SHIFT
    _record(p, head, acc, a, b, accumulate)
    if fits:
        p[NUM_OVERFLOWS] += arithmetic.aligned_multiply_accumulate(
            block(acc.data, acc.rows, acc.cols),
            block(a.elements.data, acc.rows, a.elements.cols),
            b.elements.data,
            a.scales.data,
            block(b.scales.data, b.scales.rows, b.scales.cols),
            Runs(a.block, b.block, b.across),
            guard_bits,
            accumulator,
            accumulate,
        )


@jit_inner
def _fits(p: Recorder, acc: Tile, a: Scaled, b: Scaled) -> bool:
    """Return whether all tiles have the extents of one product; the next op is refused if not."""
    m, n, k = acc.rows, acc.cols, a.elements.cols
    wrong = differs(a.elements, m, k) | differs(b.elements, k, n) | is_off(acc)
    wrong |= is_off(a.elements)
    if wrong != 0:
        blame_product(p, acc, a.elements, b.elements)
        return False
    smallest, largest = min(a.block, b.block, b.across), max(a.block, b.block, b.across)
    if not has_numbers(p, BLOCK_MASK, smallest - 1, largest - smallest + 1):
        return False
    of_a, of_b, across = -(-k // a.block), -(-k // b.block), -(-n // b.across)
    fits: bool = has_extent(p, a.scales, m, of_a) and has_extent(p, b.scales, of_b, across)
    return fits


@jit_inner
def _record(p: Recorder, head: int, acc: Tile, a: Scaled, b: Scaled, accumulate: bool) -> None:
    reads = a.elements.slot | (b.elements.slot << SLOT_BITS)
    # A shift into the sign makes the word negative where a slot is a large one, as words may be.
    reads |= (a.scales.slot << (2 * SLOT_BITS)) | (b.scales.slot << (3 * SLOT_BITS))
    d = a.elements.bits | (b.elements.bits << BITS_B_SHIFT)
    d |= (a.block << BLOCK_A_SHIFT) | (b.block << BLOCK_B_SHIFT) | (b.across << ACROSS_SHIFT)
    d |= (a.scales.fmt << SCALE_A_SHIFT) | (b.scales.fmt << SCALE_B_SHIFT)
    if accumulate:
        d |= 1 << ACCUMULATES_SHIFT
    record_op(p, head, reads, acc.slot, acc.rows, acc.cols, a.elements.cols, d)
