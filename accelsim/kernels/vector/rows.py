"""A function of each element or each row of a matrix: softmax, norms, activations, a copy.

One work item per tile. A tile of a row function holds whole rows, or steps of them
(`accelsim.kernels.vector.streamed`) where they do not fit; for element-wise functions the matrix is
one long row, cut anywhere. HBM traffic: every operand read once, or twice by row functions in
steps, the result written once.
"""

from typing import ClassVar, NamedTuple

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.vector.functions import COPY, FUNCTIONS, SILU_MUL, Buffers, apply
from accelsim.kernels.vector.oracle import exact_result
from accelsim.kernels.vector.streamed import NUM_COLUMNS, streamed
from accelsim.kernels.vector.tiles import (
    ROW_FUNCTIONS,
    Tile,
    choose_tile,
    in_steps,
    matrix_of,
)
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import begin_item, convert, load, store, tile
from accelsim.program.program import Program
from accelsim.program.recording import Tensor
from accelsim.units import ceil_div
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors


class VectorParameters(Spec):
    """Choices of the vector kernel."""

    tile_rows: Size | None = None
    """Rows of a tile of a row function; absent: chosen."""
    tile_cols: Size | None = None
    """Columns of a step of a row function, whose rows are then read twice; absent: whole rows on
    chip, or chosen where these do not fit or take longer."""
    stages: Size = 2
    """Steps or tiles of the operands on chip at a time, one in use and the others on their way."""
    tile_elements: Size | None = None
    """Elements of a tile of an element-wise function; absent: chosen."""


class _Shape(NamedTuple):
    """Sizes in elements, and the scalars of the norms."""

    function: int
    rows: int
    cols: int
    tile_rows: int
    tile_cols: int
    inverse_cols: float
    epsilon: float


class _Operands(NamedTuple):
    """Matrices in HBM; without a second operand, y is x."""

    x: Tensor
    y: Tensor
    result: Tensor


@jit
def vector(p, shape, stored, hbm, b):
    """All tiles, row by row, computed in FP32; stored: format code of the tensors."""
    blocks = -(-shape.cols // shape.tile_cols)
    for item in range(-(-shape.rows // shape.tile_rows) * blocks):
        begin_item(p, 0)
        row, col = item // blocks * shape.tile_rows, item % blocks * shape.tile_cols
        rows, cols = min(shape.tile_rows, shape.rows - row), min(shape.tile_cols, shape.cols - col)
        x, y, result = tile(b.x_stored, item), tile(b.y_stored, item), tile(b.stored, item)
        load(p, x, hbm.x, row, col, rows, cols)
        if shape.function == SILU_MUL:
            load(p, y, hbm.y, row, col, rows, cols)
        if shape.function == COPY:
            store(p, hbm.result, row, col, x, rows, cols)
        else:
            own_x, own_y = tile(b.x, item), tile(b.y, item)
            if stored != FP32:
                convert(p, own_x, x, rows, cols, FP32, FP32)
                if shape.function == SILU_MUL:
                    convert(p, own_y, y, rows, cols, FP32, FP32)
            apply(p, shape.function, own_x, own_y, rows, cols, shape, FP32, b)
            if stored != FP32:
                convert(p, result, own_x, rows, cols, FP32, stored)
            store(p, hbm.result, row, col, result, rows, cols)


class Vector(Kernel):
    """A function of elements or rows."""

    name: ClassVar[str] = "vector"
    summary: ClassVar[str] = "softmax, norms, activations and copies of a matrix, tile by tile"
    problem_kind: ClassVar[str] = "vector"
    parameters: ClassVar[type[Spec]] = VectorParameters

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
        hbm = _declare_operands(builder, problem, tensors)
        buffers = _allocate(builder, problem, parameters.stages, tile_rows, tile_cols)
        shape = _shape_of(problem, tile_rows, tile_cols)
        items, entry = ceil_div(shape.rows, tile_rows), streamed
        if not in_steps(problem, tile_cols):
            items, entry = items * ceil_div(shape.cols, tile_cols), vector
        program = builder.record(entry, items, shape, problem.dtype.code, hbm, buffers)
        program = program.with_parameters(**_chosen(problem, tile_rows, tile_cols))
        output = hbm.result.data
        return program, None if output is None else output.reshape(problem.rows, problem.cols)

    @classmethod
    def estimated_cycles(
        cls, problem: VectorProblem, machine: MachineSpec, parameters: VectorParameters
    ) -> float:
        """Return the time that the chosen tile should take; raises DoesNotFitError."""
        return _choose_tile(problem, machine, parameters)[1]

    @classmethod
    def oracle(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
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


def _shape_of(problem: VectorProblem, tile_rows: int, tile_cols: int) -> _Shape:
    return _Shape(
        FUNCTIONS.index(problem.function),
        *matrix_of(problem),
        tile_rows,
        tile_cols,
        1 / problem.cols,
        problem.epsilon,
    )


def _chosen(problem: VectorProblem, tile_rows: int, tile_cols: int) -> dict[str, int]:
    """Return the parameters that stand for a tile; whole rows on chip have no steps."""
    if problem.function not in ROW_FUNCTIONS:
        return {"tile_elements": tile_cols}
    steps = {"tile_cols": tile_cols} if in_steps(problem, tile_cols) else {}
    return {"tile_rows": tile_rows, **steps}


def _declare_operands(
    builder: ProgramBuilder, problem: VectorProblem, tensors: VectorTensors | None
) -> _Operands:
    shape, fmt = matrix_of(problem), problem.dtype

    def operand(name: str) -> Tensor:
        data = None if tensors is None else getattr(tensors, name).reshape(shape)
        return builder.tensor(name, "input", *shape, fmt, data)

    x = operand("x")
    y = operand("y") if problem.function == "silu_mul" else x
    return _Operands(x, y, builder.tensor("result", "output", *shape, fmt))


def _allocate(
    builder: ProgramBuilder, problem: VectorProblem, stages: int, rows: int, cols: int
) -> Buffers:
    """Declare the buffers that the function needs; those of `Buffers` it does not are shared."""
    stored, fmt = problem.dtype, Format.FP32
    is_mixed = stored != fmt
    x_stored = builder.buffer("x", rows, cols, stored, slots=stages)
    if problem.function == "copy":
        return Buffers(*[x_stored] * 7)
    has_y, has_column = problem.function == "silu_mul", problem.function in ROW_FUNCTIONS
    y_stored = builder.buffer("y", rows, cols, stored, slots=stages) if has_y else x_stored
    x = builder.buffer("x_vector", rows, cols, fmt) if is_mixed else x_stored
    y = builder.buffer("y_vector", rows, cols, fmt) if is_mixed and has_y else y_stored
    result = builder.buffer("result", rows, cols, stored, slots=2) if is_mixed else x_stored
    columns = NUM_COLUMNS if in_steps(problem, cols) else 1
    column = builder.buffer("column", rows, 1, fmt, slots=columns) if has_column else x
    has_work = problem.function != "softmax" and not in_steps(problem, cols)
    work = builder.buffer("work", rows, cols, fmt) if has_work else x
    return Buffers(x_stored, y_stored, x, y, work, result, column)
