"""More of the kernel language: what scoring blocks of a mask needs beside `language`.

Strided loads, sums and maxima over other shapes than rows, and comparison.
"""

from accelsim.jit import jit_inner
from accelsim.numerics import reductions as arithmetic
from accelsim.program.ops import OPERAND_SHIFT, TENSOR_SHIFT, Op
from accelsim.program.recording import Recorder, Tensor, Tile, record_op, record_pair, stored_bytes

_LOAD, _REDUCE, _SELECT = Op.LOAD.value, Op.REDUCE.value, Op.SELECT.value


@jit_inner
def load_strided(
    p: Recorder, dst: Tile, src: Tensor, row: int, step: int, rows: int, cols: int
) -> None:
    """Copy the first `cols` elements of every `step`-th row, from src[row] on, to a tile."""
    address, row_bytes = src.address + row * src.row_bytes, stored_bytes(src.bits, cols)
    head = _LOAD | (src.number << TENSOR_SHIFT)
    record_op(p, head, 0, dst.slot, address, rows, row_bytes, step * src.row_bytes)
    arithmetic.copy_strided(dst.data, src.data, row, step, rows, cols)


@jit_inner
def at_least(p: Recorder, dst: Tile, a: Tile, column: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst[r, c] = 0 where a[r, c] < column[r, 0], else 1; what cannot be compared gives 1."""
    record_pair(p, _SELECT, fmt, dst, a, column, 1, rows, cols)
    arithmetic.at_least(dst.data, a.data, column.data, rows, cols)


@jit_inner
def _record_reduction(
    p: Recorder, fmt: int, dst: Tile, results: int, src: Tile, rows: int, cols: int
) -> None:
    head = _REDUCE | (fmt << OPERAND_SHIFT)
    read_bytes = stored_bytes(src.bits, rows * cols)
    written_bytes = stored_bytes(dst.bits, results)
    record_op(p, head, src.slot, dst.slot, rows, cols, read_bytes, written_bytes)


@jit_inner
def column_sum(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst[0, c] = sum of column c, each partial sum rounded to `fmt`."""
    _record_reduction(p, fmt, dst, cols, src, rows, cols)
    arithmetic.column_sum(dst.data, src.data, rows, cols, fmt)


@jit_inner
def segment_sum(
    p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, segment: int, fmt: int
) -> None:
    """dst[r, i] = sum of src[r, i * segment:(i + 1) * segment]; the last one may be shorter."""
    _record_reduction(p, fmt, dst, rows * -(-cols // segment), src, rows, cols)
    arithmetic.segment_sum(dst.data, src.data, rows, cols, segment, fmt)


@jit_inner
def tile_max(
    p: Recorder, dst: Tile, dst_col: int, src: Tile, rows: int, cols: int, fmt: int
) -> None:
    """dst[0, dst_col] = maximum of all elements."""
    _record_reduction(p, fmt, dst, 1, src, rows, cols)
    arithmetic.tile_max(dst.data, dst_col, src.data, rows, cols)
