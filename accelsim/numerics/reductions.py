"""Arithmetic on tiles for `accelsim.program.language`; the conventions of `numerics.tile` hold."""

import numpy as np

from accelsim.jit import jit_inner
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.tile import Data, copy_block, larger, row_sum


@jit_inner
def copy_strided(dst: Data, src: Data, row: int, step: int, rows: int, cols: int) -> None:
    """Copy the first `cols` elements of the rows src[row + r step] to the top of dst."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = src[row + r * step, c]


@jit_inner
def column_sum(dst: Data, src: Data, rows: int, cols: int, fmt: int) -> None:
    """dst[0, c] = sum of column c by halving: the lower half is added to the upper, and so on."""
    if dst is None:
        return
    work = np.empty((rows, cols), src.dtype)
    copy_block(work, src, 0, 0, rows, cols)
    height = rows
    while height > 1:
        half = (height + 1) // 2
        for r in range(height - half):
            for c in range(cols):
                work[r, c] += work[r + half, c]
        round_tile(work, height - half, cols, fmt)
        height = half
    copy_block(dst, work, 0, 0, 1, cols)


@jit_inner
def segment_sum(dst: Data, src: Data, rows: int, cols: int, segment: int, fmt: int) -> None:
    """dst[r, i] = sum of segment i of row r by halving; the last segment may be shorter."""
    if dst is None:
        return
    for i in range((cols + segment - 1) // segment):
        start = i * segment
        row_sum(dst[:, i:], src[:, start:], rows, min(segment, cols - start), fmt)


@jit_inner
def tile_max(dst: Data, dst_col: int, src: Data, rows: int, cols: int) -> None:
    """dst[0, dst_col] = maximum of a tile; NaN wins."""
    if dst is None:
        return
    best = src[0, 0]
    for r in range(rows):
        for c in range(cols):
            best = larger(best, src[r, c])
    dst[0, dst_col] = best


@jit_inner
def at_least(dst: Data, a: Data, column: Data, rows: int, cols: int) -> None:
    """dst[r, c] = 0 where a[r, c] < column[r, 0], else 1, also where either is NaN."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = 0.0 if a[r, c] < column[r, 0] else 1.0
