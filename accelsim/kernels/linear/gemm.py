"""Matrix product C = A B, output-stationary: one work item per tile of C.

HBM reads with tiles of t_m x t_n: ceil(n / t_n) A + ceil(m / t_m) B bytes; writes: C.
"""

from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import PositiveInt

from accelsim.config.spec import Spec
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.tiling import fit_error, tile_sizes
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import begin_item, load, matmul, move, store, tile
from accelsim.program.program import Program
from accelsim.units import ceil_div
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

_TILE_SIZES = tile_sizes(largest=512, smallest=16)
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
        tiles = _choose_tiles(name, problem, machine, parameters, formats)
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        hbm = _Operands(
            builder.tensor("a", "input", problem.m, problem.k, problem.dtype, tensors and tensors.a),
            builder.tensor("b", "input", problem.k, problem.n, problem.dtype, tensors and tensors.b),
            builder.tensor("c", "output", problem.m, problem.n, formats[2]),
        )
        buffers = _allocate(builder, tiles, formats)
        shape = _Shape(problem.m, problem.n, problem.k, *tiles)
        codes = _Formats(*(fmt.code for fmt in formats))
        items = ceil_div(problem.m, tiles[0]) * ceil_div(problem.n, tiles[1])
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


def _allocate(builder: ProgramBuilder, tiles: tuple[int, ...], formats: tuple[Format, ...]) -> Any:
    """Declare the buffers: operands and results double-buffered."""
    (tile_m, tile_n, tile_k), (operand, accumulator, output) = tiles, formats
    return (
        builder.buffer("a", tile_m, tile_k, operand, slots=2),
        builder.buffer("b", tile_k, tile_n, operand, slots=2),
        builder.buffer("acc", tile_m, tile_n, accumulator, slots=2, memory="accumulator"),
        builder.buffer("c", tile_m, tile_n, output, slots=2),
    )


def _choose_tiles(
    name: str,
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: GemmParameters,
    formats: tuple[Format, ...],
) -> tuple[int, int, int]:
    """Return the tiles asked for, or those of the lowest estimated time among the ones that fit."""
    wanted = (parameters.tile_m, parameters.tile_n, parameters.tile_k)
    lengths = (problem.m, problem.n, problem.k)
    sizes = (
        {min(size, length) for size in ([asked] if asked else _TILE_SIZES)}
        for asked, length in zip(wanted, lengths, strict=True)
    )
    best, error = None, None
    for tiles in product(*sizes):
        builder = ProgramBuilder(name, with_numbers=False)
        _allocate(builder, tiles, formats)
        misfit = fit_error(name, builder.buffers, machine)
        if misfit is None:
            estimate = _estimate_cycles(problem, machine, tiles)
            best = min(best, (estimate, tiles)) if best else (estimate, tiles)
        error = error or misfit
    if best is None:
        raise error or ValueError(f"{name}: no tiles to choose from")
    return best[1]


def _estimate_cycles(
    problem: GemmProblem, machine: MachineSpec, tiles: tuple[int, int, int]
) -> float:
    """Return the larger of compute time, in whole waves over the cores, and HBM time."""
    tile_m, tile_n, tile_k = tiles
    cube = machine.cube
    tiles_m, tiles_n = ceil_div(problem.m, tile_m), ceil_div(problem.n, tile_n)
    steps = ceil_div(problem.k, tile_k)
    waves = ceil_div(tiles_m * tiles_n, machine.cores)
    per_step = ceil_div(tile_m, cube.tile_m) * ceil_div(tile_n, cube.tile_n)
    per_step *= ceil_div(tile_k, cube.tile_k)
    compute = waves * steps * per_step / cube.rates.get(problem.dtype, 1.0)
    bits = problem.k * (tiles_n * problem.m + tiles_m * problem.n) * problem.dtype.bits
    hbm = bits / 8 / machine.hbm_bytes_per_cycle
    port_bits = waves * problem.k * (tile_m + tile_n) * problem.dtype.bits
    port = port_bits / 8 / machine.load.bandwidth
    # The first tiles of a core arrive before it can compute: short steps start sooner.
    fill = tile_k * (tile_m + tile_n) * problem.dtype.bits / 8 / machine.load.bandwidth
    return max(compute, hbm, port) + fill
