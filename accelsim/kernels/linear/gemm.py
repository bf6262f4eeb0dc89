"""Matrix product C = A B, output-stationary: one work item per tile of C and range of k.

HBM reads with tiles of t_m x t_n: ceil(n / t_n) A + ceil(m / t_m) B bytes; writes: C. With s > 1
ranges of k (split-K) every range stores its 32-bit sums, s m n 4 bytes, which a second phase reads.
An L2 turns repeated reads into hits, the more so the better `swizzle` suits it.
"""

from typing import ClassVar, NamedTuple

import numpy as np

from accelsim.config.spec import Spec
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.blocks import block_at
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
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Program
from accelsim.program.recording import Buffer, Tensor
from accelsim.runtime.jit import jit, jit_inner
from accelsim.units import ceil_div
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors

_INT32_LIMIT = 2**31


class _Operands(NamedTuple):
    """Matrices in HBM; sums of range s are rows s m to s m + m of `sums`, which is C if s is 1."""

    a: Tensor
    b: Tensor
    c: Tensor
    sums: Tensor


class Layout(NamedTuple):
    """Sizes in elements, matrices in HBM and tiles on chip."""

    m: int
    n: int
    depth: int
    tiles: Tiles
    range_steps: int
    is_transposed: bool
    merge_m: int
    hbm: _Operands
    a: Buffer
    b: Buffer
    acc: Buffer
    c: Buffer
    """A tile of C, or of the sums of a range."""
    total: Buffer
    part: Buffer
    merged: Buffer
    """This one and the two above belong to the second phase."""


@jit
def gemm(p, k):
    """All tiles of C, then the merge of the ranges of k if there are several."""
    splits = k.tiles.splits
    for item in range(-(-k.m // k.tiles.m) * -(-k.n // k.tiles.n) * splits):
        al.begin_item(p, 0)
        _sum_range(p, item, item % splits, _place(item // splits, k), k)
    if splits > 1:
        for row in range(0, k.m, k.merge_m):
            for col in range(0, k.n, k.tiles.n):
                al.begin_item(p, 1)
                _merge(p, block_at(k.hbm.c, row, col, k.merge_m, k.tiles.n), k)


@jit_inner
def _place(index, k):
    """The tile of C at an index: column by column within bands of `swizzle` tile rows."""
    tiles_m, tiles_n, swizzle = -(-k.m // k.tiles.m), -(-k.n // k.tiles.n), k.tiles.swizzle
    band = index // (swizzle * tiles_n)
    height = min(swizzle, tiles_m - band * swizzle)
    within = index - band * swizzle * tiles_n
    row = (band * swizzle + within % height) * k.tiles.m
    return block_at(k.hbm.c, row, within // height * k.tiles.n, k.tiles.m, k.tiles.n)


@jit_inner
def _sum_range(p, item, split, at, k):
    """Products of one tile of C over one range of k."""
    acc, sums = al.tile(k.acc, item, at.rows, at.cols), al.tile(k.c, item, at.rows, at.cols)
    first = split * k.range_steps
    # A call for every step would cost half as long again to record: it copies the whole layout.
    for step in range(first, min(first + k.range_steps, -(-k.depth // k.tiles.k))):
        start = step * k.tiles.k
        depth = min(k.tiles.k, k.depth - start)
        a = al.tile(k.a, step, at.rows, depth)
        al.load(p, a, k.hbm.a, at.row, start)
        if k.is_transposed:
            b = al.tile(k.b, step, at.cols, depth)
            al.load(p, b, k.hbm.b, at.col, start)
            al.matmul_transposed(p, acc, a, b, step > first)
        else:
            b = al.tile(k.b, step, depth, at.cols)
            al.load(p, b, k.hbm.b, start, at.col)
            al.matmul(p, acc, a, b, step > first)
    al.move(p, sums, acc)
    al.store(p, k.hbm.sums, split * k.m + at.row, at.col, sums)


@jit_inner
def _merge(p, at, k):
    """Add the sums of all ranges for a block of C, and store it."""
    total, merged = al.tile(k.total, 0, at.rows, at.cols), al.tile(k.merged, 0, at.rows, at.cols)
    al.load(p, total, k.hbm.sums, at.row, at.col)
    for split in range(1, k.tiles.splits):
        part = al.tile(k.part, split, at.rows, at.cols)
        al.load(p, part, k.hbm.sums, split * k.m + at.row, at.col)
        al.add(p, total, total, part)
    al.convert(p, merged, total)
    al.store(p, k.hbm.c, at.row, at.col, merged)


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
        layout = _layout_of(builder, problem, parameters, tiles, tensors)
        columns = ceil_div(problem.n, tiles.n)
        items = ceil_div(problem.m, tiles.m) * columns * tiles.splits
        if tiles.splits > 1:
            items += ceil_div(problem.m, layout.merge_m) * columns
        program = builder.record(gemm, items, layout)
        return program.with_parameters(**_chosen(tiles, formats)), layout.hbm.c.data

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


def _layout_of(
    builder: ProgramBuilder,
    problem: GemmProblem,
    parameters: GemmParameters,
    tiles: Tiles,
    tensors: GemmTensors | None,
) -> Layout:
    """Declare tensors, and the buffers of the phases that there are."""
    formats = formats_of(problem, parameters)
    hbm = _declare_operands(builder, problem, parameters, tiles.splits, tensors)
    sizes = buffers_of(tiles, formats, parameters.b_layout)
    buffers = {size.name: builder.buffer(**size._asdict()) for size in sizes}
    merging = {"total": formats[1], "part": formats[1], "merged": formats[2]}
    return Layout(
        m=problem.m,
        n=problem.n,
        depth=problem.k,
        tiles=tiles,
        range_steps=range_steps(tiles, problem.k),
        is_transposed=parameters.b_layout == "nk",
        merge_m=merged_rows(tiles),
        hbm=hbm,
        **{name: builder.no_buffer(fmt) for name, fmt in merging.items()} | buffers,
    )


def _declare_operands(
    builder: ProgramBuilder,
    problem: GemmProblem,
    parameters: GemmParameters,
    splits: int,
    tensors: GemmTensors | None,
) -> _Operands:
    """Place the matrices in HBM; sums of ranges only where there are several."""
    m, n, k, dtype = problem.m, problem.n, problem.k, problem.dtype
    _, accumulator, output = formats_of(problem, parameters)
    b_data, b_shape = tensors and tensors.b, (k, n)
    if parameters.b_layout == "nk":
        b_data, b_shape = tensors and np.ascontiguousarray(tensors.b.T), (n, k)
    a = builder.tensor("a", "input", m, k, dtype, tensors and tensors.a)
    b = builder.tensor("b", "input", *b_shape, dtype, b_data)
    c = builder.tensor("c", "output", m, n, output)
    sums = c
    if splits > 1:
        sums = builder.tensor("sums", "intermediate", splits * m, n, accumulator)
    return _Operands(a, b, c, sums)
