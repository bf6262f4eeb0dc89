"""Vector ops element by element, with a tile, a column, a row or a scalar as second operand.

An op computes in the format of the tile that it writes, unless `computed_in` names another one.
"""

from accelsim.numerics import elementwise as arithmetic
from accelsim.numerics.formats import COMMON_FORMATS
from accelsim.program.language.tiles import computed_in
from accelsim.program.ops import ACCUMULATOR_SHIFT, OUTPUT_SHIFT, Op
from accelsim.program.recording import (
    Recorder,
    Tile,
    elements_of,
    exists,
    has_extent,
    record_map,
    record_pair,
    record_vector,
    record_with_column,
    record_with_row,
)
from accelsim.runtime.jit import jit_inner

__all__ = [
    "add",
    "add_row",
    "add_scalar",
    "at_least",
    "convert",
    "divide",
    "divide_column",
    "divide_scalar",
    "exp",
    "fill",
    "magnitude",
    "mask_above_diagonal",
    "mask_outside_window",
    "maximum",
    "maximum_scalar",
    "minimum",
    "multiply",
    "multiply_column",
    "multiply_row",
    "scale",
    "square_root",
    "subtract",
    "subtract_column",
    "subtract_row",
]

_ADD, _MULTIPLY, _MAXIMUM = Op.ADD.value, Op.MULTIPLY.value, Op.MAXIMUM.value
_DIVIDE, _EXP, _SQUARE_ROOT = Op.DIVIDE.value, Op.EXP.value, Op.SQUARE_ROOT.value
_SELECT, _CONVERT, _FILL = Op.SELECT.value, Op.CONVERT.value, Op.FILL.value


@jit_inner
def fill(p: Recorder, dst: Tile, value: float) -> None:
    """Set every element of a tile to `value`."""
    fits = exists(p, dst)
    record_vector(p, _FILL, dst, 0, 0, dst.rows, dst.cols)
    if fits:
        arithmetic.fill(dst.data, value, dst.rows, dst.cols)


@jit_inner
def convert(p: Recorder, dst: Tile, src: Tile) -> None:
    """dst = src rounded to the format of dst, at the rate of the wider of both.

    Where both are as wide as each other, the rate is that of their `common_format`. A machine may
    say what a change between two formats costs: `vector.conversions`.
    """
    fits = exists(p, src) and has_extent(p, dst, src.rows, src.cols)
    fmt = dst.fmt if dst.bits > src.bits else src.fmt
    if dst.bits == src.bits:
        fmt = COMMON_FORMATS[dst.fmt, src.fmt]
    wider = computed_in(dst, fmt)
    op = _CONVERT | (src.fmt << ACCUMULATOR_SHIFT) | (dst.fmt << OUTPUT_SHIFT)
    record_vector(p, op, wider, src.slot, src.bits * elements_of(src), src.rows, src.cols)
    if fits:
        arithmetic.convert(dst.data, src.data, src.rows, src.cols, dst.fmt)


@jit_inner
def add(p: Recorder, dst: Tile, a: Tile, b: Tile) -> None:
    """dst = a + b."""
    if record_pair(p, _ADD, dst, a, b):
        arithmetic.add(dst.data, a.data, b.data, a.rows, a.cols, dst.fmt)


@jit_inner
def subtract(p: Recorder, dst: Tile, a: Tile, b: Tile) -> None:
    """dst = a - b."""
    if record_pair(p, _ADD, dst, a, b):
        arithmetic.subtract(dst.data, a.data, b.data, a.rows, a.cols, dst.fmt)


@jit_inner
def multiply(p: Recorder, dst: Tile, a: Tile, b: Tile) -> None:
    """dst = a b, element by element."""
    if record_pair(p, _MULTIPLY, dst, a, b):
        arithmetic.multiply(dst.data, a.data, b.data, a.rows, a.cols, dst.fmt)


@jit_inner
def divide(p: Recorder, dst: Tile, a: Tile, b: Tile) -> None:
    """dst = a / b, element by element."""
    if record_pair(p, _DIVIDE, dst, a, b):
        arithmetic.divide(dst.data, a.data, b.data, a.rows, a.cols, dst.fmt)


@jit_inner
def maximum(p: Recorder, dst: Tile, a: Tile, b: Tile) -> None:
    """dst = max(a, b), element by element."""
    if record_pair(p, _MAXIMUM, dst, a, b):
        arithmetic.maximum(dst.data, a.data, b.data, a.rows, a.cols)


@jit_inner
def maximum_scalar(p: Recorder, dst: Tile, src: Tile, bound: float) -> None:
    """dst = max(src, bound), a scalar of the format of dst."""
    if record_map(p, _MAXIMUM, dst, src):
        arithmetic.maximum_scalar(dst.data, src.data, bound, src.rows, src.cols)


@jit_inner
def minimum(p: Recorder, dst: Tile, a: Tile, b: Tile) -> None:
    """dst = min(a, b), element by element."""
    if record_pair(p, _MAXIMUM, dst, a, b):
        arithmetic.minimum(dst.data, a.data, b.data, a.rows, a.cols)


