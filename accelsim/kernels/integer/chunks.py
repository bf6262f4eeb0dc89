"""Chunks of rows, which are quantized alike: their tiles, and their channels by group."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.integer import Starts
from accelsim.quantization.channel_groups import Span

RowTiles = NDArray[np.int64]
"""(chunk, first row, rows) of every tile of rows [tiles, 3]."""


class Order(NamedTuple):
    """Channels by group, panel by panel."""

    channels: NDArray[np.int32]
    """[chunks, k]; within a panel counted from its first channel."""
    starts: Starts
    """[chunks x panels x (groups + 1)]: where each group starts in its panel, and the end."""
    groups: int
    """Groups of a panel."""


NO_ORDER = Order(np.zeros((0, 0), np.int32), np.zeros(0, np.int64), 0)
"""Stands for the order of a kernel that reads channels one after the other."""


def ordered(group: NDArray[Any], groups: int, tile_k: int) -> Order:
    """Return the channels of group [chunks, k] by group, within panels of tile_k channels."""
    channels, starts = np.empty(group.shape, np.int32), []
    for chunk, own in enumerate(group):
        for first in range(0, len(own), tile_k):
            panel = own[first : first + tile_k]
            order = np.argsort(panel, kind="stable")
            channels[chunk, first : first + tile_k] = order
            starts.append(np.searchsorted(panel[order], np.arange(groups + 1)))
    return Order(channels, np.concatenate(starts).astype(np.int64), groups)


def products_of(group: NDArray[Any], sizes: Sequence[int]) -> tuple[tuple[int, float], ...]:
    """Return for every size of a panel how many groups [chunks, k] have channels in the panels.

    The numbers of all panels together, in the mean of all chunks.
    """
    channels, groups = np.arange(group.shape[1]), int(group.max()) + 1
    found = []
    for size in sizes:
        is_there = np.zeros((len(group), -(-len(channels) // size), groups), bool)
        is_there[np.arange(len(group))[:, None], channels // size, group] = True
        found.append((size, float(is_there.sum() / len(group))))
    return tuple(found)


def even_groups(groups: int, k: int, chunks: int) -> NDArray[np.int64]:
    """Return a group for every channel [chunks, k], equally many in each.

    Stands for the groups where no numbers are known.
    """
    return np.tile(np.arange(k) * groups // k, (chunks, 1))


def spans_of(starts: Sequence[int], rows: int) -> list[Span]:
    """Return the chunks of `rows` rows that begin at `starts`."""
    ends = [*starts[1:], rows]
    return [Span(*each) for each in zip(range(len(starts)), starts, ends, strict=True)]


def row_tiles(spans: Sequence[Span], tile_rows: int) -> RowTiles:
    """Return the tiles of all chunks; none reaches into the next chunk."""
    return np.array(
        [
            (chunk, row, min(tile_rows, stop - row))
            for chunk, start, stop in spans
            for row in range(start, stop, tile_rows)
        ]
    )
