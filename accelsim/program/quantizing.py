"""The kernel language, continued: what quantizing values and scaling integer sums needs.

Their numbers are in `accelsim.numerics.quantizing`.
"""

from accelsim.jit import jit_inner
from accelsim.numerics import quantizing as arithmetic
from accelsim.program.ops import SLOT_BITS, Op
from accelsim.program.recording import Recorder, Tile, record_vector

_MULTIPLY = Op.MULTIPLY.value


@jit_inner
def multiply_row(
    p: Recorder, dst: Tile, a: Tile, row: Tile, rows: int, cols: int, fmt: int
) -> None:
    """Multiply column c of a by row[0, c]."""
    _record_with_row(p, _MULTIPLY, fmt, dst, a, row, rows, cols)
    arithmetic.multiply_row(dst.data, a.data, row.data, rows, cols, fmt)


@jit_inner
def _record_with_row(
    p: Recorder, op: int, fmt: int, dst: Tile, a: Tile, row: Tile, rows: int, cols: int
) -> None:
    read_bits = (rows * a.bits + row.bits) * cols
    record_vector(p, op, fmt, dst, cols, a.slot | (row.slot << SLOT_BITS), read_bits, rows, cols)
