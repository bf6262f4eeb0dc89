"""The steps of quantized linears around their products: which tile, its operands, its result."""

from typing import Any, NamedTuple

from accelsim.jit import jit_inner
from accelsim.numerics.formats import FP32, INT32
from accelsim.numerics.quantizing import note_peak
from accelsim.program.old.integer import int_matmul
from accelsim.program.old.language import (
    begin_item,
    convert,
    load,
    move,
    multiply_column,
    store,
    tile,
)
from accelsim.program.old.quantizing import add_row, multiply_row


class Shape(NamedTuple):
    """Sizes in elements of the products Y [m, n] = X [m, k] W [k, n]."""

    n: int
    k: int
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
    output: int
    """Code of the format of Y."""


class Matrices(NamedTuple):
    """Matrices in HBM; what a kernel has no use for is a matrix that it has."""

    codes: Any
    """Codes of X [m, k]."""
    weights: Any
    """Codes of W, column tile after column tile [tiles_n x k, tile_n]."""
    order: Any
    """Channels by group [chunks, k]."""
    scale: Any
    """Factor of every column [chunks, n]."""
    bias: Any
    """What is added to every column [chunks, n]."""
    row_scale: Any
    """Factor of every row [m, 1]."""
    y: Any
    """[m, n]"""


class Buffers(NamedTuple):
    """On-chip tiles; what a kernel has no use for is a buffer that it has."""

    codes: Any
    weights: Any
    order: Any
    acc: Any
    sums: Any
    wide: Any
    total: Any
    scale: Any
    bias: Any
    row_scale: Any
    y: Any


class Epilogues(NamedTuple):
    """Which steps an epilogue has."""

    has_row_scale: bool
    has_bias: bool


class Strip(NamedTuple):
    """Rows and column tiles of Y that are one work item."""

    item: int
    chunk: int
    row: int
    rows: int
    first: int
    """First column tile."""
    end: int


@jit_inner
def begin_strip(p, phase, item, row_tiles, shape):
    """Begin work item `item`: a row of row_tiles, and a block of column tiles."""
    begin_item(p, phase)
    at, first = item // shape.blocks, item % shape.blocks * shape.block
    end = min(first + shape.block, shape.tiles_n)
    return Strip(item, row_tiles[at, 0], row_tiles[at, 1], row_tiles[at, 2], first, end)


@jit_inner
def is_first_use(strip, col_tile, shape):
    """Return whether what belongs to the rows has to be loaded: it stays if all channels fit."""
    return shape.panels > 1 or col_tile == strip.first


@jit_inner
def rows_turn(strip, turn, shape):
    """Return the turn of what belongs to the rows, which changes with the item if it stays."""
    return turn if shape.panels > 1 else strip.item


@jit_inner
def columns_of(col_tile, shape):
    """Return the columns of a column tile."""
    return min(shape.tile_n, shape.n - col_tile * shape.tile_n)


@jit_inner
def load_operands(p, strip, col_tile, panel, shape, hbm, b):
    """Return the tiles of X and W of one panel, loaded; X only if it is not there."""
    turn = turn_of(strip, col_tile, panel, shape)
    start = panel * shape.tile_k
    channels = min(shape.tile_k, shape.k - start)
    left, right = tile(b.codes, rows_turn(strip, turn, shape)), tile(b.weights, turn)
    if is_first_use(strip, col_tile, shape):
        load(p, left, hbm.codes, strip.row, start, strip.rows, channels)
    first_row = col_tile * shape.k + start
    load(p, right, hbm.weights, first_row, 0, channels, columns_of(col_tile, shape))
    return left, right


@jit_inner
def turn_of(strip, col_tile, panel, shape):
    """Return the number of a panel among all of this core's, were its items all of one length."""
    tiles = strip.item * shape.block + col_tile - strip.first
    return tiles * shape.panels + panel


@jit_inner
def load_order(p, strip, col_tile, panel, shape, hbm, b):
    """Load the order of the channels of a panel, if it is not there."""
    turn = rows_turn(strip, turn_of(strip, col_tile, panel, shape), shape)
    order = tile(b.order, turn)
    if is_first_use(strip, col_tile, shape):
        start = panel * shape.tile_k
        load(p, order, hbm.order, strip.chunk, start, 1, min(shape.tile_k, shape.k - start))
    return order


@jit_inner
def drain(p, turn, acc, rows, cols, peak, b):
    """Return the sums of an accumulator tile in FP32, rounded once; peak[0] notes the largest."""
    sums, wide = tile(b.sums, turn), tile(b.wide, 0)
    move(p, sums, acc, rows, cols, INT32, INT32)
    note_peak(peak, sums.data, rows, cols)
    convert(p, wide, sums, rows, cols, FP32, FP32)
    return wide


@jit_inner
def multiply_panels(p, strip, col_tile, accumulator, shape, hbm, b):
    """Return an accumulator tile with the sums over all channels, panel by panel."""
    rows, cols, acc = strip.rows, columns_of(col_tile, shape), tile(b.acc, col_tile)
    for panel in range(shape.panels):
        x, w = load_operands(p, strip, col_tile, panel, shape, hbm, b)
        depth = min(shape.tile_k, shape.k - panel * shape.tile_k)
        int_matmul(p, acc, x, w, rows, cols, depth, accumulator, panel > 0)
    return acc


@jit_inner
def write_output(p, wide, strip, col_tile, has, shape, hbm, b):
    """Scale the sums of a tile in FP32, add the bias, and store them in the format of Y."""
    scale_sums(p, wide, strip, col_tile, has, shape, hbm, b)
    store_output(p, wide, strip, col_tile, shape, hbm, b)


@jit_inner
def scale_sums(p, wide, strip, col_tile, has, shape, hbm, b):
    """Scale the sums of a tile in FP32 and add the bias."""
    rows, col, cols = strip.rows, col_tile * shape.tile_n, columns_of(col_tile, shape)
    factor = tile(b.scale, col_tile)
    load(p, factor, hbm.scale, strip.chunk, col, 1, cols)
    multiply_row(p, wide, wide, factor, rows, cols, FP32)
    if has.has_row_scale:
        row_factor = tile(b.row_scale, strip.item)
        if col_tile == strip.first:
            load(p, row_factor, hbm.row_scale, strip.row, 0, rows, 1)
        multiply_column(p, wide, wide, row_factor, rows, cols, FP32)
    if has.has_bias:
        bias = tile(b.bias, col_tile)
        load(p, bias, hbm.bias, strip.chunk, col, 1, cols)
        add_row(p, wide, wide, bias, rows, cols, FP32)


@jit_inner
def store_output(p, wide, strip, col_tile, shape, hbm, b):
    """Store a tile of values in the format of Y."""
    out, rows, cols = tile(b.y, col_tile), strip.rows, columns_of(col_tile, shape)
    convert(p, out, wide, rows, cols, FP32, shape.output)
    store(p, hbm.y, strip.row, col_tile * shape.tile_n, out, rows, cols)
