"""A matrix in HBM cut into blocks, as jitted code walks through it."""

from typing import NamedTuple

from accelsim.kernels import language as al


class Block(NamedTuple):
    """Elements of a matrix: those of a tile, or fewer at the edges of the matrix."""

    row: int
    col: int
    rows: int
    cols: int


@al.jit_inner
def block_at(matrix, row, col, rows, cols):
    """The block of a matrix from an element on, of at most so many rows and columns."""
    return Block(row, col, min(rows, matrix.rows - row), min(cols, matrix.cols - col))
