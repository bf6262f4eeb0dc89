"""Rows of K and V of new tokens, written to their places in a paged cache.

Tokens fill pages of `page` rows one after the other; pages lie anywhere in the cache. The kernel
language has no scattered store, so rows are stored one page at a time, which is what a copy engine
takes anyway; the control core knows the numbers of pages. HBM traffic, with w bytes an element:
rows of K and of V once in and once out, 4 rows cols w bytes.
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
    """Rows of a tile, which are whole pages or an even part of one, rows of a page, both sides, and
    numbers of pages."""

    tile_rows: int
    page: int
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
        both = 2 * row_bytes(problem, problem.cols)
        return RowCost(both, both, is_in_place=True)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place new rows and both caches, and declare the tiles."""
        problem = at.problem
        cached, cols, fmt = problem.table_rows or 1, problem.cols, problem.dtype

        def side(name: str, source: str) -> Side:
            new = at.given(source)
            cache = at.builder.tensor(name, "output", cached, cols, fmt, None, problem.rows)
            return Side(new, cache, at.buffer(name, cols, fmt, at.asked.stages))

        return Layout(
            tile_rows=at.tile.rows,
            page=problem.page or 1,
            keys=side("keys", "x"),
            values=side("values", "y"),
            pages=at.row_numbers,
        )

    @classmethod
    def output(cls, problem: al.VectorProblem, data: dict[str, al.Array]) -> al.Array:
        """Return both caches, which were all zeros, [2, table_rows, cols]."""
        return np.stack([data["keys"], data["values"]])

    @classmethod
    def exact(cls, problem: al.VectorProblem, tensors: al.VectorTensors) -> al.Array:
        """Return both caches, [2, table_rows, cols]."""
        caches = np.zeros((2, problem.table_rows or 1, problem.cols))
        token, page = np.arange(problem.rows), problem.page or 1
        places = problem.row_numbers[token // page] * page + token % page
        caches[:, places] = tensors.x, tensors.y
        return caches
