"""Matrix product C = A B, output-stationary: one work item per tile of C and range of k.

HBM reads with tiles of t_m x t_n: ceil(n / t_n) A + ceil(m / t_m) B bytes; writes: C. With s > 1
ranges of k (split-K) every range stores its 32-bit sums, s m n 4 bytes, which a second phase reads.
An L2 turns repeated reads into hits, the more so the better `swizzle` suits it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelsim.config.spec import Spec
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.linear.gemm_tiles import (
    GemmParameters,
    buffers_of,
    choose_tiles,
    formats_of,
    merged_rows,
    range_steps,
)
from accelsim.kernels.linear.tiles import Tiles
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    add,
    begin_item,
    convert,
    load,
    matmul,
    matmul_transposed,
    move,
    store,
    tile,
)
from accelsim.program.program import Program
from accelsim.program.recording import Buffer, Tensor
from accelsim.units import ceil_div
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

_INT32_LIMIT = 2**31


class _Shape(NamedTuple):
    """Sizes in elements, and how the tiles are walked."""

    m: int
    n: int
    k: int
    tile_m: int
    tile_n: int
    tile_k: int
    splits: int
    range_steps: int
    swizzle: int
    is_transposed: bool
    merge_m: int


class _Formats(NamedTuple):
    """Format codes of operands, accumulator and output."""

    operand: int
    accumulator: int
    output: int


class _Operands(NamedTuple):
    """Matrices in HBM; sums of range s are rows s m to s m + m of `sums`."""

    a: Any
    b: Any
    c: Any
    sums: Any


class _Buffers(NamedTuple):
    """On-chip tiles; `total`, `part` and `merged` belong to the second phase."""

    a: Any
    b: Any
    acc: Any
    c: Any
    total: Any
    part: Any
    merged: Any


@jit
def gemm(p, shape, fmt, hbm, b):
    """All tiles of C, then the merge of the ranges of k if there are several."""
    tiles_m, tiles_n = -(-shape.m // shape.tile_m), -(-shape.n // shape.tile_n)
    for item in range(tiles_m * tiles_n * shape.splits):
        begin_item(p, 0)
        row, col = _place(item // shape.splits, tiles_m, tiles_n, shape)
        split = item % shape.splits
        rows, cols = min(shape.tile_m, shape.m - row), min(shape.tile_n, shape.n - col)
        acc, result = tile(b.acc, item), tile(b.c, item)
        _sum_range(p, acc, row, col, rows, cols, split, shape, fmt, hbm, b)
        if shape.splits == 1:
            move(p, result, acc, rows, cols, fmt.accumulator, fmt.output)
            store(p, hbm.c, row, col, result, rows, cols)
        else:
            move(p, result, acc, rows, cols, fmt.accumulator, fmt.accumulator)
            store(p, hbm.sums, split * shape.m + row, col, result, rows, cols)
    if shape.splits > 1:
        for row in range(0, shape.m, shape.merge_m):
            for col in range(0, shape.n, shape.tile_n):
                begin_item(p, 1)
                _merge(p, row, col, shape, fmt, hbm, b)


@jit_inner
def _place(index, tiles_m, tiles_n, shape):
    """First row and column of a tile: column by column within bands of `swizzle` tile rows."""
    band = index // (shape.swizzle * tiles_n)
    height = min(shape.swizzle, tiles_m - band * shape.swizzle)
    within = index - band * shape.swizzle * tiles_n
    tile_row = band * shape.swizzle + within % height
    return tile_row * shape.tile_m, within // height * shape.tile_n


@jit_inner
def _sum_range(p, acc, row, col, rows, cols, split, shape, fmt, hbm, b):
    """Products of one tile of C over one range of k."""
    first = split * shape.range_steps
    last = min(first + shape.range_steps, -(-shape.k // shape.tile_k))
    for step in range(first, last):
        start = step * shape.tile_k
        depth = min(shape.tile_k, shape.k - start)
        left, right = tile(b.a, step), tile(b.b, step)
        load(p, left, hbm.a, row, start, rows, depth)
        accumulate = step > first
        if shape.is_transposed:
            load(p, right, hbm.b, col, start, cols, depth)
            matmul_transposed(
                p, acc, left, right, rows, cols, depth, fmt.operand, fmt.accumulator, accumulate
            )
        else:
            load(p, right, hbm.b, start, col, depth, cols)
            matmul(p, acc, left, right, rows, cols, depth, fmt.operand, fmt.accumulator, accumulate)


@jit_inner
def _merge(p, row, col, shape, fmt, hbm, b):
    """Add the sums of all ranges for a block of C, and store it."""
    rows, cols = min(shape.merge_m, shape.m - row), min(shape.tile_n, shape.n - col)
    total, merged = tile(b.total, 0), tile(b.merged, 0)
    load(p, total, hbm.sums, row, col, rows, cols)
    for split in range(1, shape.splits):
        part = tile(b.part, split)
        load(p, part, hbm.sums, split * shape.m + row, col, rows, cols)
        add(p, total, total, part, rows, cols, fmt.accumulator)
    convert(p, merged, total, rows, cols, fmt.accumulator, fmt.output)
    store(p, hbm.c, row, col, merged, rows, cols)


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
        formats = formats_of(problem, parameters)
        _check_accumulator(name, problem)
        tiles = choose_tiles(problem, machine, parameters).tiles
        builder = ProgramBuilder(name, with_numbers=tensors is not None)
        shape = _shape_of(problem, tiles, parameters.b_layout)
        hbm = _declare_operands(builder, problem, shape, formats, tensors)
        sizes = buffers_of(tiles, formats, parameters.b_layout)
        buffers = {size.name: builder.buffer(**size._asdict()) for size in sizes}
        codes = _Formats(*(fmt.code for fmt in formats))
        columns = ceil_div(problem.n, tiles.n)
        items = ceil_div(problem.m, tiles.m) * columns * tiles.splits
        if tiles.splits > 1:
            items += ceil_div(problem.m, shape.merge_m) * columns
        program = builder.record(gemm, items, shape, codes, hbm, _used(buffers))
        return program.with_parameters(**_chosen(tiles, formats)), hbm.c.data

    @classmethod
    def estimated_cycles(
        cls, problem: GemmProblem, machine: MachineSpec, parameters: GemmParameters
    ) -> float:
        """Return the time that the chosen tiles should take; raises DoesNotFitError."""
        return choose_tiles(problem, machine, parameters).cycles

    @classmethod
    def oracle(cls, problem: GemmProblem, tensors: GemmTensors) -> Array:
        """Return A B in float64."""
        return tensors.a.astype(np.float64) @ tensors.b.astype(np.float64)


def _chosen(tiles: Tiles, formats: tuple[Format, Format, Format]) -> dict[str, int | str]:
    """Return the values of the parameters that may be left to the kernel."""
    sizes = {"tile_m": tiles.m, "tile_n": tiles.n, "tile_k": tiles.k, "splits": tiles.splits}
    walk = {"stages": tiles.stages, "swizzle": tiles.swizzle}
    return {**sizes, **walk, "output_format": str(formats[2])}


def _check_accumulator(name: str, problem: GemmProblem) -> None:
    """Refuse integer sums that some input could push out of the 32-bit accumulator."""
    if problem.dtype.is_integer:
        worst = problem.k * 4 ** (problem.dtype.bits - 1)
        if worst >= _INT32_LIMIT:
            raise DoesNotFitError(
                f"{name}: sums over k = {problem.k} products of {problem.dtype} can reach {worst}, "
                f"more than a 32-bit accumulator holds"
            )


def _shape_of(problem: GemmProblem, tiles: Tiles, b_layout: str) -> _Shape:
    return _Shape(
        m=problem.m,
        n=problem.n,
        k=problem.k,
        tile_m=tiles.m,
        tile_n=tiles.n,
        tile_k=tiles.k,
        splits=tiles.splits,
        range_steps=range_steps(tiles, problem.k),
        swizzle=tiles.swizzle,
        is_transposed=b_layout == "nk",
        merge_m=merged_rows(tiles),
    )


def _declare_operands(
    builder: ProgramBuilder,
    problem: GemmProblem,
    shape: _Shape,
    formats: tuple[Format, Format, Format],
    tensors: GemmTensors | None,
) -> _Operands:
    """Place the matrices in HBM; sums of ranges only where there are several."""
    m, n, k, dtype = problem.m, problem.n, problem.k, problem.dtype
    b_data, b_shape = tensors and tensors.b, (k, n)
    if shape.is_transposed:
        b_data, b_shape = tensors and np.ascontiguousarray(tensors.b.T), (n, k)
    a: Tensor = builder.tensor("a", "input", m, k, dtype, tensors and tensors.a)
    b = builder.tensor("b", "input", *b_shape, dtype, b_data)
    c = builder.tensor("c", "output", m, n, formats[2])
    sums = c
    if shape.splits > 1:
        sums = builder.tensor("sums", "intermediate", shape.splits * m, n, formats[1])
    return _Operands(a, b, c, sums)


def _used(buffers: Mapping[str, Buffer]) -> _Buffers:
    """Return the buffers as jitted code takes them; c stands for those of a phase not there."""
    own = {name: buffers.get(name, buffers["c"]) for name in _Buffers._fields}
    return _Buffers(**own)
