"""The norm of a decoder layer with the residual added before it, in one pass over both.

sum = x + y and result = sum / sqrt(mean(sum^2) + epsilon), rows of x and the residual y; the norm
is of the sum in FP32, before it is rounded, as FlashInfer's FusedAddRMSNorm takes it. LayerNorm
(`add_layernorm`) takes the mean of the sum off before it (Ba et al., 2016). No learned weights.

HBM traffic: x, y, sum and result once each, rows cols (3 w + v) bytes with w bytes an element and v
of them of the result.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import block_at
from accelsim.kernels.vector.functions import divide_by_root_mean_square, subtract_mean
from accelsim.kernels.vector.operands import Operand, computed, load_operand, store_result
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace


class Layout(NamedTuple):
    """Rows of a tile, operands, and what the norm needs besides."""

    tile_rows: int
    has_mean: bool
    """Whether the mean is taken off."""
    epsilon: float
    x: Operand
    y: Operand
    sum: Operand
    result: Operand
    column: al.Buffer
    work: al.Buffer


@al.jit
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
        if k.has_mean:
            subtract_mean(p, x, column)
        divide_by_root_mean_square(p, x, work, column, k.epsilon)
        store_result(p, item, at, x, k.result)


class AddRmsnorm(RowFunction):
    """RMS norm or LayerNorm of x and a residual."""

    entry = staticmethod(add_rmsnorm)

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one row takes: both operands, and both results."""
        x_bytes = row_bytes(problem, problem.cols)
        stored_bytes = x_bytes * (1 + problem.output_dtype.bits / problem.dtype.bits)
        ops = ["add", "multiply", "reduce", "divide"]
        in_place = problem.dtype == al.Format.FP32
        ops += [] if in_place else 3 * ["convert"]
        ops += ["convert"] if problem.output_dtype != al.Format.FP32 else []
        of_column = [("multiply", 1), ("add", 1), ("square_root", 1)]
        if problem.function == "add_layernorm":
            ops += ["reduce", "add"]
            of_column += [("multiply", 1)]
        ops_of_row = (*((op, problem.cols) for op in ops), *of_column)
        return RowCost(2 * x_bytes, stored_bytes, ops_of_row, in_place)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place both operands and both results, and declare their tiles."""
        x, y = at.loaded("x"), at.loaded("y")
        total, plain = at.stored("sum", at.made("sum"), x.computed), None
        if at.asked.form is None:
            plain = at.result(x.computed)
        column, work = at.buffer("column", 1), at.buffer("work", at.problem.cols)
        return Layout(
            tile_rows=at.tile.rows,
            has_mean=at.problem.function == "add_layernorm",
            epsilon=at.problem.epsilon,
            x=x,
            y=y,
            sum=total,
            result=plain or at.coded("result", x.computed, work),
            column=column,
            work=work,
        )

    @classmethod
    def output(cls, problem: al.VectorProblem, data: dict[str, al.Array]) -> al.Array:
        """Return sum and norm, [2, rows, cols]."""
        return np.stack([data["sum"], data["result"]])

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return sum and norm in float64, [2, rows, cols]."""
        total = tensors.x.astype(np.float64) + np.asarray(tensors.y, np.float64)
        normed = total
        if problem.function == "add_layernorm":
            normed = total - total.mean(axis=1, keepdims=True)
        mean = (normed**2).mean(axis=1, keepdims=True)
        return np.stack([total, normed / np.sqrt(mean + problem.epsilon)])

    @classmethod
    def exact_result(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the norm in float64."""
        return np.asarray(cls.exact(problem, tensors)[1])
