"""Sums and maxima of rows, columns and tiles; the conventions of `numerics.views` hold."""

import numpy as np

from accelsim.numerics.elementwise import larger
from accelsim.numerics.movement import copy_block
from accelsim.numerics.rounding import round_tile
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit_inner


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
def note_peak(peak: Data, src: Data, rows: int, cols: int) -> None:
    """peak[0] = the larger of itself and the largest magnitude of a tile; int64 [1]."""
    if src is None:
        return
    for r in range(rows):
        for c in range(cols):
            peak[0] = max(peak[0], abs(int(src[r, c])))
