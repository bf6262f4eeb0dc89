"""How ops that are told their extents are appended to a program."""

from accelsim.jit import jit_inner
from accelsim.program.ops import OPERAND_SHIFT, SLOT_BITS
from accelsim.program.recording import (
    Buffer,
    Recorder,
    Tensor,
    Tile,
    has_block,
    has_numbers,
    record_op,
    refuse,
    stored_bytes,
)

__all__ = [
    "Buffer",
    "Recorder",
    "Tensor",
    "Tile",
    "has_block",
    "has_numbers",
    "holds",
    "record_map",
    "record_op",
    "record_pair",
    "record_vector",
    "stored_bytes",
]


@jit_inner
def holds(p: Recorder, tile: Tile, rows: int, cols: int) -> bool:
    """Return whether a tile has these elements, at least one; the next op is refused if not."""
    # Signs are joined to one branch: four comparisons take half as long again to record.
    if (rows - 1) | (cols - 1) | (tile.rows - rows) | (tile.cols - cols) < 0:
        refuse(p, tile.slot, 0, 0, rows, cols, tile.rows, tile.cols)
        return False
    return True


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
