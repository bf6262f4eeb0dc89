"""The steps of linears with shared scales around their products: tiles, operands, results.

`k` is the layout, `at` the tile of Y.
"""

from typing import NamedTuple

from accelsim.kernels import language as al


class Operand(NamedTuple):
    """X or W: elements and scales, in HBM and on chip."""

    elements: al.Tensor
    """Of X [m, k]; of W column tile after column tile [tiles_n x k, tile_n]."""
    scales: al.Tensor
    """Of X [m, k / block]; of W tile after tile [tiles_n x k / block, tile_n / across]."""
    tile: al.Buffer
    scale_tile: al.Buffer
    block: int
    """Elements along k that share a scale."""
    across: int
    """Columns that share it too."""
    blocks: int
    """Blocks along all of k."""


class Layout(NamedTuple):
    """Sizes in elements of Y [m, n] = X [m, depth] W [depth, n], matrices and tiles."""

    depth: int
    tile_m: int
    tile_n: int
    tile_k: int
    tiles_n: int
    """Column tiles of Y."""
    block: int
    """Elements along k that have the same two scales."""
    x: Operand
    w: Operand
    factor: float
    """What values are multiplied by at the end."""
    has_factor: bool
    guard_bits: int
    accumulator: al.Accumulator
    output: al.Tensor
    """Y [m, n]."""
    row_scale: al.Tensor
    """Largest scale of every row of X [m, 1]."""
    column_scale: al.Tensor
    """Largest scale of every column of W, as far as the output has it [1, n]."""
    acc: al.Buffer
    sums: al.Buffer
    """A tile in the format of the accumulator."""
    wide: al.Buffer
    total: al.Buffer
    y: al.Buffer
    row_tile: al.Buffer
    column_tile: al.Buffer


class Place(NamedTuple):
    """A tile of Y, which is a work item."""

    item: int
    row: int
    rows: int
    col_tile: int
    col: int
    cols: int


@al.jit_inner
def num_items(k):
    """Tiles of Y."""
    return -(-k.output.rows // k.tile_m) * k.tiles_n


@al.jit_inner
def place_of(item, k):
    """A tile of Y."""
    row, col_tile = item // k.tiles_n * k.tile_m, item % k.tiles_n
    col = col_tile * k.tile_n
    rows, cols = min(k.tile_m, k.output.rows - row), min(k.tile_n, k.output.cols - col)
    return Place(item, row, rows, col_tile, col, cols)


@al.jit_inner
def num_steps(k):
    """Steps along k."""
    return -(-k.depth // k.tile_k)


@al.jit_inner
def load_operands(p, step, at, k):
    """Return X and W of a step along k, elements and scales loaded."""
    start = step * k.tile_k
    depth = min(k.tile_k, k.depth - start)
    x = _tiles(k.x, step, at.rows, depth, at.rows, -(-depth // k.x.block))
    w_blocks, w_scales = -(-depth // k.w.block), -(-at.cols // k.w.across)
    w = _tiles(k.w, step, depth, at.cols, w_blocks, w_scales)
    al.load(p, x.elements, k.x.elements, at.row, start)
    al.load(p, x.scales, k.x.scales, at.row, start // k.x.block)
    al.load(p, w.elements, k.w.elements, at.col_tile * k.depth + start, 0)
    al.load(p, w.scales, k.w.scales, at.col_tile * k.w.blocks + start // k.w.block, 0)
    return x, w


@al.jit_inner
def _tiles(operand, step, rows, cols, scale_rows, scale_cols):
    elements = al.tile(operand.tile, step, rows, cols)
    scales = al.tile(operand.scale_tile, step, scale_rows, scale_cols)
    return al.Scaled(elements, scales, operand.block, operand.across)


@al.jit_inner
def block_of(x, w, number, k):
    """Return the elements of one block of a step, those of X and those of W."""
    start = number * k.block
    depth = min(k.block, x.elements.cols - start)
    return al.columns(x.elements, start, depth), al.rows_from(w.elements, start, depth)


@al.jit_inner
def add_scaled(p, total, part, x, w, number, k):
    """Multiply the sums of a block by their scales and add them to the total; the first is it."""
    start = number * k.block
    x_scale = al.columns(x.scales, start // x.block, 1)
    w_scale = al.rows_from(w.scales, start // w.block, 1)
    al.multiply_column(p, part, part, x_scale)
    al.multiply_row_runs(p, part, part, w_scale, w.across)
    al.add(p, total, total, part)


@al.jit_inner
def write_output(p, wide, at, k):
    """Multiply values by the factor, if there is one, and store them in the format of Y."""
    if k.has_factor:
        al.scale(p, wide, wide, k.factor)
    y = al.tile(k.y, at.item, at.rows, at.cols)
    al.convert(p, y, wide)
    al.store(p, k.output, at.row, at.col, y)
