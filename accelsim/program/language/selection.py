"""Ops that pick some columns of a tile by their values.

What they pick goes into an index buffer, whose tiles `gather` takes. Their numbers are in
`accelsim.numerics.selection`.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from accelsim.numerics import selection as arithmetic
from accelsim.numerics.formats import FP32
from accelsim.numerics.selection import Room
from accelsim.program.language.elementwise import convert, fill
from accelsim.program.language.movement import load
from accelsim.program.language.tiles import columns, computed_in, rows_from, tile
from accelsim.program.ops import NUM_RECORDED, OPERAND_SHIFT, REFUSED_OP, SLOT_BITS, Op
from accelsim.program.recording import (
    Buffer,
    Recorder,
    Tensor,
    Tile,
    elements_of,
    exists,
    has_block,
    has_extent,
    has_numbers,
    record_map,
    record_op,
    record_reduction,
    record_vector,
    record_with_column,
    stored_bytes,
)
from accelsim.runtime.jit import jit, jit_inner

__all__ = [
    "Ranking",
    "compact",
    "expand_runs",
    "keep_at_least",
    "keep_in_turn",
    "keep_largest",
    "kth_largest",
    "kth_largest_stored",
    "read_element",
    "sort_width",
    "write_column",
]

_ADD, _SELECT, _FILL = Op.ADD.value, Op.SELECT.value, Op.FILL.value
_COMPACT, _EXCHANGE, _HISTOGRAM = Op.COMPACT.value, Op.EXCHANGE.value, Op.HISTOGRAM.value
_DIGIT_BITS = 8


class Ranking(IntEnum):
    """How the vector unit finds the k-th largest of n elements."""

    RADIX = 0
    """One counting pass for each 8-bit digit."""
    BITONIC = 1
    """A sorting network of L (L + 1) / 2 passes, L = log2 n rounded up."""
    MERGE = 2
    """A merge sort of L passes, for a unit that merges in hardware."""


_RADIX, _BITONIC = Ranking.RADIX.value, Ranking.BITONIC.value


@jit_inner
def keep_at_least(p: Recorder, dst: Tile, src: Tile, column: Tile, otherwise: float) -> None:
    """dst = src where it is not below column[r, 0], and `otherwise` elsewhere."""
    if record_with_column(p, _SELECT, dst, src, column):
        rows, cols = src.rows, src.cols
        arithmetic.keep_at_least(dst.data, src.data, column.data, otherwise, rows, cols)


@jit_inner
def keep_largest(
    p: Recorder, dst: Tile, src: Tile, column: Tile, count: int, otherwise: float
) -> None:
    """dst = the `count` largest of each row of src, the smallest of which is column[r, 0].

    Of equal elements the first ones stay; what is not kept becomes `otherwise`.
    """
    if record_with_column(p, _SELECT, dst, src, column):
        rows, cols = src.rows, src.cols
        arithmetic.keep_largest(dst.data, src.data, column.data, count, otherwise, rows, cols)


@jit_inner
def keep_in_turn(
    p: Recorder, dst: Tile, src: Tile, column: Tile, room: Room, otherwise: float
) -> None:
    """dst = src where it is above column[r, 0], and the first room[r] elements equal to it.

    What is not kept becomes `otherwise`. room: int64 [rows], from `kth_largest_stored`; what is
    kept of it is taken off, so that the next tile of the same rows goes on where this one ends.
    """
    if record_with_column(p, _SELECT, dst, src, column):
        rows, cols = src.rows, src.cols
        if has_numbers(p, room.size, 0, rows):
            arithmetic.keep_in_turn(dst.data, src.data, column.data, room, otherwise, rows, cols)


@jit_inner
def compact(p: Recorder, dst: Tile, indices: Tile, src: Tile, dropped: float, assumed: int) -> int:
    """Move to the front of dst the columns of src where any row differs from `dropped`.

    Their numbers go to `indices`, a tile of an index buffer. Returns how many there are; without
    numbers that is `assumed`, evenly spread. dst may be src; it and `indices` have at least the
    columns that stay, which may be all.
    """
    rows, cols, fits, count = src.rows, src.cols, exists(p, src), 0
    # All columns may stay, or what is assumed; less than none is refused as too many are.
    most = assumed if (assumed < 0) | (assumed > cols) else cols
    fits = fits and exists(p, columns(dst, 0, most)) and has_extent(p, dst, rows, dst.cols)
    fits = fits and exists(p, columns(indices, 0, most))
    if fits:
        count = arithmetic.compact(dst.data, indices.data, src.data, dropped, assumed, rows, cols)
    written = stored_bytes(dst.bits, rows * count) + stored_bytes(indices.bits, count)
    writes = dst.slot | (indices.slot << SLOT_BITS)
    read = stored_bytes(src.bits, elements_of(src))
    record_op(p, _COMPACT | (src.fmt << OPERAND_SHIFT), src.slot, writes, rows, cols, read, written)
    return count


@jit_inner
def expand_runs(p: Recorder, dst: Tile, src: Tile, length: int) -> None:
    """Turn the numbers of runs, src[0, :], into the numbers of their `length` rows each.

    Both are tiles of index buffers; 32-bit integers run at the rate of FP32.
    """
    rows = src.cols * length
    fits = exists(p, src) and has_extent(p, src, 1, src.cols) and has_extent(p, dst, 1, rows)
    record_vector(p, _ADD, computed_in(dst, FP32), src.slot, src.bits * elements_of(src), 1, rows)
    if fits:
        arithmetic.expand_runs(dst.data, src.data, src.cols, length)


@jit_inner
def write_column(p: Recorder, dst: Tile, values: npt.NDArray[np.float64]) -> None:
    """dst[r, 0] = values[r], constants that the control core knows."""
    fits = exists(p, dst) and has_numbers(p, values.size, 0, dst.rows)
    record_vector(p, _FILL, dst, 0, 0, dst.rows, 1)
    if fits:
        arithmetic.write_column(dst.data, values, dst.rows, dst.fmt)


@jit_inner
def read_element(p: Recorder, src: Tile, row: int) -> float:
    """Return src[row, 0] to the control core, which costs nothing; NaN without numbers."""
    value = np.nan
    if exists(p, rows_from(src, row, 1)):
        value = arithmetic.element(src.data, row)
    elif p[REFUSED_OP] == p[NUM_RECORDED] + 1:
        # Not the next op is to blame, which may be sound, but what happens before it.
        p[REFUSED_OP] = -p[REFUSED_OP]
    return value


@jit
def sort_width(cols: int) -> int:
    """Return the smallest power of two that is not below `cols`: what a bitonic sort works on."""
    width = 1
    while width < cols:
        width *= 2
    return width


@jit_inner
def kth_largest(p: Recorder, dst: Tile, keys: Tile, src: Tile, k: int, ranking: int) -> None:
    """dst[r, 0] = the k-th largest of row r of src.

    keys: work tile of as many rows and sort_width(cols) columns; a radix ranking does not touch it.
    Only keys are sorted, without their column numbers: the result is a threshold.
    """
    if not (exists(p, src) and exists(p, columns(src, 0, k))):
        record_reduction(p, _HISTOGRAM, dst, src, src.rows, 1)
    elif ranking == _RADIX:
        _rank_by_digits(p, dst, src, k)
    else:
        _rank_by_sorting(p, dst, keys, src, k, ranking)


@jit_inner
def kth_largest_stored(
    p: Recorder, dst: Tile, pieces: Buffer, src: Tensor, extent: tuple[int, int], k: int, room: Room
) -> None:
    """dst[r, 0] = the k-th largest of row r of elements in HBM, by digits as `kth_largest`.

    extent: first row and columns of src; as many rows as dst has. They are loaded once for each
    digit, in tiles of `pieces`. room: int64 [rows], becomes how many elements equal to dst[r, 0]
    are among the k largest.
    """
    (first_row, cols), rows, size = extent, dst.rows, pieces.cols
    fits = exists(p, dst) and has_block(p, src, first_row, 0, rows, cols)
    fits = fits and has_numbers(p, room.size, 0, rows)
    fits = fits and has_numbers(p, cols, 0, k)
    turn, digits = 0, pieces.bits // _DIGIT_BITS
    if not fits:
        # A load would stop before it is recorded, and the op to blame would not be there.
        digits = 0
        record_reduction(p, _HISTOGRAM, dst, tile(pieces, 0, rows, size), rows, 1)
    for _ in range(digits):
        for start in range(0, cols, max(size, 1)):
            own = tile(pieces, turn, rows, min(size, cols - start))
            load(p, own, src, first_row, start)
            fits &= record_reduction(p, _HISTOGRAM, dst, own, rows, 1)
            turn += 1
    if fits:
        arithmetic.radix_select_from(dst.data, src.data, first_row, k, room, rows, cols)


@jit_inner
def _rank_by_digits(p: Recorder, dst: Tile, src: Tile, k: int) -> None:
    fits = True
    for _ in range(src.bits // _DIGIT_BITS):
        fits &= record_reduction(p, _HISTOGRAM, dst, src, src.rows, 1)
    if fits:
        arithmetic.radix_select(dst.data, src.data, k, src.rows, src.cols)


@jit_inner
def _rank_by_sorting(p: Recorder, dst: Tile, keys: Tile, src: Tile, k: int, ranking: int) -> None:
    width, cols = sort_width(src.cols), src.cols
    if ranking == _BITONIC and width > cols:
        fill(p, columns(keys, 0, width), -np.inf)
    convert(p, columns(keys, 0, cols), src)
    if ranking == _BITONIC:
        _sort_bitonic(p, columns(keys, 0, width))
    else:
        _sort_merging(p, columns(keys, 0, cols))
    convert(p, dst, columns(keys, k - 1, 1))


@jit_inner
def _sort_bitonic(p: Recorder, keys: Tile) -> None:
    run = 2
    while run <= keys.cols:
        distance = run // 2
        while distance > 0:
            if record_map(p, _EXCHANGE, keys, keys):
                arithmetic.bitonic_pass(keys.data, distance, run, keys.rows, keys.cols)
            distance //= 2
        run *= 2


@jit_inner
def _sort_merging(p: Recorder, keys: Tile) -> None:
    run = 1
    while run < keys.cols:
        if record_map(p, _EXCHANGE, keys, keys):
            arithmetic.merge_pass(keys.data, run, keys.rows, keys.cols)
        run *= 2
