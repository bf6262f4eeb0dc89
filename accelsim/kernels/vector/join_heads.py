"""Columns that all heads share, put behind those of each: keys of latent attention.

A row of x has heads of `head_dim` columns, a row of y what all of them share, such as the rotated
part of a key. Each head of the result is a head of x and behind it the row of y (DeepSeek-V2, 2024,
equation 18). The vector unit puts the rows together, so that whole rows are stored.

HBM traffic, with w bytes an element and h heads: rows (2 cols + (1 + h) y_cols) w bytes.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace


class Layout(NamedTuple):
    """Rows of a tile, columns of a head and of what is shared, matrices and tiles."""

    tile_rows: int
    head_dim: int
    shared_dim: int
    x: al.Tensor
    y: al.Tensor
    result: al.Tensor
    heads_tile: al.Buffer
    shared_tile: al.Buffer
    result_tile: al.Buffer


@al.jit
def join_heads(p, k):
    """All tiles of rows, head by head."""
    dim, joined = k.head_dim, k.head_dim + k.shared_dim
    for item in range(-(-k.x.rows // k.tile_rows)):
        al.begin_item(p, 0)
        row = item * k.tile_rows
        rows = min(k.tile_rows, k.x.rows - row)
        heads = al.tile(k.heads_tile, item, rows, k.x.cols)
        shared = al.tile(k.shared_tile, item, rows, k.shared_dim)
        al.load(p, heads, k.x, row, 0)
        al.load(p, shared, k.y, row, 0)
        result = al.tile(k.result_tile, item, rows, k.result.cols)
        for head in range(k.x.cols // dim):
            own = al.columns(result, head * joined, joined)
            al.convert(p, al.columns(own, 0, dim), al.columns(heads, head * dim, dim))
            al.convert(p, al.columns(own, dim, k.shared_dim), shared)
        al.store(p, k.result, row, 0, result)


class JoinHeads(RowFunction):
    """Heads, each with the same columns behind it."""

    entry = staticmethod(join_heads)

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one row takes: two copies for each head."""
        dim, shared = problem.head_dim or 1, problem.second_cols
        loaded = row_bytes(problem, problem.cols + shared)
        stored = row_bytes(problem, problem.output_shapes["result"][1])
        ops = problem.heads * (("convert", dim), ("convert", shared))
        return RowCost(loaded, stored, ops, is_read_late=True)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place the matrices, and declare the tiles."""
        problem, fmt, slots = at.problem, at.problem.dtype, at.asked.stages
        joined = problem.output_shapes["result"][1]
        return Layout(
            tile_rows=at.tile.rows,
            head_dim=problem.head_dim or 1,
            shared_dim=problem.second_cols,
            x=at.given("x"),
            y=at.given("y", (problem.rows, problem.second_cols)),
            result=at.made("result", joined),
            heads_tile=at.buffer("heads", problem.cols, fmt, slots),
            shared_tile=at.buffer("shared", problem.second_cols, fmt, slots),
            result_tile=at.buffer("result", joined, fmt, slots=2),
        )

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return the joined heads in float64."""
        heads = tensors.x.astype(np.float64).reshape(problem.rows, problem.heads, -1)
        shared = np.asarray(tensors.y, np.float64)[:, None].repeat(problem.heads, axis=1)
        return np.concatenate([heads, shared], axis=2).reshape(problem.rows, -1)
