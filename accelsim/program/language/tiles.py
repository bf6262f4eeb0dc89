"""Tiles of buffers and views of them: what ops read and write.

A tile knows how many rows and columns it has and in which format they are, so an op is told
neither. A tile that asks for more than its slot has is refused by the first op on it.
"""

from accelsim.numerics import views
from accelsim.program.recording import Buffer, Tile, asked_extent, held_extent, misfit
from accelsim.runtime.jit import jit_inner

__all__ = [
    "columns",
    "computed_in",
    "rows_from",
    "tile",
    "transposed",
]


@jit_inner
def tile(buffer: Buffer, turn: int, rows: int, cols: int) -> Tile:
    """Return rows x cols elements of a buffer for its use number `turn`; slots are used in turn."""
    slot = turn % buffer.slots
    data = views.select(buffer.data, slot)
    number, fmt, bits = buffer.first_slot + slot, buffer.fmt, buffer.bits
    # Signs are joined to one branch: four comparisons take half as long again to record.
    if (rows - 1) | (cols - 1) | (buffer.rows - rows) | (buffer.cols - cols) < 0:
        rows, cols = misfit(rows, buffer.rows), misfit(cols, buffer.cols)
    return Tile(number, rows, cols, fmt, bits, data)


@jit_inner
def columns(whole: Tile, first: int, cols: int) -> Tile:
    """Return `cols` columns of a tile from `first` on. An op on them waits as for all of it."""
    rows = whole.rows
    if (rows | first | (cols - 1) | (whole.cols - first - cols)) < 0:
        asked = first + cols if first >= 0 else first
        cols = misfit(asked, held_extent(whole.cols))
        rows, first = misfit(asked_extent(rows), held_extent(rows)), 0
    data = views.columns_from(whole.data, first)
    return Tile(whole.slot, rows, cols, whole.fmt, whole.bits, data)


@jit_inner
def rows_from(whole: Tile, first: int, rows: int) -> Tile:
    """Return `rows` rows of a tile from `first` on. An op on them waits as for all of it."""
    cols = whole.cols
    if (cols | first | (rows - 1) | (whole.rows - first - rows)) < 0:
        asked = first + rows if first >= 0 else first
        rows = misfit(asked, held_extent(whole.rows))
        cols, first = misfit(asked_extent(cols), held_extent(cols)), 0
    data = views.rows_from(whole.data, first)
    return Tile(whole.slot, rows, cols, whole.fmt, whole.bits, data)


@jit_inner
def transposed(whole: Tile) -> Tile:
    """Return whole^T, for matrix units, which read rows and columns alike.

    An op on it waits as for the whole tile.
    """
    data = views.transposed(whole.data, max(whole.rows, 0), max(whole.cols, 0))
    return Tile(whole.slot, whole.cols, whole.rows, whole.fmt, whole.bits, data)


@jit_inner
def computed_in(whole: Tile, fmt: int) -> Tile:
    """Return a tile whose elements are computed in another format than they are stored in."""
    return Tile(whole.slot, whole.rows, whole.cols, fmt, whole.bits, whole.data)
