"""Arithmetic on tiles for `accelsim.program.language`, by the conventions of `numerics.tile`."""

from accelsim.jit import jit_inner
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.tile import Data


@jit_inner
def add_row(dst: Data, a: Data, row: Data, rows: int, cols: int, fmt: int) -> None:
    """Add row[0, c] to column c."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] + row[0, c]
    round_tile(dst, rows, cols, fmt)


@jit_inner
def multiply_row(dst: Data, a: Data, row: Data, rows: int, cols: int, fmt: int) -> None:
    """Multiply column c by row[0, c]."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] * row[0, c]
    round_tile(dst, rows, cols, fmt)


@jit_inner
def magnitude(dst: Data, src: Data, rows: int, cols: int) -> None:
    """Magnitude of every element."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = abs(src[r, c])


@jit_inner
def note_peak(peak: Data, src: Data, rows: int, cols: int) -> None:
    """peak[0] = the larger of itself and the largest magnitude of a tile; int64 [1]."""
    if src is None:
        return
    for r in range(rows):
        for c in range(cols):
            peak[0] = max(peak[0], abs(int(src[r, c])))
