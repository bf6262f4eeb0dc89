"""Arithmetic on tiles for `accelsim.program.quantizing`, by the conventions of `numerics.tile`."""

from accelsim.jit import jit_inner
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.tile import Data


@jit_inner
def multiply_row(dst: Data, a: Data, row: Data, rows: int, cols: int, fmt: int) -> None:
    """Multiply column c by row[0, c]."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] * row[0, c]
    round_tile(dst, rows, cols, fmt)
