"""What ops touch, and how one is appended to a program: the ground of the kernel language."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.jit import jit_inner
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
    NO_SLOT,
    NUM_INDICES,
    NUM_RECORDED,
    OPERAND_SHIFT,
    REFUSED_OP,
    REFUSED_PLACE,
    SLOT_BITS,
    WORDS,
)

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
    bits: int
    """Bits of a stored element."""
    data: Any
    """float32 or int32 [slots, rows, cols], or None."""


class Tile(NamedTuple):
    """One slot of a buffer, or a view of a part of it."""

    slot: int
    """Number of the slot in the program; an op on a view waits as for the whole slot."""
    rows: int
    cols: int
    """What an op may touch: from row and column 0 to here."""
    bits: int
    """Bits of a stored element."""
    data: Any
    """float32 or int32 [rows, cols], or None."""


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


@jit_inner
def holds(p: Recorder, tile: Tile, rows: int, cols: int) -> bool:
    """Return whether a tile has these elements, at least one; the next op is refused if not."""
    # Signs are joined to one branch: four comparisons take half as long again to record.
    if (rows - 1) | (cols - 1) | (tile.rows - rows) | (tile.cols - cols) < 0:
        refuse(p, tile.slot, 0, 0, rows, cols, tile.rows, tile.cols)
        return False
    return True


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
    """Return whether an array of the kernel has numbers first..first + count - 1, as `holds`."""
    if (first < 0) | (count < 1) | (first > size - count):
        refuse(p, NO_SLOT, 0, first, 1, count, 1, size)
        return False
    return True


@jit_inner
def stored_bytes(bits: int, elements: int) -> int:
    """Return the bytes that packed elements take."""
    return (bits * elements + 7) >> 3


@jit_inner
def record_vector(
    p: Recorder,
    op: int,
    fmt: int,
    dst: Tile,
    dst_rows: int,
    dst_cols: int,
    reads: int,
    read_bits: int,
    rows: int,
    cols: int,
) -> bool:
    """Record a vector op on rows x cols elements that writes dst_rows x dst_cols.

    Returns whether dst has them: if not, nothing may be computed. The others return the like.
    """
    fits: bool = holds(p, dst, dst_rows, dst_cols)
    head = op | (fmt << OPERAND_SHIFT)
    written = stored_bytes(dst.bits, dst_rows * dst_cols)
    record_op(p, head, reads, dst.slot, rows, cols, (read_bits + 7) >> 3, written)
    return fits


@jit_inner
def record_pair(
    p: Recorder,
    op: int,
    fmt: int,
    dst: Tile,
    a: Tile,
    b: Tile,
    b_rows: int,
    b_cols: int,
    rows: int,
    cols: int,
) -> bool:
    """Record a vector op on two tiles, rows x cols and b_rows x b_cols."""
    fits: bool = holds(p, a, rows, cols) & holds(p, b, b_rows, b_cols)
    reads = a.slot | (b.slot << SLOT_BITS)
    read_bits = a.bits * rows * cols + b.bits * b_rows * b_cols
    fits &= record_vector(p, op, fmt, dst, rows, cols, reads, read_bits, rows, cols)
    return fits


@jit_inner
def record_map(
    p: Recorder,
    op: int,
    fmt: int,
    dst: Tile,
    dst_rows: int,
    dst_cols: int,
    src: Tile,
    rows: int,
    cols: int,
) -> bool:
    """Record a vector op on one tile."""
    fits: bool = holds(p, src, rows, cols)
    read_bits = src.bits * rows * cols
    fits &= record_vector(p, op, fmt, dst, dst_rows, dst_cols, src.slot, read_bits, rows, cols)
    return fits
