"""More of the kernel language: what scoring blocks of a mask needs beside `language`.

Strided loads, sums and maxima over other shapes than rows, and comparison.
"""

from accelsim.jit import jit_inner
from accelsim.numerics import reductions as arithmetic
from accelsim.program.old.language import columns
from accelsim.program.old.recording import (
    Recorder,
    Tensor,
    Tile,
    has_block,
    holds,
    record_map,
    record_op,
    record_pair,
    stored_bytes,
)
from accelsim.program.ops import TENSOR_SHIFT, Op

_LOAD, _REDUCE, _SELECT = Op.LOAD.value, Op.REDUCE.value, Op.SELECT.value


@jit_inner
def load_strided(
    p: Recorder, dst: Tile, src: Tensor, row: int, step: int, rows: int, cols: int
) -> None:
    """Copy the first `cols` elements of every `step`-th row, from src[row] on, to a tile."""
    # Steps back or beyond the tensor are cut to the first that is refused, lest the product wraps.
    seen_rows = (rows - 1) * min(max(step, -1), src.rows) + 1
    fits = holds(p, dst, rows, cols) & has_block(p, src, row, 0, seen_rows, cols)
    address, row_bytes = src.address + row * src.row_bytes, stored_bytes(src.bits, cols)
    head = _LOAD | (src.number << TENSOR_SHIFT)
    record_op(p, head, 0, dst.slot, address, rows, row_bytes, step * src.row_bytes)
    if fits:
        arithmetic.copy_strided(dst.data, src.data, row, step, rows, cols)


@jit_inner
def at_least(p: Recorder, dst: Tile, a: Tile, column: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst[r, c] = 0 where a[r, c] < column[r, 0], else 1; what cannot be compared gives 1."""
    if record_pair(p, _SELECT, fmt, dst, a, column, rows, 1, rows, cols):
        arithmetic.at_least(dst.data, a.data, column.data, rows, cols)


@jit_inner
def column_sum(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst[0, c] = sum of column c, each partial sum rounded to `fmt`."""
    if record_map(p, _REDUCE, fmt, dst, 1, cols, src, rows, cols):
        arithmetic.column_sum(dst.data, src.data, rows, cols, fmt)


@jit_inner
def segment_sum(
    p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, segment: int, fmt: int
) -> None:
    """dst[r, i] = sum of src[r, i * segment:(i + 1) * segment]; the last one may be shorter."""
    segments = -(-cols // segment) if segment > 0 else 0
    if record_map(p, _REDUCE, fmt, dst, rows, segments, src, rows, cols):
        arithmetic.segment_sum(dst.data, src.data, rows, cols, segment, fmt)


@jit_inner
def tile_max(
    p: Recorder, dst: Tile, dst_col: int, src: Tile, rows: int, cols: int, fmt: int
) -> None:
    """dst[0, dst_col] = maximum of all elements."""
    if record_map(p, _REDUCE, fmt, columns(dst, dst_col), 1, 1, src, rows, cols):
        arithmetic.tile_max(dst.data, dst_col, src.data, rows, cols)
