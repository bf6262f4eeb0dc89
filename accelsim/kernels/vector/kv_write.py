"""Rows of K and V of new tokens, written to their places in a paged cache.

Tokens fill pages of `page` rows one after the other; pages lie anywhere in the cache. The kernel
language has no scattered store, so rows are stored one page at a time, which is what a copy engine
takes anyway; the control core knows the numbers of pages. HBM traffic, with w bytes an element:
rows of K and of V once in and once out, 4 rows cols w bytes. Rows of V may have other columns, or
none where V is a part of K.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.workspace import Workspace


class Side(NamedTuple):
    """New rows of K or V, the cache they go to, and their tiles."""

    new: al.Tensor
    cache: al.Tensor
    tile: al.Buffer


class Layout(NamedTuple):
    """Rows of a tile, which are whole pages or an even part of one, rows of a page, sides, and
    numbers of pages."""

    tile_rows: int
    page: int
    has_values: bool
    keys: Side
    values: Side
    pages: Any
    """int32 [pages]"""


@al.jit
def kv_write(p, k):
    """All tiles of pages."""
    for item in range(-(-k.keys.new.rows // k.tile_rows)):
        al.begin_item(p, 0)
        _write(p, item, item * k.tile_rows, k.keys, k)
        if k.has_values:
            _write(p, item, item * k.tile_rows, k.values, k)


@al.jit_inner
def _write(p, turn, row, side, k):
    """Load the rows of a tile and store them page by page."""
    rows = min(k.tile_rows, side.new.rows - row)
    new = al.tile(side.tile, turn, rows, side.new.cols)
    al.load(p, new, side.new, row, 0)
    piece = min(k.page, k.tile_rows)
    for first in range(0, rows, piece):
        page, within = (row + first) // k.page, (row + first) % k.page
        part = al.rows_from(new, first, min(piece, rows - first))
        al.store(p, side.cache, k.pages[page] * k.page + within, 0, part)


class KvWrite(RowFunction):
    """Rows of K and V to a paged cache."""

    entry = staticmethod(kv_write)

    @classmethod
    def unit(cls, problem: al.VectorProblem) -> int:
        """Return the rows of a page, which no tile parts where some pages fit."""
        return problem.page or 1

    @classmethod
    def cost(cls, problem: al.VectorProblem) -> RowCost:
        """Return what one token takes; nothing is computed."""
        both = row_bytes(problem, problem.cols + problem.second_cols)
        return RowCost(both, both, is_in_place=True)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place new rows and both caches, and declare the tiles."""
        problem = at.problem
        cached, fmt = problem.table_rows or 1, problem.dtype

        def side(name: str, source: str, cols: int) -> Side:
            new = at.given(source, (problem.rows, cols))
            cache = at.builder.tensor(name, "output", cached, cols, fmt, None, problem.rows)
            return Side(new, cache, at.buffer(name, cols, fmt, at.asked.stages))

        keys = side("keys", "x", problem.cols)
        return Layout(
            tile_rows=at.tile.rows,
            page=problem.page or 1,
            has_values=problem.second_cols > 0,
            keys=keys,
            values=side("values", "y", problem.second_cols) if problem.second_cols else keys,
            pages=at.row_numbers,
        )

    @classmethod
    def output(cls, problem: al.VectorProblem, data: dict[str, al.Array]) -> al.Array:
        """Return both caches, which were all zeros, side by side, [table_rows, all columns]."""
        return np.hstack([data[name] for name in problem.output_shapes])

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return both caches, [table_rows, all columns]."""
        rows = tensors.x if tensors.y is None else np.hstack([tensors.x, tensors.y])
        caches = np.zeros((problem.table_rows or 1, rows.shape[1]))
        token, page = np.arange(problem.rows), problem.page or 1
        caches[problem.row_numbers[token // page] * page + token % page] = rows
        return caches
