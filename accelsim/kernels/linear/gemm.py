"""Matrix product C = A B, output-stationary: one work item per tile of C.

HBM reads with tiles of t_m x t_n: ceil(n / t_n) A + ceil(m / t_m) B bytes; writes: C.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import PositiveInt

from accelsim.config.spec import Spec
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.timing import matrix_steps
from accelsim.jit import jit
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.tiling import MEMORIES, capacity_bytes, fit_error, tile_sizes
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.language import begin_item, load, matmul, move, store, tile
from accelsim.program.program import Memory, Program
from accelsim.units import BITS_PER_BYTE, ceil_div
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


class _Tiles(NamedTuple):
    """Tile sizes in elements, and the slots of the accumulator."""

    m: int
    n: int
    k: int
    acc_slots: int


class _BufferSize(NamedTuple):
    """Arguments of `ProgramBuilder.buffer`."""

    name: str
    rows: int
    cols: int
    fmt: Format
    slots: int
    memory: Memory


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
    columns = {
        "tile_k": (parameters.tile_k, problem.k, operand.bits),
        "tile_n": (parameters.tile_n, problem.n, min(operand.bits, output.bits)),
    }
    for key, (size, length, bits) in columns.items():
        if size is not None and size < length and size * bits % BITS_PER_BYTE:
            raise DoesNotFitError(
                f"{name}: found {key} = {size}, but elements of {bits} bits are packed "
                f"{BITS_PER_BYTE // bits} to a byte; allowed: multiples of {BITS_PER_BYTE // bits}"
            )


def _buffers(tiles: _Tiles, formats: tuple[Format, ...]) -> list[_BufferSize]:
    """Return the buffers of a tiling: operands and results double-buffered."""
    operand, accumulator, output = formats
    return [
        _BufferSize("a", tiles.m, tiles.k, operand, 2, "scratchpad"),
        _BufferSize("b", tiles.k, tiles.n, operand, 2, "scratchpad"),
        _BufferSize("acc", tiles.m, tiles.n, accumulator, tiles.acc_slots, "accumulator"),
        _BufferSize("c", tiles.m, tiles.n, output, 2, "scratchpad"),
    ]


def _choose_tiles(
    name: str,
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: GemmParameters,
    formats: tuple[Format, ...],
) -> _Tiles:
    """Return the tiling of the lowest estimated time among those asked for that fit."""
    fitting = []
    tightest = None
    for tiles in _candidates(problem, parameters):
        sizes = _buffers(tiles, formats)
        if all(_used_bytes(sizes, m) <= capacity_bytes(machine, m) for m in MEMORIES):
            fitting.append((_estimate_cycles(problem, machine, tiles), tiles))
        tightest = sizes
    if fitting:
        return min(fitting)[1]
    builder = ProgramBuilder(name, with_numbers=False)
    for size in tightest or []:
        builder.buffer(**size._asdict())
    raise fit_error(name, builder.buffers, machine) or ValueError(f"{name}: no tiles to try")


def _candidates(problem: GemmProblem, parameters: GemmParameters) -> Iterator[_Tiles]:
    """Yield tilings, the smallest last; the accumulator is double-buffered or not."""
    asked = (parameters.tile_m, parameters.tile_n, parameters.tile_k)
    lengths = (problem.m, problem.n, problem.k)
    sizes = [
        sorted({min(size, length) for size in ([own] if own else _TILE_SIZES)}, reverse=True)
        for own, length in zip(asked, lengths, strict=True)
    ]
    for tile_m, tile_n, tile_k in product(*sizes):
        for acc_slots in (2, 1):
            yield _Tiles(tile_m, tile_n, tile_k, acc_slots)


def _used_bytes(sizes: list[_BufferSize], memory: str) -> float:
    own = (size for size in sizes if size.memory == memory)
    return sum(size.slots * size.rows * size.cols * size.fmt.bits / BITS_PER_BYTE for size in own)


def _estimate_cycles(problem: GemmProblem, machine: MachineSpec, tiles: _Tiles) -> float:
    """Return the time of all waves of tiles over the cores, each step at its slowest part."""
    cube = machine.cube_for(f"gemm on {problem.name}")
    num_tiles = ceil_div(problem.m, tiles.m) * ceil_div(problem.n, tiles.n)
    steps = ceil_div(problem.k, tiles.k)
    compute = matrix_steps(*tiles[:3], cube.unit) / cube.rates.get(problem.dtype, 1.0)
    operand_bytes = [size * tiles.k * problem.dtype.bits / BITS_PER_BYTE for size in tiles[:2]]
    hbm_share = machine.hbm_bytes_per_cycle / min(machine.cores, num_tiles)
    load = max(
        sum(operand_bytes) / machine.load.bandwidth,
        sum(each / _channel_share(each, machine) for each in operand_bytes) / hbm_share,
    )
    # A slot of a double buffer is loaded again once the step two before has been computed.
    arrival = machine.hbm_latency_cycles + load
    reuse = (arrival + compute + cube.latency_cycles) / 2
    move = tiles.m * tiles.n * 4 / machine.accumulator.bandwidth
    per_tile = steps * max(compute, load, reuse) + (move if tiles.acc_slots == 1 else 0)
    return ceil_div(num_tiles, machine.cores) * per_tile + arrival


def _channel_share(num_bytes: float, machine: MachineSpec) -> float:
    """Return the share of the channels that one transfer keeps busy.

    Tiles of one matrix often begin at the same channel, so that others do not fill the gap.
    """
    return min(1.0, num_bytes / machine.hbm.interleave / machine.hbm.channels)
