"""The norm of a decoder layer with the residual added before it, in one pass over both.

sum = x + y and result = sum / sqrt(mean(sum^2) + epsilon), rows of x and the residual y; the norm
is of the sum in FP32, before it is rounded, as FlashInfer's FusedAddRMSNorm takes it. No learned
weights. HBM traffic: x, y, sum and result once each, 4 rows cols w bytes with w bytes an element.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelsim.kernels.base import Array
from accelsim.kernels.blocks import block_at
from accelsim.kernels.vector.base import VectorParameters
from accelsim.kernels.vector.functions import divide_by_root_mean_square
from accelsim.kernels.vector.operands import (
    Operand,
    computed,
    load_operand,
    operand_tiles,
    result_tiles,
    store_result,
)
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.recording import Buffer
from accelsim.runtime.jit import jit
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors


class Layout(NamedTuple):
    """Rows of a tile, operands, and what the norm needs besides."""

    tile_rows: int
    epsilon: float
    x: Operand
    y: Operand
    sum: Operand
    result: Operand
    column: Buffer
    work: Buffer


@jit
def add_rmsnorm(p, k):
    """All tiles of rows, computed in FP32."""
    rows, cols = k.x.matrix.rows, k.x.matrix.cols
    for item in range(-(-rows // k.tile_rows)):
        al.begin_item(p, 0)
        at = block_at(k.x.matrix, item * k.tile_rows, 0, k.tile_rows, cols)
        load_operand(p, item, at, k.x)
        load_operand(p, item, at, k.y)
        x, y = computed(p, item, at, k.x), computed(p, item, at, k.y)
        al.add(p, x, x, y)
        store_result(p, item, at, x, k.sum)
        work, column = al.tile(k.work, 0, at.rows, cols), al.tile(k.column, 0, at.rows, 1)
        divide_by_root_mean_square(p, x, work, column, k.epsilon)
        store_result(p, item, at, x, k.result)


class AddRmsnorm(RowFunction):
    """RMS norm of x and a residual."""

    entry: ClassVar[Any] = staticmethod(add_rmsnorm)

    @classmethod
    def cost(cls, problem: VectorProblem) -> RowCost:
        """Return what one row takes: both operands, and both results."""
        both = 2 * row_bytes(problem, problem.cols)
        ops = ["add", "multiply", "reduce", "divide"]
        in_place = problem.dtype == Format.FP32
        if not in_place:
            ops += 4 * ["convert"]
        of_column = (("multiply", 1), ("add", 1), ("square_root", 1))
        return RowCost(both, both, (*((op, problem.cols) for op in ops), *of_column), in_place)

    @classmethod
    def buffers(
        cls, builder: ProgramBuilder, problem: VectorProblem, asked: VectorParameters, rows: int
    ) -> dict[str, Any]:
        """Declare the tiles of so many rows."""
        shape, fmt = (rows, problem.cols), problem.dtype
        x = operand_tiles(builder, "x", shape, fmt, asked.stages)
        return {
            "x": x,
            "y": operand_tiles(builder, "y", shape, fmt, asked.stages),
            "sum": result_tiles(builder, "sum", shape, fmt, x.computed),
            "result": result_tiles(builder, "result", shape, fmt, x.computed),
            "column": builder.buffer("column", rows, 1, Format.FP32),
            "work": builder.buffer("work", *shape, Format.FP32),
        }

    @classmethod
    def layout(
        cls,
        builder: ProgramBuilder,
        problem: VectorProblem,
        asked: VectorParameters,
        tensors: VectorTensors | None,
    ) -> Layout:
        """Place both operands and both results, and declare their tiles."""
        rows = asked.tile_rows or 1
        shape, fmt = (problem.rows, problem.cols), problem.dtype
        matrices = {
            "x": builder.tensor("x", "input", *shape, fmt, tensors and tensors.x),
            "y": builder.tensor("y", "input", *shape, fmt, tensors and tensors.y),
            "sum": builder.tensor("sum", "output", *shape, fmt),
            "result": builder.tensor("result", "output", *shape, fmt),
        }
        own = cls.buffers(builder, problem, asked, rows)
        operands = {name: Operand(each, *own[name]) for name, each in matrices.items()}
        return Layout(rows, problem.epsilon, **operands, column=own["column"], work=own["work"])

    @classmethod
    def output(cls, data: dict[str, Array]) -> Array:
        """Return sum and norm, [2, rows, cols]."""
        return np.stack([data["sum"], data["result"]])

    @classmethod
    def exact(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return sum and norm in float64, [2, rows, cols]."""
        total = tensors.x.astype(np.float64) + np.asarray(tensors.y, np.float64)
        mean = (total**2).mean(axis=1, keepdims=True)
        return np.stack([total, total / np.sqrt(mean + problem.epsilon)])
