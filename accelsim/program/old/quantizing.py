"""The kernel language, continued: what quantizing values and scaling integer sums needs.

Their numbers are in `accelsim.numerics.quantizing`.
"""

from accelsim.jit import jit_inner
from accelsim.numerics import quantizing as arithmetic
from accelsim.program.old.recording import Recorder, Tile, record_map, record_pair
from accelsim.program.ops import Op

_ADD, _MULTIPLY, _MAXIMUM = Op.ADD.value, Op.MULTIPLY.value, Op.MAXIMUM.value


@jit_inner
def add_row(p: Recorder, dst: Tile, a: Tile, row: Tile, rows: int, cols: int, fmt: int) -> None:
    """Add row[0, c] to column c of a."""
    if record_pair(p, _ADD, fmt, dst, a, row, 1, cols, rows, cols):
        arithmetic.add_row(dst.data, a.data, row.data, rows, cols, fmt)


@jit_inner
def multiply_row(
    p: Recorder, dst: Tile, a: Tile, row: Tile, rows: int, cols: int, fmt: int
) -> None:
    """Multiply column c of a by row[0, c]."""
    if record_pair(p, _MULTIPLY, fmt, dst, a, row, 1, cols, rows, cols):
        arithmetic.multiply_row(dst.data, a.data, row.data, rows, cols, fmt)


@jit_inner
def magnitude(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = |src|, at the cost of a maximum: that of src and -src."""
    if record_map(p, _MAXIMUM, fmt, dst, rows, cols, src, rows, cols):
        arithmetic.magnitude(dst.data, src.data, rows, cols)
