"""Vector ops that reduce rows, columns or all of a tile."""

from accelsim.numerics import reductions as arithmetic
from accelsim.program.language.tiles import columns
from accelsim.program.ops import Op
from accelsim.program.recording import Recorder, Tile, record_reduction
from accelsim.runtime.jit import jit_inner

__all__ = [
    "column_sum",
    "row_max",
    "row_sum",
    "segment_sum",
    "tile_max",
]

_REDUCE = Op.REDUCE.value


@jit_inner
def row_max(p: Recorder, dst: Tile, src: Tile) -> None:
    """dst[r, 0] = maximum of row r."""
    if record_reduction(p, _REDUCE, dst, src, src.rows, 1):
        arithmetic.row_max(dst.data, src.data, src.rows, src.cols)


@jit_inner
def row_sum(p: Recorder, dst: Tile, src: Tile) -> None:
    """dst[r, 0] = sum of row r, each partial sum rounded to the format of dst."""
    if record_reduction(p, _REDUCE, dst, src, src.rows, 1):
        arithmetic.row_sum(dst.data, src.data, src.rows, src.cols, dst.fmt)


@jit_inner
def column_sum(p: Recorder, dst: Tile, src: Tile) -> None:
    """dst[0, c] = sum of column c, each partial sum rounded to the format of dst."""
    if record_reduction(p, _REDUCE, dst, src, 1, src.cols):
        arithmetic.column_sum(dst.data, src.data, src.rows, src.cols, dst.fmt)


@jit_inner
def segment_sum(p: Recorder, dst: Tile, src: Tile, segment: int) -> None:
    """dst[r, i] = sum of src[r, i * segment:(i + 1) * segment]; the last one may be shorter."""
    segments = -(-src.cols // segment) if segment > 0 else 0
    if record_reduction(p, _REDUCE, dst, src, src.rows, segments):
        arithmetic.segment_sum(dst.data, src.data, src.rows, src.cols, segment, dst.fmt)


@jit_inner
def tile_max(p: Recorder, dst: Tile, dst_col: int, src: Tile) -> None:
    """dst[0, dst_col] = maximum of all elements."""
    if record_reduction(p, _REDUCE, columns(dst, dst_col, 1), src, 1, 1):
        arithmetic.tile_max(dst.data, dst_col, src.data, src.rows, src.cols)
