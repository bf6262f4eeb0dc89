"""Embedding: the rows of a table that the numbers of tokens name.

The numbers are loaded, and the rows gathered from their real addresses. HBM traffic, with w bytes
an element: rows (2 cols w + 4), a row in and out and a number for each token.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelsim.kernels.base import Array
from accelsim.kernels.vector.base import VectorParameters
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer, Tensor
from accelsim.runtime.jit import jit
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors
from accelsim.workload.vector import NUMBER_BYTES


class Layout(NamedTuple):
    """Rows of a tile, matrices in HBM and their tiles."""

    tile_rows: int
    tokens: Tensor
    table: Tensor
    result: Tensor
    numbers: Buffer
    x: Buffer


@jit
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

    entry: ClassVar[Any] = staticmethod(embedding)

    @classmethod
    def cost(cls, problem: VectorProblem) -> RowCost:
        """Return what one token takes; nothing is computed."""
        moved = row_bytes(problem, problem.cols)
        return RowCost(moved + NUMBER_BYTES, moved, is_in_place=True)

    @classmethod
    def buffers(
        cls, builder: ProgramBuilder, problem: VectorProblem, asked: VectorParameters, rows: int
    ) -> tuple[Buffer, Buffer]:
        """Declare the tiles of so many tokens: their numbers, and their rows."""
        return (
            builder.index_buffer("numbers", rows, slots=asked.stages),
            builder.buffer("x", rows, problem.cols, problem.dtype, slots=asked.stages),
        )

    @classmethod
    def layout(
        cls,
        builder: ProgramBuilder,
        problem: VectorProblem,
        asked: VectorParameters,
        tensors: VectorTensors | None,
    ) -> Layout:
        """Place tokens, table and result, and declare their tiles."""
        rows, cols, fmt = asked.tile_rows or 1, problem.cols, problem.dtype
        x, needed, vocabulary = tensors and tensors.x, problem.needed_rows, problem.table_rows or 1
        tokens = builder.index_tensor("numbers", problem.row_numbers)
        table = builder.tensor("x", "input", vocabulary, cols, fmt, x, needed)
        result = builder.tensor("result", "output", problem.rows, cols, fmt)
        return Layout(rows, tokens, table, result, *cls.buffers(builder, problem, asked, rows))

    @classmethod
    def exact(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the rows, [rows, cols]."""
        return tensors.x.astype(np.float64)[problem.row_numbers]
