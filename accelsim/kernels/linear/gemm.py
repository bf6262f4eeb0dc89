"""Matrix product C = A B, output-stationary: one work item per tile of C.

HBM reads with tiles of t_m x t_n: ceil(n / t_n) A + ceil(m / t_m) B bytes; writes: C.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import PositiveInt

from accelsim.config.spec import Spec
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.linear.tiles import (
    BufferSize,
    Step,
    Tiles,
    candidates,
    check_packing,
    estimate_cycles,
    fastest_tiles,
    product_cycles,
)
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import begin_item, load, matmul, move, store, tile
from accelsim.program.program import Program
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

_INT32_LIMIT = 2**31


class GemmParameters(Spec):
    """Choices of the gemm kernel."""

    tile_m: PositiveInt | None = None
    """Rows of a tile of A and C, in elements; absent: chosen."""
    tile_n: PositiveInt | None = None
    """Columns of a tile of B and C, in elements; absent: chosen."""
    tile_k: PositiveInt | None = None
    """Depth of one step, in elements; absent: chosen."""
    output_format: Format | None = None
    """Format of C in HBM; absent: that of the operands, or int32 for integers."""


class _Shape(NamedTuple):
    """Sizes in elements."""

    m: int
    n: int
    k: int
    tile_m: int
    tile_n: int
    tile_k: int


class _Formats(NamedTuple):
    """Format codes of operands, accumulator and output."""

    operand: int
    accumulator: int
    output: int


class _Operands(NamedTuple):
    """Matrices in HBM."""

    a: Any
    b: Any
    c: Any


@jit
def gemm(p, shape, fmt, hbm, a_buffer, b_buffer, acc_buffer, c_buffer):
    """All tiles of C, row by row."""
    tiles_m, tiles_n = -(-shape.m // shape.tile_m), -(-shape.n // shape.tile_n)
    steps = -(-shape.k // shape.tile_k)
    for item in range(tiles_m * tiles_n):
        begin_item(p, 0)
        row, col = item // tiles_n * shape.tile_m, item % tiles_n * shape.tile_n
        rows, cols = min(shape.tile_m, shape.m - row), min(shape.tile_n, shape.n - col)
        acc, result = tile(acc_buffer, item), tile(c_buffer, item)
        for step in range(steps):
            start = step * shape.tile_k
            depth = min(shape.tile_k, shape.k - start)
            left, right = tile(a_buffer, step), tile(b_buffer, step)
            load(p, left, hbm.a, row, start, rows, depth)
            load(p, right, hbm.b, start, col, depth, cols)
            matmul(p, acc, left, right, rows, cols, depth, fmt.operand, fmt.accumulator, step > 0)
        move(p, result, acc, rows, cols, fmt.accumulator, fmt.output)
        store(p, hbm.c, row, col, result, rows, cols)


class Gemm(Kernel):
    """Matrix product."""

    name: ClassVar[str] = "gemm"
    summary: ClassVar[str] = "matrix product, output-stationary, double-buffered"
    problem_kind: ClassVar[str] = "gemm"
    parameters: ClassVar[type[Spec]] = GemmParameters

    @classmethod
    def record(
        cls,
        problem: GemmProblem,
        machine: MachineSpec,
        parameters: GemmParameters,
        tensors: GemmTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, C [m, n]."""
        name = f"gemm on {problem.name}"
        formats = _formats(problem, parameters)
        _check_accumulator(name, problem)
        _check_packing(name, problem, parameters, formats)
        tiles = _choose_tiles(name, problem, machine, parameters, formats)
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        hbm = _Operands(
            builder.tensor(
                "a", "input", problem.m, problem.k, problem.dtype, tensors and tensors.a
            ),
            builder.tensor(
                "b", "input", problem.k, problem.n, problem.dtype, tensors and tensors.b
            ),
            builder.tensor("c", "output", problem.m, problem.n, formats[2]),
        )
        buffers = [builder.buffer(**size._asdict()) for size in _buffers(tiles, formats)]
        shape = _Shape(problem.m, problem.n, problem.k, tiles.m, tiles.n, tiles.k)
        codes = _Formats(*(fmt.code for fmt in formats))
        items = ceil_div(problem.m, tiles.m) * ceil_div(problem.n, tiles.n)
        program = builder.record(gemm, items, shape, codes, hbm, *buffers)
        return program, hbm.c.data

    @classmethod
    def oracle(cls, problem: GemmProblem, tensors: GemmTensors) -> Array:
        """Return A B in float64."""
        return tensors.a.astype(np.float64) @ tensors.b.astype(np.float64)


def _formats(problem: GemmProblem, parameters: GemmParameters) -> tuple[Format, Format, Format]:
    """Return the formats of operands, accumulator and output."""
    if problem.dtype.is_integer:
        return problem.dtype, Format.INT32, parameters.output_format or Format.INT32
    return problem.dtype, Format.FP32, parameters.output_format or problem.dtype


def _check_accumulator(name: str, problem: GemmProblem) -> None:
    """Refuse integer sums that some input could push out of the 32-bit accumulator."""
    if problem.dtype.is_integer:
        worst = problem.k * 4 ** (problem.dtype.bits - 1)
        if worst >= _INT32_LIMIT:
            raise DoesNotFitError(
                f"{name}: sums over k = {problem.k} products of {problem.dtype} can reach {worst}, "
                f"more than a 32-bit accumulator holds"
            )


def _check_packing(
    name: str,
    problem: GemmProblem,
    parameters: GemmParameters,
    formats: tuple[Format, Format, Format],
) -> None:
    """Refuse tiles that would begin in the middle of a byte, where two 4-bit elements lie."""
    operand, _, output = formats
    own = {
        "tile_k": (parameters.tile_k, problem.k, operand.bits),
        "tile_n": (parameters.tile_n, problem.n, min(operand.bits, output.bits)),
    }
    check_packing(name, own)


def _buffers(tiles: Tiles, formats: tuple[Format, ...]) -> list[BufferSize]:
    """Return the buffers of a tiling: operands and results double-buffered."""
    operand, accumulator, output = formats
    return [
        BufferSize("a", tiles.m, tiles.k, operand, 2),
        BufferSize("b", tiles.k, tiles.n, operand, 2),
        BufferSize("acc", tiles.m, tiles.n, accumulator, tiles.acc_slots, "accumulator"),
        BufferSize("c", tiles.m, tiles.n, output, 2),
    ]


def _choose_tiles(
    name: str,
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: GemmParameters,
    formats: tuple[Format, ...],
) -> Tiles:
    """Return the tiling of the lowest estimated time among those asked for that fit."""

    def estimate(tiles: Tiles) -> float:
        return estimate_cycles(problem, machine, tiles, _step(problem, machine, tiles))

    return fastest_tiles(
        name,
        machine,
        candidates(problem, (parameters.tile_m, parameters.tile_n, parameters.tile_k)),
        lambda tiles: _buffers(tiles, formats),
        estimate,
    )


def _step(problem: GemmProblem, machine: MachineSpec, tiles: Tiles) -> Step:
    """Return what one step along k asks of the cube and the load queue."""
    work = f"gemm on {problem.name}"
    return Step(
        compute_cycles=product_cycles(work, machine, tiles, problem.dtype),
        latency_cycles=machine.cube_for(work).latency_cycles,
        operand_bytes=(
            tiles.m * tiles.k * problem.dtype.bits / BITS_PER_BYTE,
            tiles.n * tiles.k * problem.dtype.bits / BITS_PER_BYTE,
        ),
    )
