"""Matrix product C = A B, output-stationary: one work item per tile of C and range of k.

HBM reads with tiles of t_m x t_n: ceil(n / t_n) A + ceil(m / t_m) B bytes; writes: C. With s > 1
ranges of k (split-K) every range stores its 32-bit sums, s m n 4 bytes, which a second phase reads.
An L2 turns repeated reads into hits, the more so the better `swizzle` suits it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import block_at
from accelsim.kernels.integer.accumulator import check_cube_sums
from accelsim.kernels.linear.gemm_tiles import (
    GemmParameters,
    buffers_of,
    formats_of,
    given_tiles,
    merged_rows,
    range_steps,
    rival_tiles,
)
from accelsim.kernels.linear.product import ProductKernel, Workspace
from accelsim.kernels.linear.tiles import Choice, Tiles, declare


class _Operands(NamedTuple):
    """Matrices in HBM; sums of range s are rows s m to s m + m of `sums`, which is C if s is 1."""

    a: al.Tensor
    b: al.Tensor
    c: al.Tensor
    sums: al.Tensor


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
    a: al.Buffer
    b: al.Buffer
    acc: al.Buffer
    c: al.Buffer
    """A tile of C, or of the sums of a range."""
    total: al.Buffer
    part: al.Buffer
    merged: al.Buffer
    """This one and the two above belong to the second phase."""


@al.jit
def gemm(p, k):
    """All tiles of C, then the merge of the ranges of k if there are several."""
    splits = k.tiles.splits
    for item in range(-(-k.m // k.tiles.m) * -(-k.n // k.tiles.n) * splits):
        if not al.begin_item(p, 0):
            continue
        _sum_range(p, item, item % splits, _place(item // splits, k), k)
    if splits > 1:
        for row in range(0, k.m, k.merge_m):
            for col in range(0, k.n, k.tiles.n):
                if not al.begin_item(p, 1):
                    continue
                _merge(p, block_at(k.hbm.c, row, col, k.merge_m, k.tiles.n), k)


@al.jit_inner
def _place(index, k):
    """The tile of C at an index: column by column within bands of `swizzle` tile rows."""
    tiles_m, tiles_n, swizzle = -(-k.m // k.tiles.m), -(-k.n // k.tiles.n), k.tiles.swizzle
    band = index // (swizzle * tiles_n)
    height = min(swizzle, tiles_m - band * swizzle)
    within = index - band * swizzle * tiles_n
    row = (band * swizzle + within % height) * k.tiles.m
    return block_at(k.hbm.c, row, within // height * k.tiles.n, k.tiles.m, k.tiles.n)


@al.jit_inner
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


@al.jit_inner
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


_Workspace = Workspace[al.GemmProblem, GemmParameters]


class Gemm(ProductKernel):
    """Matrix product."""

    name = "gemm"
    summary = "matrix product, output-stationary, double-buffered"
    leaves_open = "tile_m", "tile_n", "tile_k", "stages", "splits", "swizzle"
    parameters = GemmParameters

    @classmethod
    def stored_dtypes(
        cls, problem: al.GemmProblem, parameters: GemmParameters
    ) -> dict[str, al.Format]:
        """Return the format of C."""
        return {"c": formats_of(problem, parameters)[2]}

    @classmethod
    def check(cls, problem: al.GemmProblem) -> None:
        """Refuse integer sums that some input could push out of the 32-bit accumulator."""
        if problem.dtype.is_integer:
            check_cube_sums(f"{cls.name} on {problem.name}", problem.k, problem.dtype)

    @classmethod
    def choices(
        cls, problem: al.GemmProblem, machine: al.MachineSpec, parameters: GemmParameters
    ) -> Sequence[Choice]:
        """Return the tilings that may be the fastest; raises DoesNotFitError."""
        return rival_tiles(problem, machine, parameters)

    @classmethod
    def tiles_of(
        cls, problem: al.GemmProblem, machine: al.MachineSpec, parameters: GemmParameters
    ) -> Tiles:
        """Return the tiling that is recorded; what is given needs no estimate."""
        return given_tiles(problem, machine, parameters) or super().tiles_of(
            problem, machine, parameters
        )

    @classmethod
    def loop(cls, at: _Workspace) -> tuple[Any, int, Layout]:
        """Place A, B and C, and declare the tiles of the phases that there are."""
        problem, tiles, b_layout = at.problem, at.tiles, at.parameters.b_layout
        formats = formats_of(problem, at.parameters)
        merging = {"total": formats[1], "part": formats[1], "merged": formats[2]}
        none = {name: at.builder.no_buffer(fmt) for name, fmt in merging.items()}
        layout = Layout(
            m=problem.m,
            n=problem.n,
            depth=problem.k,
            tiles=tiles,
            range_steps=range_steps(tiles, problem.k),
            is_transposed=b_layout == "nk",
            merge_m=merged_rows(tiles),
            hbm=_operands_of(at, formats),
            **none | declare(at.builder, buffers_of(tiles, formats, b_layout)),
        )
        columns = al.ceil_div(problem.n, tiles.n)
        items = al.ceil_div(problem.m, tiles.m) * columns * tiles.splits
        if tiles.splits > 1:
            items += al.ceil_div(problem.m, layout.merge_m) * columns
        return gemm, items, layout

    @classmethod
    def chosen(cls, at: _Workspace) -> dict[str, int | str]:
        """Return the values of the parameters that may be left to the kernel."""
        walk = {"splits": at.tiles.splits, "stages": at.tiles.stages, "swizzle": at.tiles.swizzle}
        output = formats_of(at.problem, at.parameters)[2]
        return {**super().chosen(at), **walk, "output_format": str(output)}


def _operands_of(at: _Workspace, formats: tuple[al.Format, al.Format, al.Format]) -> _Operands:
    """Place the matrices in HBM; sums of ranges only where there are several."""
    m, n, k, splits = at.problem.m, at.problem.n, at.problem.k, at.tiles.splits
    dtype, accumulator, output = formats
    b_data, b_shape = at.tensors and at.tensors.b, (k, n)
    if at.parameters.b_layout == "nk":
        b_data, b_shape = at.tensors and np.ascontiguousarray(at.tensors.b.T), (n, k)
    a = at.builder.tensor("a", "input", m, k, dtype, at.tensors and at.tensors.a)
    b = at.builder.tensor("b", "input", *b_shape, dtype, b_data)
    c = at.builder.tensor("c", "output", m, n, output)
    sums = c
    if splits > 1:
        sums = at.builder.tensor("sums", "intermediate", splits * m, n, accumulator)
    return _Operands(a, b, c, sums)
