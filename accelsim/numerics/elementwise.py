"""Arithmetic on tiles for `accelsim.program.language`; the conventions of `numerics.tile` hold."""

import math

import numpy as np

from accelsim.jit import jit_inner
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.tile import Data


@jit_inner
def add_scalar(dst: Data, src: Data, amount: float, rows: int, cols: int, fmt: int) -> None:
    """Add one scalar, which is in format `fmt` already."""
    if dst is None:
        return
    amount32 = np.float32(amount)
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = src[r, c] + amount32
    round_tile(dst, rows, cols, fmt)


@jit_inner
def divide(dst: Data, a: Data, b: Data, rows: int, cols: int, fmt: int) -> None:
    """Divide two tiles element by element."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] / b[r, c]
    round_tile(dst, rows, cols, fmt)


@jit_inner
def square_root(dst: Data, src: Data, rows: int, cols: int, fmt: int) -> None:
    """Square root, correct in FP32 and then rounded to `fmt`; NaN below zero."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            # A root rounded from a double to FP32 is the correctly rounded one.
            dst[r, c] = math.sqrt(np.float64(src[r, c]))
    round_tile(dst, rows, cols, fmt)
