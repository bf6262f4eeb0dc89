"""Greedy sampling: the column of the largest element of each row, of equal ones the first.

A row, the scores of a vocabulary, is read once, in steps of `tile_cols` columns; a later step
counts only where it is larger than all before. HBM traffic, with w bytes an element:
rows (cols w + 4).
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import block_at
from accelsim.kernels.vector import first_maximum
from accelsim.kernels.vector.operands import Operand, computed, load_operand
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace
from accelsim.workload.vector import NUMBER_BYTES

_STEP_COLS = 4096
"""Columns of a step, unless asked otherwise: long enough to hide the start of an op."""
_LOWEST = float(np.finfo(np.float32).min)


class _Best(NamedTuple):
    """One number for each row of a tile."""

    value: al.Tile
    """Largest element so far."""
    column: al.Tile
    """Its column."""
    own: al.Tile
    """Largest element of a step."""
    own_column: al.Tile
    stays: al.Tile
    """1 where no element of a step is larger than those before, else 0."""


class Layout(NamedTuple):
    """Rows and columns of a tile, the operand, the result and what the search needs."""

    tile_rows: int
    tile_cols: int
    x: Operand
    result: al.Tensor
    columns: al.Buffer
    """INT32."""
    best: al.Buffer
    marks: al.Buffer
    order: first_maximum.Order


@al.jit
def argmax(p, k):
    """All tiles of rows, computed in FP32."""
    for item in range(-(-k.x.matrix.rows // k.tile_rows)):
        al.begin_item(p, 0)
        row = item * k.tile_rows
        rows = min(k.tile_rows, k.x.matrix.rows - row)
        best = _nothing_yet(p, rows, k)
        falling = first_maximum.falling_order(p, k.order, k.tile_cols)
        for step in range(-(-k.x.matrix.cols // k.tile_cols)):
            at = block_at(k.x.matrix, row, step * k.tile_cols, k.tile_rows, k.tile_cols)
            load_operand(p, step, at, k.x)
            _take_step(p, computed(p, step, at, k.x), at.col, falling, best, k)
        columns = al.tile(k.columns, item, rows, 1)
        al.convert(p, columns, best.column)
        al.store(p, k.result, row, 0, columns)


@al.jit_inner
def _nothing_yet(p, rows, k):
    """What is known of so many rows before the first step."""
    value, column = al.tile(k.best, 0, rows, 1), al.tile(k.best, 1, rows, 1)
    own, own_column = al.tile(k.best, 2, rows, 1), al.tile(k.best, 3, rows, 1)
    al.fill(p, value, _LOWEST)
    al.fill(p, column, 0.0)
    return _Best(value, column, own, own_column, al.tile(k.best, 4, rows, 1))


@al.jit_inner
def _take_step(p, x, col, falling, best, k):
    """Bring the maxima and their columns up to date with a step, which begins at a column."""
    al.row_max(p, best.own, x)
    marks, order = al.tile(k.marks, 0, x.rows, x.cols), al.columns(falling, 0, x.cols)
    first_maximum.find_first(p, best.own_column, marks, x, best.own, order)
    first_maximum.column_of(p, best.own_column, best.own_column, col + falling.cols)
    al.at_least(p, best.stays, best.value, best.own)
    # column = own_column + stays (column - own_column), exact as all are whole numbers.
    al.subtract(p, best.column, best.column, best.own_column)
    al.multiply(p, best.column, best.column, best.stays)
    al.add(p, best.column, best.column, best.own_column)
    al.maximum(p, best.value, best.value, best.own)


class Argmax(RowFunction):
    """Column of the largest element of each row."""

    entry = staticmethod(argmax)

    @classmethod
    def steps(cls, problem: al.VectorProblem, asked: VectorParameters) -> dict[str, int]:
        """Return the columns of a step."""
        return {"tile_cols": min(asked.tile_cols or _STEP_COLS, problem.cols)}

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one row takes: four ops on its elements, eight on one number a step."""
        ops = ["reduce", "select", "multiply", "reduce"]
        if problem.dtype != al.Format.FP32:
            ops += ["convert"]
        of_step = [("add", 1)] * 8 * al.ceil_div(problem.cols, _STEP_COLS)
        ops_of_row = (*((op, problem.cols) for op in ops), *of_step)
        return RowCost(row_bytes(problem, problem.cols), NUMBER_BYTES, ops_of_row)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place operand and result, and declare the tiles."""
        return Layout(
            tile_rows=at.tile.rows,
            tile_cols=at.tile.cols,
            x=at.loaded("x"),
            result=at.made("result", 1, al.Format.INT32),
            columns=at.buffer("columns", 1, al.Format.INT32, slots=2),
            best=at.buffer("best", 1, slots=len(_Best._fields)),
            marks=at.buffer("marks", at.tile.cols),
            order=first_maximum.order_tiles(at.builder, at.tile.cols),
        )

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the columns, [rows, 1]."""
        return tensors.x.argmax(axis=1, keepdims=True)
