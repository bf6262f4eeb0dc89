"""Arithmetic element by element; the conventions of `numerics.views` hold."""

import math

import numpy as np

from accelsim.numerics.formats import FP32, INT4, INT8, INT32
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit_inner


@jit_inner
def fill(dst: Data, value: float, rows: int, cols: int) -> None:
    """Set every element to `value`."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = value


@jit_inner
def _nearest_int32(x: float) -> float:
    # In double precision, which holds every FP32 and every INT32.
    if np.isnan(x):
        return 0.0
    return min(max(np.rint(np.float64(x)), -(2.0**31)), 2.0**31 - 1)


@jit_inner
def convert(dst: Data, src: Data, rows: int, cols: int, out_format: int) -> None:
    """Copy a tile and round it to `out_format`; integers beside floats are converted."""
    if dst is None:
        return
    if out_format in (INT32, INT8, INT4):
        for r in range(rows):
            for c in range(cols):
                dst[r, c] = _nearest_int32(src[r, c])
    else:
        for r in range(rows):
            for c in range(cols):
                dst[r, c] = src[r, c]
    if out_format not in (FP32, INT32):
        round_tile(dst, rows, cols, out_format)


@jit_inner
def add(dst: Data, a: Data, b: Data, rows: int, cols: int, fmt: int) -> None:
    """Add two tiles."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] + b[r, c]
    round_tile(dst, rows, cols, fmt)


@jit_inner
def subtract(dst: Data, a: Data, b: Data, rows: int, cols: int, fmt: int) -> None:
    """Subtract two tiles."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] - b[r, c]
    round_tile(dst, rows, cols, fmt)


@jit_inner
def multiply(dst: Data, a: Data, b: Data, rows: int, cols: int, fmt: int) -> None:
    """Multiply two tiles element by element."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] * b[r, c]
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
def larger(a: float, b: float) -> float:
    """Return the larger of two numbers, and NaN if either is NaN, as IEEE 754 maximum does."""
    if np.isnan(a) or a > b:
        return a
    return b


@jit_inner
def maximum(dst: Data, a: Data, b: Data, rows: int, cols: int) -> None:
    """Element-wise maximum of two tiles; NaN wins."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = larger(a[r, c], b[r, c])


@jit_inner
def maximum_scalar(dst: Data, src: Data, bound: float, rows: int, cols: int) -> None:
    """Maximum of each element and one scalar, which is in the format of dst; NaN wins."""
    if dst is None:
        return
    bound32 = np.float32(bound)
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = larger(src[r, c], bound32)


@jit_inner
def minimum(dst: Data, a: Data, b: Data, rows: int, cols: int) -> None:
    """Element-wise minimum of two tiles; NaN wins."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = -larger(-a[r, c], -b[r, c])


@jit_inner
def subtract_column(dst: Data, a: Data, column: Data, rows: int, cols: int, fmt: int) -> None:
    """Subtract column[r, 0] from row r."""
    if dst is None:
        return
    for r in range(rows):
        value = column[r, 0]
        for c in range(cols):
            dst[r, c] = a[r, c] - value
    round_tile(dst, rows, cols, fmt)


@jit_inner
def multiply_column(dst: Data, a: Data, column: Data, rows: int, cols: int, fmt: int) -> None:
    """Multiply row r by column[r, 0]."""
    if dst is None:
        return
    for r in range(rows):
        value = column[r, 0]
        for c in range(cols):
            dst[r, c] = a[r, c] * value
    round_tile(dst, rows, cols, fmt)


@jit_inner
def divide_column(dst: Data, a: Data, column: Data, rows: int, cols: int, fmt: int) -> None:
    """Divide row r by column[r, 0]."""
    if dst is None:
        return
    for r in range(rows):
        value = column[r, 0]
        for c in range(cols):
            dst[r, c] = a[r, c] / value
    round_tile(dst, rows, cols, fmt)


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
def subtract_row(dst: Data, a: Data, row: Data, rows: int, cols: int, fmt: int) -> None:
    """Subtract row[0, c] from column c."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] - row[0, c]
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
def multiply_row_runs(
    dst: Data, a: Data, row: Data, rows: int, cols: int, run: int, fmt: int
) -> None:
    """Multiply column c by row[0, c // run]."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] * row[0, c // run]
    round_tile(dst, rows, cols, fmt)


@jit_inner
def divide_scalar(dst: Data, src: Data, amount: float, rows: int, cols: int, fmt: int) -> None:
    """dst = amount / src, rounded to `fmt`; the amount is of that format."""
    if dst is None:
        return
    amount32 = np.float32(amount)
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = amount32 / src[r, c]
    round_tile(dst, rows, cols, fmt)


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
def scale(dst: Data, src: Data, factor: float, rows: int, cols: int, fmt: int) -> None:
    """Multiply by one scalar, which is in format `fmt` already."""
    if dst is None:
        return
    factor32 = np.float32(factor)
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = src[r, c] * factor32
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
def at_least(dst: Data, a: Data, column: Data, rows: int, cols: int) -> None:
    """dst[r, c] = 0 where a[r, c] < column[r, 0], else 1, also where either is NaN."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = 0.0 if a[r, c] < column[r, 0] else 1.0


@jit_inner
def mask_above_diagonal(dst: Data, row: int, col: int, rows: int, cols: int) -> None:
    """Set to -inf what lies right of the diagonal; dst[0, 0] is element (row, col)."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(max(0, row + r + 1 - col), cols):
            dst[r, c] = -np.inf


@jit_inner
def mask_outside_window(
    dst: Data, row: int, col: int, window: int, sinks: int, rows: int, cols: int
) -> None:
    """Set to -inf what is `window` or more left of the diagonal, but for the first `sinks` columns.

    dst[0, 0] is element (row, col).
    """
    if dst is None:
        return
    for r in range(rows):
        for c in range(max(0, sinks - col), min(cols, row + r - window + 1 - col)):
            dst[r, c] = -np.inf


@jit_inner
def exp(dst: Data, src: Data, rows: int, cols: int, fmt: int) -> None:
    """Exponential, correct in FP32 and then rounded to `fmt`."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            # Rounded once from a double: single-precision libraries differ in the last bit.
            dst[r, c] = math.exp(np.float64(src[r, c]))
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
