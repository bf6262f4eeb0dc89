"""Products of experts with their own rows: one work item per tile of a row block of an expert.

Rows of an expert are quantised: its last row block is padded to the tile. Rows that are not there
are not loaded or stored, but the matrix unit takes their steps, as grouped kernels of GPUs do (the
grouped GEMM of CUTLASS 2.8, the fused experts of vLLM, after MegaBlocks: Gale et al., 2022, arXiv
2211.15841). An expert without rows has no work.

HBM reads with tiles of t_m x t_n, r_e rows of expert e: ceil(n / t_n) A + sum over e of
ceil(r_e / t_m) B_e bytes; writes: C. Row blocks of an expert follow each other at every column of
tiles, so that an L2 turns the second and later reads of B_e into hits.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.config.spec import MAX_SIZE
from accelsim.kernels import language as al
from accelsim.kernels.estimate.choice import most_rivals, rivals_of
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.linear.estimate.products import Grouping
from accelsim.kernels.linear.gemm_tiles import GemmParameters, buffers_of, formats_of, rival_tiles
from accelsim.kernels.linear.product import ProductKernel, TileParameters, Workspace
from accelsim.kernels.linear.tiles import Choice, Tiles, TileSizes, balanced, declare

_HEIGHTS = (512, 384, 256, 192, 128, 96, 64, 48, 32, 16)
"""Rows of a tile that are tried, and those that cut the longest expert as evenly."""


class GroupedGemmParameters(TileParameters):
    """Choices of the grouped kernel."""

    tile_m: al.Size | None = None
    """Rows of a tile of A and C, to which the rows of an expert are padded; absent: chosen."""
    tile_sizes: TileSizes = "balanced"
    """Columns that are tried, as those of `gemm`."""
    stages: al.Size | None = None
    """Tiles of A and of B on chip at once; absent: chosen."""
    b_layout: Literal["kn", "nk"] = "kn"
    """Whether each B lies in HBM as [k, n] or, like the weights of a linear, as [n, k]."""


class Layout(NamedTuple):
    """Sizes in elements, work items, matrices in HBM and tiles on chip."""

    tiles: Tiles
    is_transposed: bool
    items: Any
    """First row, rows and matrix of B of each work item, and its first column [items, 4]."""
    a: al.Tensor
    b: al.Tensor
    """The matrices of all experts with rows, one below the other."""
    c: al.Tensor
    depth: int
    a_tile: al.Buffer
    b_tile: al.Buffer
    acc_tile: al.Buffer
    c_tile: al.Buffer


@al.jit
def grouped_gemm(p, k):
    """All tiles of the row blocks of all experts."""
    for item in range(len(k.items)):
        al.begin_item(p, 0)
        row, rows, expert, col = k.items[item]
        cols = min(k.tiles.n, k.c.cols - col)
        acc = al.tile(k.acc_tile, item, k.tiles.m, cols)
        _sum_products(p, acc, row, rows, expert, col, k)
        c = al.tile(k.c_tile, item, rows, cols)
        al.move(p, c, al.rows_from(acc, 0, rows))
        al.store(p, k.c, row, col, c)


@al.jit_inner
def _sum_products(p, acc, row, rows, expert, col, k):
    """Products of a row block and one matrix, step by step; the block is padded to the tile."""
    for step in range(-(-k.depth // k.tiles.k)):
        start = step * k.tiles.k
        depth = min(k.tiles.k, k.depth - start)
        a = al.tile(k.a_tile, step, k.tiles.m, depth)
        al.load(p, al.rows_from(a, 0, rows), k.a, row, start)
        if k.is_transposed:
            b = al.tile(k.b_tile, step, acc.cols, depth)
            al.load(p, b, k.b, expert * k.c.cols + col, start)
            al.matmul_transposed(p, acc, a, b, step > 0)
        else:
            b = al.tile(k.b_tile, step, depth, acc.cols)
            al.load(p, b, k.b, expert * k.depth + start, col)
            al.matmul(p, acc, a, b, step > 0)


_Workspace = Workspace[al.GroupedGemmProblem, GroupedGemmParameters]


class GroupedGemm(ProductKernel):
    """Products of experts."""

    name = "grouped_gemm"
    summary = "products of experts with their own rows, padded to row blocks"
    problem_kind = "grouped_gemm"
    leaves_open = "tile_m", "tile_n", "tile_k", "stages"
    parameters = GroupedGemmParameters

    @classmethod
    @remembered
    def choices(
        cls,
        problem: al.GroupedGemmProblem,
        machine: al.MachineSpec,
        parameters: GroupedGemmParameters,
    ) -> Sequence[Choice]:
        """Return the tilings that may be the fastest; raises DoesNotFitError."""
        heights = [parameters.tile_m] if parameters.tile_m else _heights(problem)
        found: list[Choice] = []
        error = None
        for height in heights:
            try:
                found += _choices(problem, machine, parameters, height)
            except al.DoesNotFitError as misfit:
                error = misfit
        if error and not found:
            raise error
        cycles = np.array([each.cycles for each in found])
        sizes = list(np.array([each.tiles[:3] for each in found]).T)
        rivals = rivals_of(cycles, int(cycles.argmin()), sizes, most_rivals(machine))
        return [found[each] for each in rivals]

    @classmethod
    def loop(cls, at: _Workspace) -> tuple[Any, int, Layout]:
        """Place the matrices of experts with rows, and declare the tiles."""
        n, k, tensors, b_layout = at.problem.n, at.problem.k, at.tensors, at.parameters.b_layout
        is_transposed, used = b_layout == "nk", list(at.problem.used)
        b_rows, b_cols = (n, k) if is_transposed else (k, n)
        dtype, accumulator, output = formats_of(at.problem, GemmParameters())
        sizes = buffers_of(at.tiles, (dtype, accumulator, output), b_layout)
        b_data = tensors and _stacked(tensors.b[used], is_transposed)
        tensor, items = at.builder.tensor, np.array(list(_items(at.problem, at.tiles)), np.int64)
        layout = Layout(
            tiles=at.tiles,
            is_transposed=is_transposed,
            items=items,
            a=tensor("a", "input", at.problem.m, k, dtype, tensors and tensors.a),
            b=tensor("b", "input", len(used) * b_rows, b_cols, dtype, b_data),
            c=tensor("c", "output", at.problem.m, n, output),
            depth=k,
            **{f"{name}_tile": each for name, each in declare(at.builder, sizes).items()},
        )
        return grouped_gemm, len(items), layout

    @classmethod
    def chosen(cls, at: _Workspace) -> dict[str, int | str]:
        """Return the values of the parameters that may be left to the kernel."""
        return {**super().chosen(at), "stages": at.tiles.stages}

    @classmethod
    def oracle(cls, problem: al.GroupedGemmProblem, tensors: al.GemmTensors) -> al.Array:
        """Return A_e B_e of all experts in float64, one below the other."""
        a, b = tensors.a.astype(np.float64), tensors.b.astype(np.float64)
        parts = np.split(a, np.cumsum(problem.rows)[:-1])
        return np.concatenate([part @ weights for part, weights in zip(parts, b, strict=True)])


def row_blocks(problem: al.GroupedGemmProblem, tile_m: int) -> int:
    """Return how many row blocks all experts have."""
    return sum(al.ceil_div(rows, tile_m) for rows in problem.rows)


def _heights(problem: al.GroupedGemmProblem) -> list[int]:
    """Return the heights of tiles that are tried: what cuts the longest expert evenly may not suit
    the others."""
    longest = max(problem.rows)
    known = [height for height in _HEIGHTS if height < longest]
    return sorted({*balanced(longest, _HEIGHTS).tolist(), *known}, reverse=True)


def _choices(
    problem: al.GroupedGemmProblem,
    machine: al.MachineSpec,
    parameters: GroupedGemmParameters,
    height: int,
) -> Sequence[Choice]:
    """Return the best tilings of one height: those of one product with as many row blocks."""
    blocks = row_blocks(problem, height)
    whole = al.GemmProblem(
        kind="gemm",
        name=problem.name,
        m=min(blocks * height, MAX_SIZE),
        n=problem.n,
        k=problem.k,
        dtype=problem.dtype,
    )
    own = parameters.model_dump(exclude={"tile_m"})
    asked = GemmParameters(tile_m=height, splits=1, swizzle=blocks, **own)
    rows = tuple(problem.rows[expert] for expert in problem.used)
    grouping = Grouping(rows, problem.m / (blocks * height))
    return rival_tiles(whole, machine, asked, GroupedGemm.name, grouping)


def _stacked(matrices: al.Array, is_transposed: bool) -> al.Array:
    """Return matrices one below the other, each transposed if asked."""
    own = matrices.transpose(0, 2, 1) if is_transposed else matrices
    return np.ascontiguousarray(own.reshape(-1, own.shape[2]))


def _items(problem: al.GroupedGemmProblem, tiles: Tiles) -> Iterator[tuple[int, int, int, int]]:
    """Yield first row, rows, matrix and first column: expert by expert, column by column."""
    first = 0
    for matrix, expert in enumerate(problem.used):
        end = first + problem.rows[expert]
        for col in range(0, problem.n, tiles.n):
            for row in range(first, end, tiles.m):
                yield row, min(tiles.m, end - row), matrix, col
        first = end