@jit_inner
def subtract_column(p: Recorder, dst: Tile, a: Tile, column: Tile) -> None:
    """Subtract column[r, 0] from row r of a."""
    if record_with_column(p, _ADD, dst, a, column):
        arithmetic.subtract_column(dst.data, a.data, column.data, a.rows, a.cols, dst.fmt)


@jit_inner
def multiply_column(p: Recorder, dst: Tile, a: Tile, column: Tile) -> None:
    """Multiply row r of a by column[r, 0]."""
    if record_with_column(p, _MULTIPLY, dst, a, column):
        arithmetic.multiply_column(dst.data, a.data, column.data, a.rows, a.cols, dst.fmt)


@jit_inner
def divide_column(p: Recorder, dst: Tile, a: Tile, column: Tile) -> None:
    """Divide row r of a by column[r, 0]."""
    if record_with_column(p, _DIVIDE, dst, a, column):
        arithmetic.divide_column(dst.data, a.data, column.data, a.rows, a.cols, dst.fmt)


@jit_inner
def add_row(p: Recorder, dst: Tile, a: Tile, row: Tile) -> None:
    """Add row[0, c] to column c of a."""
    if record_with_row(p, _ADD, dst, a, row):
        arithmetic.add_row(dst.data, a.data, row.data, a.rows, a.cols, dst.fmt)


@jit_inner
def subtract_row(p: Recorder, dst: Tile, a: Tile, row: Tile) -> None:
    """Subtract row[0, c] from column c of a."""
    if record_with_row(p, _ADD, dst, a, row):
        arithmetic.subtract_row(dst.data, a.data, row.data, a.rows, a.cols, dst.fmt)


@jit_inner
def multiply_row(p: Recorder, dst: Tile, a: Tile, row: Tile) -> None:
    """Multiply column c of a by row[0, c]."""
    if record_with_row(p, _MULTIPLY, dst, a, row):
        arithmetic.multiply_row(dst.data, a.data, row.data, a.rows, a.cols, dst.fmt)


@jit_inner
def add_scalar(p: Recorder, dst: Tile, src: Tile, amount: float) -> None:
    """dst = src plus one scalar of the format of dst."""
    if record_map(p, _ADD, dst, src):
        arithmetic.add_scalar(dst.data, src.data, amount, src.rows, src.cols, dst.fmt)


@jit_inner
def divide_scalar(p: Recorder, dst: Tile, src: Tile, amount: float) -> None:
    """dst = one scalar of the format of dst over src."""
    if record_map(p, _DIVIDE, dst, src):
        arithmetic.divide_scalar(dst.data, src.data, amount, src.rows, src.cols, dst.fmt)


@jit_inner
def scale(p: Recorder, dst: Tile, src: Tile, factor: float) -> None:
    """dst = src times one scalar of the format of dst."""
    if record_map(p, _MULTIPLY, dst, src):
        arithmetic.scale(dst.data, src.data, factor, src.rows, src.cols, dst.fmt)


@jit_inner
def exp(p: Recorder, dst: Tile, src: Tile) -> None:
    """dst = e^src."""
    if record_map(p, _EXP, dst, src):
        arithmetic.exp(dst.data, src.data, src.rows, src.cols, dst.fmt)


@jit_inner
def square_root(p: Recorder, dst: Tile, src: Tile) -> None:
    """dst = square root of src; NaN below zero."""
    if record_map(p, _SQUARE_ROOT, dst, src):
        arithmetic.square_root(dst.data, src.data, src.rows, src.cols, dst.fmt)


@jit_inner
def magnitude(p: Recorder, dst: Tile, src: Tile) -> None:
    """dst = |src|, at the cost of a maximum: that of src and -src."""
    if record_map(p, _MAXIMUM, dst, src):
        arithmetic.magnitude(dst.data, src.data, src.rows, src.cols)


@jit_inner
def at_least(p: Recorder, dst: Tile, a: Tile, column: Tile) -> None:
    """dst[r, c] = 0 where a[r, c] < column[r, 0], else 1; what cannot be compared gives 1."""
    if record_with_column(p, _SELECT, dst, a, column):
        arithmetic.at_least(dst.data, a.data, column.data, a.rows, a.cols)


@jit_inner
def mask_above_diagonal(p: Recorder, dst: Tile, row: int, col: int) -> None:
    """Set to -inf what lies right of the diagonal, where dst[0, 0] is element (row, col)."""
    if record_map(p, _SELECT, dst, dst):
        arithmetic.mask_above_diagonal(dst.data, row, col, dst.rows, dst.cols)


@jit_inner
def mask_outside_window(
    p: Recorder, dst: Tile, row: int, col: int, window: int, sinks: int
) -> None:
    """Set to -inf what is `window` or more left of the diagonal, but for the first `sinks` columns.

    dst[0, 0] is element (row, col).
    """
    if record_map(p, _SELECT, dst, dst):
        arithmetic.mask_outside_window(dst.data, row, col, window, sinks, dst.rows, dst.cols)
