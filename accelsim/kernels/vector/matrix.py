"""A function of each element or each row of a matrix: softmax, norms, activations, a copy.

One work item per tile. A tile of a row function holds whole rows, or steps of them
(`accelsim.kernels.vector.streamed`) where they do not fit; for element-wise functions the matrix is
one long row, cut anywhere. HBM traffic: every operand read once, or twice by row functions in
steps, the result written once.
"""

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array
from accelsim.kernels.blocks import block_at
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.vector.base import VectorFunction, VectorParameters
from accelsim.kernels.vector.functions import FUNCTIONS, SILU_MUL, Layout, apply
from accelsim.kernels.vector.operands import Operand, computed, load_operand, store_result
from accelsim.kernels.vector.oracle import exact_result
from accelsim.kernels.vector.streamed import NUM_COLUMNS, streamed
from accelsim.kernels.vector.tiles import (
    ROW_FUNCTIONS,
    Tile,
    choose_tile,
    in_steps,
    matrix_of,
)
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Program
from accelsim.program.recording import Buffer, Tensor
from accelsim.runtime.jit import jit
from accelsim.units import ceil_div
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors


@jit
def vector(p, k):
    """All tiles, row by row, computed in FP32."""
    blocks = -(-k.x.matrix.cols // k.tile_cols)
    for item in range(-(-k.x.matrix.rows // k.tile_rows) * blocks):
        al.begin_item(p, 0)
        row, col = item // blocks * k.tile_rows, item % blocks * k.tile_cols
        at = block_at(k.x.matrix, row, col, k.tile_rows, k.tile_cols)
        load_operand(p, item, at, k.x)
        if k.function == SILU_MUL:
            load_operand(p, item, at, k.y)
        x = computed(p, item, at, k.x)
        y = computed(p, item, at, k.y) if k.function == SILU_MUL else x
        column, work = al.tile(k.column, 0, x.rows, 1), al.tile(k.work, 0, x.rows, x.cols)
        apply(p, k.function, x, y, column, work, k.epsilon)
        store_result(p, item, at, x, k.result)


class MatrixFunction(VectorFunction):
    """A function of FUNCTIONS."""

    @classmethod
    def record(
        cls,
        problem: VectorProblem,
        machine: MachineSpec,
        parameters: VectorParameters,
        tensors: VectorTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the result [rows, cols]."""
        name = f"vector on {problem.name}"
        tile_rows, tile_cols = _choose_tile(problem, machine, parameters)[0]
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        layout = _layout_of(builder, problem, parameters.stages, tile_rows, tile_cols, tensors)
        matrix = layout.result.matrix
        items, entry = ceil_div(matrix.rows, tile_rows), streamed
        if not in_steps(problem, tile_cols):
            items, entry = items * ceil_div(matrix.cols, tile_cols), vector
        program = builder.record(entry, items, layout)
        program = program.with_parameters(**_chosen(problem, tile_rows, tile_cols))
        output = matrix.data
        return program, None if output is None else output.reshape(problem.rows, problem.cols)

    @classmethod
    def estimated_cycles(
        cls, problem: VectorProblem, machine: MachineSpec, parameters: VectorParameters
    ) -> float:
        """Return the time that the chosen tile should take; raises DoesNotFitError."""
        return _choose_tile(problem, machine, parameters)[1]

    @classmethod
    def exact(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the function in float64."""
        return exact_result(problem, tensors)


@remembered
def _choose_tile(
    problem: VectorProblem, machine: MachineSpec, parameters: VectorParameters
) -> tuple[Tile, float]:
    """Return the tile of the lowest estimated time, and that time; raises DoesNotFitError."""
    asked = (
        parameters.tile_rows,
        parameters.tile_cols,
        parameters.tile_elements,
        parameters.stages,
    )

    def allocate(builder: ProgramBuilder, rows: int, cols: int) -> None:
        _allocate(builder, problem, parameters.stages, rows, cols)

    return choose_tile(f"vector on {problem.name}", problem, machine, asked, allocate)


def _chosen(problem: VectorProblem, tile_rows: int, tile_cols: int) -> dict[str, int]:
    """Return the parameters that stand for a tile; whole rows on chip have no steps."""
    if problem.function not in ROW_FUNCTIONS:
        return {"tile_elements": tile_cols}
    steps = {"tile_cols": tile_cols} if in_steps(problem, tile_cols) else {}
    return {"tile_rows": tile_rows, **steps}


def _layout_of(
    builder: ProgramBuilder,
    problem: VectorProblem,
    stages: int,
    tile_rows: int,
    tile_cols: int,
    tensors: VectorTensors | None,
) -> Layout:
    x, y, result = _declare_matrices(builder, problem, tensors)
    own = _allocate(builder, problem, stages, tile_rows, tile_cols)
    for name in ("y", "y_vector", "column", "work"):
        own.setdefault(name, builder.no_buffer(problem.dtype if name == "y" else Format.FP32))
    return Layout(
        function=FUNCTIONS.index(problem.function),
        epsilon=problem.epsilon,
        tile_rows=tile_rows,
        tile_cols=tile_cols,
        x=Operand(x, own["x"], own["x_vector"]),
        y=Operand(y, own["y"], own["y_vector"]),
        result=Operand(result, own["result"], own["x_vector"]),
        column=own["column"],
        work=own["work"],
    )


def _declare_matrices(
    builder: ProgramBuilder, problem: VectorProblem, tensors: VectorTensors | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Place x, y if the function has it, and the result in HBM."""
    shape, fmt = matrix_of(problem), problem.dtype

    def operand(name: str) -> Tensor:
        data = None if tensors is None else getattr(tensors, name).reshape(shape)
        return builder.tensor(name, "input", *shape, fmt, data)

    x = operand("x")
    y = operand("y") if problem.function == "silu_mul" else builder.no_tensor(fmt)
    return x, y, builder.tensor("result", "output", *shape, fmt)


def _allocate(
    builder: ProgramBuilder, problem: VectorProblem, stages: int, rows: int, cols: int
) -> dict[str, Buffer]:
    """Declare the buffers that the function needs; what is not converted has one for both."""
    stored, fmt, function = problem.dtype, Format.FP32, problem.function
    is_mixed = stored != fmt and function != "copy"
    operands = ("x", "y") if function == "silu_mul" else ("x",)
    own = {name: builder.buffer(name, rows, cols, stored, slots=stages) for name in operands}
    for name in operands:
        converted = f"{name}_vector"
        own[converted] = builder.buffer(converted, rows, cols, fmt) if is_mixed else own[name]
    own["result"] = builder.buffer("result", rows, cols, stored, slots=2) if is_mixed else own["x"]
    if function in ROW_FUNCTIONS:
        slots = NUM_COLUMNS if in_steps(problem, cols) else 1
        own["column"] = builder.buffer("column", rows, 1, fmt, slots=slots)
    if function not in ("copy", "softmax") and not in_steps(problem, cols):
        own["work"] = builder.buffer("work", rows, cols, fmt)
    return own
