"""What ops touch, and how one is appended to a program: the ground of the kernel language."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.jit import jit_inner
from accelsim.program.ops import (
    HEADER_WORDS,
    ITEM_CAPACITY,
    ITEM_WORDS,
    NUM_INDICES,
    NUM_RECORDED,
    OPERAND_SHIFT,
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
    bits: int
    """Bits of a stored element."""
    data: Any
    """float32 or int32 [slots, rows, cols], or None."""


class Tile(NamedTuple):
    """One slot of a buffer."""

    slot: int
    bits: int
    data: Any


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
def stored_bytes(bits: int, elements: int) -> int:
    """Return the bytes that packed elements take."""
    return (bits * elements + 7) >> 3


@jit_inner
def record_vector(
    p: Recorder,
    op: int,
    fmt: int,
    dst: Tile,
    dst_cols: int,
    reads: int,
    read_bits: int,
    rows: int,
    cols: int,
) -> None:
    """Record a vector op on rows x cols elements that writes rows x dst_cols."""
    head = op | (fmt << OPERAND_SHIFT)
    written = stored_bytes(dst.bits, rows * dst_cols)
    record_op(p, head, reads, dst.slot, rows, cols, (read_bits + 7) >> 3, written)


@jit_inner
def record_pair(
    p: Recorder, op: int, fmt: int, dst: Tile, a: Tile, b: Tile, b_cols: int, rows: int, cols: int
) -> None:
    """Record a vector op on two tiles, rows x cols and rows x b_cols."""
    reads = a.slot | (b.slot << SLOT_BITS)
    read_bits = rows * (a.bits * cols + b.bits * b_cols)
    record_vector(p, op, fmt, dst, cols, reads, read_bits, rows, cols)


@jit_inner
def record_map(
    p: Recorder, op: int, fmt: int, dst: Tile, dst_cols: int, src: Tile, rows: int, cols: int
) -> None:
    """Record a vector op on one tile."""
    record_vector(p, op, fmt, dst, dst_cols, src.slot, src.bits * rows * cols, rows, cols)
