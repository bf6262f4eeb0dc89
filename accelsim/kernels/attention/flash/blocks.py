"""How candidates of tiles cut the query rows into blocks."""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.folding import (
    check_length,
    folds,
    is_short,
    query_heads,
)
from accelsim.kernels.estimate.choice import Array, grid, masked_sizes, sizes


class Tiling(NamedTuple):
    """Candidates; arrays with one element each, sizes in elements."""

    tile_q: Array
    tile_k: Array
    fold: Array
    query_tiles: Array

    def at(self, own: Array) -> "Tiling":
        """Return some candidates."""
        return Tiling(*(each[own] for each in self))

    @property
    def ways(self) -> list[Array]:
        """Candidates that go the same way through the query rows: their numbers."""
        way = 2 * self.fold + self.query_tiles
        return [np.flatnonzero(way == own) for own in dict.fromkeys(way.tolist())]

    def check_length(self, name: str, problem: al.AttentionProblem) -> None:
        """Refuse a problem of too many tiles one way or the other; raises DoesNotFitError."""
        if is_short(problem, int((self.tile_q * self.query_tiles).min()), int(self.tile_k.min())):
            return
        for way in self.ways:
            own = self.at(way)
            check_length(name, problem, own.fold[0], own.tile_q * own.query_tiles, own.tile_k)


def tilings_of(
    problem: al.AttentionProblem,
    asked_q: int | None,
    asked_k: int | None,
    fold: bool | None,
    query_tiles: tuple[int, ...] = (1,),
) -> Tiling:
    """Return what may be chosen from."""
    cut = masked_sizes if problem.causal else sizes
    tile_k, ways = cut(asked_k, problem.kv_len), []
    for own in folds(problem, fold):
        rows = query_heads(problem, fold=own).rows
        for count in query_tiles:
            # One tile of all rows leaves nothing for the second one of a pair.
            most = rows if count == 1 or len(query_tiles) == 1 else rows - 1
            ways += [(size, own, count) for size in sizes(asked_q, rows).tolist() if size <= most]
    way, own_k = grid(np.array(ways), tile_k)
    tile_q, folded, counts = way.T
    return Tiling(tile_q, own_k, folded.astype(bool), counts)
