"""Fast Walsh-Hadamard transforms of tiles, compiled; the conventions of `numerics.views` hold.

Rows (or columns) are cut into blocks of a power of two elements. A block is multiplied with the
Hadamard matrix in Sylvester's order, H[i, j] = (-1)^popcount(i & j), divided by the root of its
size. Stage by stage the sum and the difference of two elements take their places, which are 1, 2,
4, ... apart (Fino and Algazi, "Unified Matrix Treatment of the Fast Walsh-Hadamard Transform", IEEE
Transactions on Computers C-25, 1976). Every stage, and the product with the factor at the end, is
rounded to `fmt`.
"""

import math

import numpy as np

from accelsim.numerics.rounding import round_tile
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit


@jit
def hadamard_rows(tile: Data, rows: int, cols: int, block: int, fmt: int) -> None:
    """Transform every block of `block` elements of a row, in place."""
    if tile is None:
        return
    for r in range(rows):
        row = tile[r : r + 1]
        distance = 1
        while distance < block:
            for first in range(0, cols, 2 * distance):
                for c in range(first, first + distance):
                    left, right = row[0, c], row[0, c + distance]
                    row[0, c], row[0, c + distance] = left + right, left - right
            round_tile(row, 1, cols, fmt)
            distance *= 2
    _normalize(tile, rows, cols, block, fmt)


@jit
def hadamard_columns(tile: Data, rows: int, cols: int, block: int, fmt: int) -> None:
    """Transform every block of `block` elements of a column, in place."""
    if tile is None:
        return
    distance = 1
    while distance < block:
        for first in range(0, rows, 2 * distance):
            for r in range(first, first + distance):
                for c in range(cols):
                    upper, lower = tile[r, c], tile[r + distance, c]
                    tile[r, c], tile[r + distance, c] = upper + lower, upper - lower
        round_tile(tile, rows, cols, fmt)
        distance *= 2
    _normalize(tile, rows, cols, block, fmt)


@jit
def _normalize(tile: Data, rows: int, cols: int, block: int, fmt: int) -> None:
    factor = np.float32(1 / math.sqrt(block))
    for r in range(rows):
        for c in range(cols):
            tile[r, c] *= factor
    round_tile(tile, rows, cols, fmt)
