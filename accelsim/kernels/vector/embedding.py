"""Embedding: the rows of a table that the numbers of tokens name.

The numbers are loaded, and the rows gathered from their real addresses. HBM traffic, with w bytes
an element: rows (2 cols w + 4), a row in and out and a number for each token.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace
from accelsim.workload.vector import NUMBER_BYTES


class Layout(NamedTuple):
    """Rows of a tile, matrices in HBM and their tiles."""

    tile_rows: int
    tokens: al.Tensor
    table: al.Tensor
    result: al.Tensor
    numbers: al.Buffer
    x: al.Buffer


@al.jit
def embedding(p, k):
    """All tiles of tokens."""
    rows, cols = k.result.rows, k.result.cols
    for item in range(-(-rows // k.tile_rows)):
        al.begin_item(p, 0)
        first = item * k.tile_rows
        count = min(k.tile_rows, rows - first)
        numbers, x = al.tile(k.numbers, item, 1, count), al.tile(k.x, item, count, cols)
        al.load(p, numbers, k.tokens, 0, first)
        al.gather(p, x, k.table, numbers, 0, 0)
        al.store(p, k.result, first, 0, x)


class Embedding(RowFunction):
    """Rows of a table."""

    entry = staticmethod(embedding)

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one token takes; nothing is computed."""
        moved = row_bytes(problem, problem.cols)
        return RowCost(moved + NUMBER_BYTES, moved, is_in_place=True)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place tokens, table and result, and declare the tiles of numbers and rows."""
        rows, cols, slots = at.tile.rows, at.problem.cols, at.asked.stages
        return Layout(
            tile_rows=rows,
            tokens=at.numbers(),
            table=at.table("x", cols),
            result=at.made("result", cols),
            numbers=at.builder.index_buffer("numbers", rows, slots=slots),
            x=at.buffer("x", cols, at.problem.dtype, slots),
        )

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the rows, [rows, cols]."""
        return tensors.x.astype(np.float64)[problem.row_numbers]
