"""Views of the numbers of a tile: parts of an array, or None where there are no numbers.

An array is float32, or int32 for integers, [rows, cols]. Its values are representable in the format
at hand. All arithmetic on tiles returns at once when the destination is None: Numba removes the
loops then, which is what makes recording without numbers fast. Loops fix the order of sums.
"""

from typing import Any

import numpy as np

from accelsim.runtime.jit import jit_inner

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
