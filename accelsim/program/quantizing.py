"""The kernel language, continued: what quantizing values and scaling integer sums needs.

Their numbers are in `accelsim.numerics.quantizing`.
"""

from accelsim.jit import jit_inner
from accelsim.numerics import quantizing as arithmetic
from accelsim.program.ops import SLOT_BITS, Op
from accelsim.program.recording import Recorder, Tile, record_map, record_vector

_ADD, _MULTIPLY, _MAXIMUM = Op.ADD.value, Op.MULTIPLY.value, Op.MAXIMUM.value


@jit_inner
def add_row(p: Recorder, dst: Tile, a: Tile, row: Tile, rows: int, cols: int, fmt: int) -> None:
    """Add row[0, c] to column c of a."""
    _record_with_row(p, _ADD, fmt, dst, a, row, rows, cols)
    arithmetic.add_row(dst.data, a.data, row.data, rows, cols, fmt)


@jit_inner
def multiply_row(
    p: Recorder, dst: Tile, a: Tile, row: Tile, rows: int, cols: int, fmt: int
) -> None:
    """Multiply column c of a by row[0, c]."""
    _record_with_row(p, _MULTIPLY, fmt, dst, a, row, rows, cols)
    arithmetic.multiply_row(dst.data, a.data, row.data, rows, cols, fmt)


@jit_inner
def magnitude(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = |src|, at the cost of a maximum: that of src and -src."""
    record_map(p, _MAXIMUM, fmt, dst, cols, src, rows, cols)
    arithmetic.magnitude(dst.data, src.data, rows, cols)


@jit_inner
def _record_with_row(
    p: Recorder, op: int, fmt: int, dst: Tile, a: Tile, row: Tile, rows: int, cols: int
) -> None:
    read_bits = (rows * a.bits + row.bits) * cols
    record_vector(p, op, fmt, dst, cols, a.slot | (row.slot << SLOT_BITS), read_bits, rows, cols)
