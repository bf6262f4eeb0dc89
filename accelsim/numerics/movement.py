"""Copies between tensors and tiles; the conventions of `numerics.views` hold."""

import numpy as np
import numpy.typing as npt

from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit_inner


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
def copy_strided(dst: Data, src: Data, row: int, step: int, rows: int, cols: int) -> None:
    """Copy the first `cols` elements of the rows src[row + r step] to the top of dst."""
    if dst is None:
        return
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = src[row + r * step, c]
