"""The steps of quantized linears around their products: which tile, its operands, its result.

`k` is the layout, `at` the tile of Y, `panel` a panel of input channels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.integer.chunks import RowTiles
from accelsim.kernels.linear.integer.operands import Doubles
from accelsim.numerics.integer import Accumulator, Starts
from accelsim.numerics.reductions import note_peak
from accelsim.program import language as al
from accelsim.program.recording import Buffer, Tensor
from accelsim.runtime.jit import jit_inner


class Matrices(NamedTuple):
    """Matrices in HBM."""

    codes: Tensor
    """Codes of X [m, channels]."""
    weights: Tensor
    """Codes of W, column tile after column tile [tiles_n x channels, tile_n]."""
    order: Tensor
    """Channels by group [chunks, channels]."""
    scale: Tensor
    """Factor of every column [chunks, n]."""
    bias: Tensor
    """What is added to every column [chunks, n]."""
    row_scale: Tensor
    """Factor of every row [m, 1]."""
    y: Tensor
    """[m, n]"""


class Layout(NamedTuple):
    """Sizes in elements of the products Y [m, n] = X [m, channels] W [channels, n], and tiles."""

    n: int
    channels: int
    tile_n: int
    tile_k: int
    tiles_n: int
    """Column tiles of Y."""
    panels: int
    """Panels of input channels that are multiplied one after the other."""
    block: int
    """Column tiles of a work item."""
    blocks: int
    """Work items along a row of Y."""
    row_tiles: RowTiles
    groups: int
    """Groups of channels; 0: channels are read one after the other."""
    starts: Starts
    """Where groups begin in the order of their panel [chunks x panels x (groups + 1)]."""
    factors: Doubles
    """What one unit of the sums of every group is worth [chunks, groups]."""
    accumulator: Accumulator
    peak: NDArray[np.int64]
    """Largest magnitude of any sum that was drained [1]."""
    has_row_scale: bool
    has_bias: bool
    hbm: Matrices
    codes: Buffer
    weights: Buffer
    order: Buffer
    acc: Buffer
    sums: Buffer
    wide: Buffer
    total: Buffer
    scale: Buffer
    bias: Buffer
    row_scale: Buffer
    y: Buffer


class Place(NamedTuple):
    """A tile of Y."""

    item: int
    """Work item that it belongs to."""
    number: int
    """Place among the tiles of its item."""
    turn: int
    """Place among all tiles of this core, were its items all of one length."""
    chunk: int
    row: int
    rows: int
    col_tile: int
    col: int
    cols: int


@jit_inner
def num_items(k):
    """Work items: a row tile and a block of column tiles each."""
    return len(k.row_tiles) * k.blocks


@jit_inner
def tiles_of(item, k):
    """Tiles of Y that are one work item."""
    return min(k.block, k.tiles_n - item % k.blocks * k.block)


@jit_inner
def place_of(item, number, k):
    """A tile of a work item."""
    chunk, row, rows = k.row_tiles[item // k.blocks]
    col_tile = item % k.blocks * k.block + number
    col = col_tile * k.tile_n
    cols, turn = min(k.tile_n, k.n - col), item * k.block + number
    return Place(item, number, turn, chunk, row, rows, col_tile, col, cols)


@jit_inner
def is_first_use(panels, at):
    """Whether what belongs to the rows has to be loaded: it stays if one panel has all channels."""
    return panels > 1 or at.number == 0


@jit_inner
def rows_turn(panel, panels, at):
    """The turn of what belongs to the rows, which changes with the item if it stays."""
    return at.turn * panels + panel if panels > 1 else at.item


@jit_inner
def channels_of(panel, k):
    """Channels of a panel."""
    return min(k.tile_k, k.channels - panel * k.tile_k)


@jit_inner
def load_operands(p, panel, at, k):
    """Return the tiles of X and W of one panel, loaded; X only if it is not there."""
    start, channels = panel * k.tile_k, channels_of(panel, k)
    x = al.tile(k.codes, rows_turn(panel, k.panels, at), at.rows, channels)
    w = al.tile(k.weights, at.turn * k.panels + panel, channels, at.cols)
    if is_first_use(k.panels, at):
        al.load(p, x, k.hbm.codes, at.row, start)
    al.load(p, w, k.hbm.weights, at.col_tile * k.channels + start, 0)
    return x, w


@jit_inner
def load_order(p, panel, at, k):
    """Load the order of the channels of a panel, if it is not there."""
    order = al.tile(k.order, rows_turn(panel, k.panels, at), 1, channels_of(panel, k))
    if is_first_use(k.panels, at):
        al.load(p, order, k.hbm.order, at.chunk, panel * k.tile_k)
    return order


@jit_inner
def first_start(panel, at, k):
    """Where `starts` says of a panel at which position its first group begins."""
    return (at.chunk * k.panels + panel) * (k.groups + 1)


@jit_inner
def multiply_panels(p, at, k):
    """Return an accumulator tile with the sums over all channels, panel by panel."""
    acc = al.tile(k.acc, at.col_tile, at.rows, at.cols)
    for panel in range(k.panels):
        x, w = load_operands(p, panel, at, k)
        al.int_matmul(p, acc, x, w, k.accumulator, panel > 0)
    return acc


@jit_inner
def drain(p, turn, acc, k):
    """Return the sums of an accumulator tile in FP32, rounded once; `peak` notes the largest."""
    sums, wide = al.tile(k.sums, turn, acc.rows, acc.cols), al.tile(k.wide, 0, acc.rows, acc.cols)
    al.move(p, sums, acc)
    note_peak(k.peak, sums.data, acc.rows, acc.cols)
    al.convert(p, wide, sums)
    return wide


@jit_inner
def write_output(p, wide, at, k):
    """Scale the sums of a tile in FP32, add the bias, and store them in the format of Y."""
    scale_sums(p, wide, at, k)
    store_output(p, wide, at, k)


@jit_inner
def scale_sums(p, wide, at, k):
    """Scale the sums of a tile in FP32 and add the bias."""
    factor = al.tile(k.scale, at.col_tile, 1, at.cols)
    al.load(p, factor, k.hbm.scale, at.chunk, at.col)
    al.multiply_row(p, wide, wide, factor)
    if k.has_row_scale:
        row_factor = al.tile(k.row_scale, at.item, at.rows, 1)
        if at.number == 0:
            al.load(p, row_factor, k.hbm.row_scale, at.row, 0)
        al.multiply_column(p, wide, wide, row_factor)
    if k.has_bias:
        bias = al.tile(k.bias, at.col_tile, 1, at.cols)
        al.load(p, bias, k.hbm.bias, at.chunk, at.col)
        al.add_row(p, wide, wide, bias)


@jit_inner
def store_output(p, wide, at, k):
    """Store a tile of values in the format of Y."""
    y = al.tile(k.y, at.col_tile, at.rows, at.cols)
    al.convert(p, y, wide)
    al.store(p, k.hbm.y, at.row, at.col, y)
