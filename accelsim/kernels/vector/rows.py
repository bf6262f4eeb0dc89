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
from accelsim.kernels.tiling import first_fit, tile_sizes
from accelsim.kernels.vector.functions import COPY, FUNCTIONS, SILU_MUL, Buffers, apply
from accelsim.kernels.vector.oracle import exact_result
from accelsim.kernels.vector.streamed import NUM_COLUMNS, streamed
from accelsim.numerics.formats import FP32, Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import begin_item, convert, load, store, tile
from accelsim.program.program import Program
from accelsim.program.recording import Tensor
from accelsim.units import ceil_div
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors

ROW_FUNCTIONS = ("softmax", "rmsnorm", "layernorm")
_LARGEST_ROWS, _LARGEST_ELEMENTS, _SMALLEST_ELEMENTS = 64, 1 << 16, 256
_SHORTEST_STEP = 64


class VectorParameters(Spec):
    """Choices of the vector kernel."""

    tile_rows: Size | None = None
    """Rows of a tile of a row function; absent: enough to fill the cores, of what fits."""
    tile_cols: Size | None = None
    """Columns of a step of a row function, whose rows are then read twice; absent: whole rows on
    chip, or the largest steps where these do not fit."""
    stages: Size = 2
    """Steps or tiles of the operands on chip at a time, one in use and the others on their way."""
    tile_elements: Size | None = None
    """Elements of a tile of an element-wise function; absent: as for rows."""


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
        tile_rows, tile_cols = first_fit(
            name,
            _candidates(problem, machine, parameters),
            lambda builder, sizes: _allocate(builder, problem, parameters.stages, *sizes),
            machine,
        )
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        hbm = _declare_operands(builder, problem, tensors)
        buffers = _allocate(builder, problem, parameters.stages, tile_rows, tile_cols)
        shape = _shape_of(problem, tile_rows, tile_cols)
        items, entry = ceil_div(shape.rows, tile_rows), streamed
        if not _in_steps(problem, tile_cols):
            items, entry = items * ceil_div(shape.cols, tile_cols), vector
        program = builder.record(entry, items, shape, problem.dtype.code, hbm, buffers)
        program = program.with_parameters(**_chosen(problem, tile_rows, tile_cols))
        output = hbm.result.data
        return program, None if output is None else output.reshape(problem.rows, problem.cols)

    @classmethod
    def oracle(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the function in float64."""
        return exact_result(problem, tensors)


def _matrix(problem: VectorProblem) -> tuple[int, int]:
    """Return rows and columns as the kernel sees them."""
    if problem.function in ROW_FUNCTIONS:
        return problem.rows, problem.cols
    return 1, problem.rows * problem.cols


def _shape_of(problem: VectorProblem, tile_rows: int, tile_cols: int) -> _Shape:
    return _Shape(
        FUNCTIONS.index(problem.function),
        *_matrix(problem),
        tile_rows,
        tile_cols,
        1 / problem.cols,
        problem.epsilon,
    )


def _in_steps(problem: VectorProblem, tile_cols: int) -> bool:
    """Whether tiles of so many columns hold steps of rows that belong together."""
    return problem.function in ROW_FUNCTIONS and tile_cols < problem.cols


def _chosen(problem: VectorProblem, tile_rows: int, tile_cols: int) -> dict[str, int]:
    """Return the parameters that stand for a tile; whole rows on chip have no steps."""
    if problem.function not in ROW_FUNCTIONS:
        return {"tile_elements": tile_cols}
    steps = {"tile_cols": tile_cols} if _in_steps(problem, tile_cols) else {}
    return {"tile_rows": tile_rows, **steps}


def _candidates(
    problem: VectorProblem, machine: MachineSpec, parameters: VectorParameters
) -> list[tuple[int, int]]:
    """Return tiles, the best first: what was asked for, or halvings of a core's share."""
    rows, cols = _matrix(problem)
    if problem.function in ROW_FUNCTIONS:
        share = min(_LARGEST_ROWS, ceil_div(rows, machine.cores))
        own = [parameters.tile_rows] if parameters.tile_rows else tile_sizes(share, 1)
        steps = [parameters.tile_cols] if parameters.tile_cols else _halvings(cols, _SHORTEST_STEP)
        return [(min(size, rows), min(step, cols)) for step in steps for size in own]
    share = max(min(_LARGEST_ELEMENTS, ceil_div(cols, machine.cores)), _SMALLEST_ELEMENTS)
    asked = parameters.tile_elements
    sizes = [asked] if asked else [1 << (share - 1).bit_length() >> i for i in range(9)]
    return [(1, min(size, cols)) for size in sizes]


def _halvings(cols: int, shortest: int) -> list[int]:
    """Return all columns, and what a step of half, a quarter and so on has, down to `shortest`."""
    halves = max(1, (cols // shortest).bit_length())
    return [ceil_div(cols, 1 << i) for i in range(halves)]


def _declare_operands(
    builder: ProgramBuilder, problem: VectorProblem, tensors: VectorTensors | None
) -> _Operands:
    shape, fmt = _matrix(problem), problem.dtype

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
    columns = NUM_COLUMNS if _in_steps(problem, cols) else 1
    column = builder.buffer("column", rows, 1, fmt, slots=columns) if has_column else x
    has_work = problem.function != "softmax" and not _in_steps(problem, cols)
    work = builder.buffer("work", rows, cols, fmt) if has_work else x
    return Buffers(x_stored, y_stored, x, y, work, result, column)
