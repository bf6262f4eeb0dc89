"""What ops touch, and how one is appended to a program: the ground of the kernel language."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import (
    ASKED_COL,
    ASKED_COLS,
    ASKED_ROW,
    ASKED_ROWS,
    HEADER_WORDS,
    HELD_COLS,
    HELD_ROWS,
    ITEM_CAPACITY,
    ITEM_WORDS,
    KERNEL_ARRAY,
    NUM_INDICES,
    NUM_RECORDED,
    OPERAND_SHIFT,
    REFUSED_OP,
    REFUSED_PLACE,
    SLOT_BITS,
    WORDS,
)
from accelsim.runtime.jit import jit_inner

Recorder = npt.NDArray[np.int64]
"""The program being recorded; see `accelsim.program.ops`."""


class Tensor(NamedTuple):
    """A matrix in HBM; rows of heads and batches follow each other."""

    number: int
    """Place of the tensor in the program."""
    address: int
    """First byte."""
    rows: int
    cols: int
    row_bytes: int
    """Bytes from one row to the next."""
    bits: int
    """Bits of a stored element."""
    data: Any
    """float32 or int32 [rows, cols], or None."""


class Buffer(NamedTuple):
    """On-chip memory for `slots` equal tiles, used in turn; two slots are double buffering."""

    first_slot: int
    """Number of slot 0 in the program."""
    slots: int
    """Number of tiles."""
    rows: int
    cols: int
    fmt: int
    """Code of the format of the elements."""
    bits: int
    """Bits of a stored element."""
    data: Any
    """float32 or int32 [slots, rows, cols], or None."""


class Tile(NamedTuple):
    """Elements of one slot of a buffer, from its row and column 0 on, or a view of some of them."""

    slot: int
    """Number of the slot in the program; an op on a view waits as for the whole slot."""
    rows: int
    cols: int
    """What an op touches. Below 1 where the slot has less than was asked for: see `misfit`."""
    fmt: int
    """Code of the format in which the elements are computed."""
    bits: int
    """Bits of a stored element."""
    data: Any
    """float32 or int32, at least [rows, cols], or None."""


@jit_inner
def record_op(
    p: Recorder, head: int, reads: int, writes: int, a: int, b: int, c: int, d: int
) -> None:
    """Append an op of these words to the program."""
    index = p[NUM_RECORDED]
    p[NUM_RECORDED] = index + 1
    at = HEADER_WORDS + p[ITEM_CAPACITY] * ITEM_WORDS + index * WORDS
    # Recording past the end only counts, so that the caller knows what to allocate.
    if at + WORDS <= p.size - p[NUM_INDICES]:
        p[at] = head
        p[at + 1] = reads
        p[at + 2] = writes
        p[at + 3] = a
        p[at + 4] = b
        p[at + 5] = c
        p[at + 6] = d


@jit_inner
def refuse(
    p: Recorder,
    place: int,
    row: int,
    col: int,
    rows: int,
    cols: int,
    held_rows: int,
    held_cols: int,
) -> None:
    """Note that the op that comes next asks for more than `place` holds; the first one counts.

    Recording goes on to the next transfer, without that op's numbers. An exception here would halve
    the speed of all recording.
    """
    if p[REFUSED_OP] == 0:
        p[REFUSED_OP] = p[NUM_RECORDED] + 1
        p[REFUSED_PLACE] = place
        p[ASKED_ROW], p[ASKED_COL] = row, col
        p[ASKED_ROWS], p[ASKED_COLS] = rows, cols
        p[HELD_ROWS], p[HELD_COLS] = held_rows, held_cols


# An extent that a slot does not have says what was asked for and what is there. It is below zero,
# so that a tile needs no field for it, and no op more than one branch.
_EXTENT_BITS = 30
_MOST = (1 << _EXTENT_BITS) - 1
_MISFIT = -(1 << 62)


@jit_inner
def misfit(asked: int, held: int) -> int:
    """Return the extent of a tile that asks for more, or for less than 1, than is `held`."""
    asked = min(max(asked, -_MOST), _MOST) + _MOST
    return _MISFIT + (asked << _EXTENT_BITS) + min(max(held, 0), _MOST)


@jit_inner
def asked_extent(extent: int) -> int:
    """Return what was asked for, of the extent of any tile."""
    if extent >= 0:
        return extent
    return ((extent - _MISFIT) >> _EXTENT_BITS) - _MOST


@jit_inner
def held_extent(extent: int) -> int:
    """Return what is there, of the extent of any tile."""
    return extent if extent >= 0 else (extent - _MISFIT) & _MOST


@jit_inner
def exists(p: Recorder, tile: Tile) -> bool:
    """Return whether a tile has the elements it was asked for; the next op is refused if not."""
    if tile.rows | tile.cols < 0:
        rows, cols = asked_extent(tile.rows), asked_extent(tile.cols)
        held_rows, held_cols = held_extent(tile.rows), held_extent(tile.cols)
        refuse(p, tile.slot, 0, 0, rows, cols, held_rows, held_cols)
        return False
    return True


@jit_inner
def has_extent(p: Recorder, tile: Tile, rows: int, cols: int) -> bool:
    """Return whether a tile is rows x cols, all there; the next op is refused if not."""
    if not exists(p, tile):
        return False
    if differs(tile, rows, cols):
        refuse(p, tile.slot, 0, 0, rows, cols, tile.rows, tile.cols)
        return False
    return True


@jit_inner
def differs(tile: Tile, rows: int, cols: int) -> int:
    """Return a number that is not 0 where a tile has another extent than rows x cols.

    Such numbers are joined, so that an op takes one branch: more of them take half as long again.
    """
    return (tile.rows ^ rows) | (tile.cols ^ cols)


@jit_inner
def is_off(tile: Tile) -> int:
    """Return a number that is not 0 where a tile has not the elements it was asked for."""
    return (tile.rows | tile.cols) >> 63


@jit_inner
def blame_product(p: Recorder, acc: Tile, a: Tile, b: Tile) -> None:
    """Refuse the next op for the first of its tiles that has another extent than it needs."""
    if exists(p, acc) and has_extent(p, a, acc.rows, a.cols):
        has_extent(p, b, a.cols, acc.cols)


@jit_inner
def has_block(p: Recorder, tensor: Tensor, row: int, col: int, rows: int, cols: int) -> bool:
    """Return whether tensor[row:row+rows, col:col+cols] exists; the next op is refused if not."""
    is_outside = (row < 0) | (rows < 1) | (row > tensor.rows - rows)
    if is_outside | (col < 0) | (cols < 1) | (col > tensor.cols - cols):
        refuse(p, -1 - tensor.number, row, col, rows, cols, tensor.rows, tensor.cols)
        return False
    return True


@jit_inner
def has_numbers(p: Recorder, size: int, first: int, count: int) -> bool:
    """Return whether an array of the kernel has numbers first..first + count - 1."""
    if (first < 0) | (count < 1) | (first > size - count):
        refuse(p, KERNEL_ARRAY, 0, first, 1, count, 1, size)
        return False
    return True


@jit_inner
def stored_bytes(bits: int, elements: int) -> int:
    """Return the bytes that packed elements take."""
    return (bits * elements + 7) >> 3


@jit_inner
def elements_of(tile: Tile) -> int:
    """Return how many elements a tile has."""
    return tile.rows * tile.cols


@jit_inner
def record_vector(
    p: Recorder, op: int, dst: Tile, reads: int, read_bits: int, rows: int, cols: int
) -> None:
    """Record a vector op on rows x cols elements that writes dst, in the format of dst.

    op: its code, with what else its head has besides the format of dst.
    """
    head = op | (dst.fmt << OPERAND_SHIFT)
    written = stored_bytes(dst.bits, elements_of(dst))
    record_op(p, head, reads, dst.slot, rows, cols, (read_bits + 7) >> 3, written)


@jit_inner
def record_reduction(
    p: Recorder, op: int, dst: Tile, src: Tile, dst_rows: int, dst_cols: int
) -> bool:
    """Record a vector op on src that writes dst_rows x dst_cols elements, all that dst has.

    Returns whether both tiles have the extents they need: if not, nothing may be computed. The
    functions below return the like.
    """
    fits: bool = (differs(dst, dst_rows, dst_cols) | is_off(src)) == 0
    if not fits:
        _blame_reduction(p, dst, src, dst_rows, dst_cols)
    record_vector(p, op, dst, src.slot, src.bits * elements_of(src), src.rows, src.cols)
    return fits


@jit_inner
def _blame_reduction(p: Recorder, dst: Tile, src: Tile, dst_rows: int, dst_cols: int) -> None:
    if exists(p, src):
        has_extent(p, dst, dst_rows, dst_cols)


@jit_inner
def record_map(p: Recorder, op: int, dst: Tile, src: Tile) -> bool:
    """Record a vector op on one tile, element by element."""
    fits: bool = record_reduction(p, op, dst, src, src.rows, src.cols)
    return fits


@jit_inner
def record_with(
    p: Recorder, op: int, dst: Tile, a: Tile, b: Tile, b_rows: int, b_cols: int
) -> bool:
    """Record a vector op on the elements of a, with b of b_rows x b_cols."""
    fits: bool = (differs(dst, a.rows, a.cols) | differs(b, b_rows, b_cols) | is_off(a)) == 0
    if not fits:
        _blame_pair(p, dst, a, b, b_rows, b_cols)
    reads = a.slot | (b.slot << SLOT_BITS)
    read_bits = a.bits * elements_of(a) + b.bits * elements_of(b)
    record_vector(p, op, dst, reads, read_bits, a.rows, a.cols)
    return fits


@jit_inner
def _blame_pair(p: Recorder, dst: Tile, a: Tile, b: Tile, b_rows: int, b_cols: int) -> None:
    if exists(p, a) and has_extent(p, b, b_rows, b_cols):
        has_extent(p, dst, a.rows, a.cols)


@jit_inner
def record_pair(p: Recorder, op: int, dst: Tile, a: Tile, b: Tile) -> bool:
    """Record a vector op on two tiles, element by element."""
    fits: bool = record_with(p, op, dst, a, b, a.rows, a.cols)
    return fits


@jit_inner
def record_with_column(p: Recorder, op: int, dst: Tile, a: Tile, column: Tile) -> bool:
    """Record a vector op on a tile and one number for each of its rows."""
    fits: bool = record_with(p, op, dst, a, column, a.rows, 1)
    return fits


@jit_inner
def record_with_row(p: Recorder, op: int, dst: Tile, a: Tile, row: Tile) -> bool:
    """Record a vector op on a tile and one number for each of its columns."""
    fits: bool = record_with(p, op, dst, a, row, 1, a.cols)
    return fits
