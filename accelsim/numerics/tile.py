"""Arithmetic on tiles: what a unit computes, apart from what it costs.

Every function works on 2-D arrays of float32 (or int32 for integers) whose values are
representable in the format at hand, and returns at once when the destination is None: Numba removes
the loops then, which is what makes recording without numbers fast. Loops fix the order of sums.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.jit import jit_inner
from accelsim.numerics.formats import FP16, FP32, INT4, INT8, INT32
from accelsim.numerics.rounding import round_tile

Data = Any
"""float32 or int32 [rows, cols], or None."""


@jit_inner
def select(data: Data, index: int) -> Data:
    """Return tile `index` of a buffer [slots, rows, cols], or None."""
    if data is None:
        return None
    else:
        return data[index]


@jit_inner
def columns_from(data: Data, first: int) -> Data:
    """Return the columns of a tile from `first` on, or None."""
    if data is None:
        return None
    else:
        return data[:, first:]


@jit_inner
def rows_from(data: Data, first: int) -> Data:
    """Return the rows of a tile from `first` on, or None."""
    if data is None:
        return None
    else:
        return data[first:]


@jit_inner
def block(data: Data, rows: int, cols: int) -> Data:
    """Return data[:rows, :cols], or None."""
    if data is None:
        return None
    else:
        return data[:rows, :cols]


@jit_inner
def transposed(data: Data, rows: int, cols: int) -> Data:
    """Return data[rows, cols]^T in memory of its own, or None."""
    if data is None:
        return None
    else:
        result = np.empty((cols, rows), data.dtype)
        for row in range(rows):
            for col in range(cols):
                result[col, row] = data[row, col]
        return result


@jit_inner
def copy_block(dst: Data, src: Data, row: int, col: int, rows: int, cols: int) -> None:
    """Copy src[row:row+rows, col:col+cols] to the top left corner of dst."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = src[row + r, col + c]


@jit_inner
def copy_to_block(dst: Data, row: int, col: int, src: Data, rows: int, cols: int) -> None:
    """Copy the top left corner of src to dst[row:row+rows, col:col+cols]."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[row + r, col + c] = src[r, c]


@jit_inner
def copy_rows(
    dst: Data,
    src: Data,
    indices: npt.NDArray[np.int32],
    first_row: int,
    rows: int,
    col: int,
    cols: int,
) -> None:
    """Copy the rows src[first_row + indices[r], col:col+cols] to the top of dst."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = src[first_row + indices[r], col + c]


@jit_inner
def multiply_accumulate(
    acc: Data, a: Data, b: Data, m: int, n: int, k: int, acc_format: int, accumulate: bool
) -> None:
    """acc[m, n] (+)= a[m, k] b[k, n], summed in the order of k.

    Products of operands of up to 12 significant bits are exact in FP32. Each sum is rounded to
    FP32, and then to FP16 if that is the accumulator's format; INT32 accumulators wrap.
    """
    if acc is None:
        return
    for i in range(m):
        if not accumulate:
            for j in range(n):
                acc[i, j] = 0
        for step in range(k):
            left = a[i, step]
            for j in range(n):
                acc[i, j] += left * b[step, j]
            if acc_format == FP16:
                round_tile(acc[i : i + 1], 1, n, FP16)


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
def fill(dst: Data, value: float, rows: int, cols: int) -> None:
    """Set every element to `value`."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = value


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
def subtract_row(dst: Data, a: Data, row: Data, rows: int, cols: int, fmt: int) -> None:
    """Subtract row[0, c] from column c."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = a[r, c] - row[0, c]
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
def row_max(dst: Data, src: Data, rows: int, cols: int) -> None:
    """dst[r, 0] = maximum of row r; NaN wins."""
    if dst is None:
        return
    for r in range(rows):
        best = src[r, 0]
        for c in range(1, cols):
            best = larger(best, src[r, c])
        dst[r, 0] = best


@jit_inner
def row_sum(dst: Data, src: Data, rows: int, cols: int, fmt: int) -> None:
    """dst[r, 0] = sum of row r by halving: the second half is added to the first, and so on."""
    if dst is None:
        return
    work = np.empty((1, cols), src.dtype)
    for r in range(rows):
        for c in range(cols):
            work[0, c] = src[r, c]
        width = cols
        while width > 1:
            half = (width + 1) // 2
            for c in range(width - half):
                work[0, c] += work[0, c + half]
            round_tile(work, 1, width - half, fmt)
            width = half
        dst[r, 0] = work[0, 0]


@jit_inner
def mask_above_diagonal(dst: Data, row: int, col: int, rows: int, cols: int) -> None:
    """Set to -inf what lies right of the diagonal; dst[0, 0] is element (row, col)."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(max(0, row + r + 1 - col), cols):
            dst[r, c] = -np.inf
