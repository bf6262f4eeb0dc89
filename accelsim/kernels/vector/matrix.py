"""A function of each element or each row of a matrix: softmax, norms, activations, a copy.

One work item per tile. A tile of a row function holds whole rows, or steps of them
(`accelsim.kernels.vector.streamed`) where they do not fit; for element-wise functions the matrix is
one long row, cut anywhere. HBM traffic: every operand read once, or twice by row functions in
steps, the result written once.
"""

from typing import Any

from accelsim.kernels import language as al
from accelsim.kernels.blocks import block_at
from accelsim.kernels.estimate.footprint import Footprint
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.vector.base import VectorFunction
from accelsim.kernels.vector.functions import FUNCTIONS, PRODUCTS, Layout, apply
from accelsim.kernels.vector.operands import Operand, computed, load_operand, store_result
from accelsim.kernels.vector.oracle import exact_result
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.streamed import NUM_COLUMNS, streamed
from accelsim.kernels.vector.tiles import (
    ROW_FUNCTIONS,
    Tile,
    choose_tile,
    in_steps,
    is_in_place,
    matrix_of,
)
from accelsim.kernels.vector.workspace import Workspace

_WITHOUT_WORK = ("copy", "softmax", "relu", "relu_squared", "softcap")
"""Functions that need no tile beside those of x."""


@al.jit
def vector(p, k):
    """All tiles, row by row, computed in FP32."""
    blocks = -(-k.x.matrix.cols // k.tile_cols)
    for item in range(-(-k.x.matrix.rows // k.tile_rows) * blocks):
        al.begin_item(p, 0)
        row, col = item // blocks * k.tile_rows, item % blocks * k.tile_cols
        at = block_at(k.x.matrix, row, col, k.tile_rows, k.tile_cols)
        load_operand(p, item, at, k.x)
        if k.has_factor:
            load_operand(p, item, at, k.y)
        x = computed(p, item, at, k.x)
        y = computed(p, item, at, k.y) if k.has_factor else x
        column, work = al.tile(k.column, 0, x.rows, 1), al.tile(k.work, 0, x.rows, x.cols)
        apply(p, x, y, column, work, k)
        store_result(p, item, at, x, k.result)


class MatrixFunction(VectorFunction):
    """A function of FUNCTIONS."""

    @classmethod
    def choose(
        cls, problem: al.VectorProblem, machine: al.MachineSpec, asked: VectorParameters
    ) -> tuple[Tile, float]:
        """Return the fastest tile that fits, and its estimated time; raises DoesNotFitError."""
        return _choose(problem, machine, asked)

    @classmethod
    def loop(cls, at: Workspace) -> tuple[Any, int, Layout]:
        """Return the loop over tiles or over steps of rows, its work items and its layout."""
        matrix = matrix_of(at.problem)
        items = al.ceil_div(matrix.rows, at.tile.rows)
        if in_steps(at.problem, at.tile.cols):
            return streamed, items, _layout_of(at)
        return vector, items * al.ceil_div(matrix.cols, at.tile.cols), _layout_of(at)

    @classmethod
    def chosen(cls, at: Workspace) -> dict[str, int]:
        """Return the parameters that stand for a tile; whole rows on chip have no steps."""
        if at.problem.function not in ROW_FUNCTIONS:
            return {"tile_elements": at.tile.cols}
        steps = {"tile_cols": at.tile.cols} if in_steps(at.problem, at.tile.cols) else {}
        return {"tile_rows": at.tile.rows, **steps}

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the function in float64."""
        return exact_result(problem, tensors)


@remembered
def _choose(
    problem: al.VectorProblem, machine: al.MachineSpec, asked: VectorParameters
) -> tuple[Tile, float]:
    def declare(builder: al.ProgramBuilder | Footprint, rows: Any, cols: Any) -> None:
        _layout_of(Workspace(builder, problem, asked, Tile(rows, cols)))

    return choose_tile(f"vector on {problem.name}", problem, machine, asked, declare)


def _layout_of(at: Workspace) -> Layout:
    """Place the matrices and declare what the function needs; what is not converted has one buffer
    for both formats."""
    function, cols = at.problem.function, at.tile.cols
    fmt, result_fmt = at.problem.dtype, at.problem.output_dtype
    is_stepped, none = in_steps(at.problem, cols), at.builder.no_buffer()
    names = ("x", "y") if function in PRODUCTS else ("x",)
    stored = {name: at.buffer(name, cols, fmt, at.asked.stages) for name in names}
    own, result = stored, stored["x"]
    if fmt != al.Format.FP32 and not is_in_place(at.problem):
        own = {name: at.buffer(f"{name}_vector", cols) for name in names}
        result = own["x"]
    if result_fmt != al.Format.FP32 and not is_in_place(at.problem):
        result = at.buffer("result", cols, result_fmt, slots=2)
    operands = {name: Operand(at.given(name), stored[name], own[name]) for name in names}
    absent = Operand(at.builder.no_tensor(fmt), at.builder.no_buffer(fmt), none)
    column, work = none, none
    if function in ROW_FUNCTIONS:
        column = at.buffer("column", 1, slots=NUM_COLUMNS if is_stepped else 1)
    if function not in _WITHOUT_WORK and not is_stepped:
        work = at.buffer("work", cols)
    return Layout(
        function=FUNCTIONS.index(function),
        has_factor=function in PRODUCTS,
        epsilon=at.problem.epsilon,
        softcap=at.problem.softcap or 0.0,
        tile_rows=at.tile.rows,
        tile_cols=cols,
        x=operands["x"],
        y=operands.get("y", absent),
        result=Operand(at.made("result", fmt=result_fmt), result, own["x"]),
        column=column,
        work=work,
    )
