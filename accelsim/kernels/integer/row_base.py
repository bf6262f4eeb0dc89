"""The phase that turns X into codes of channel groups whose base every row finds for itself.

A row is rotated, if X is, and centered, its channels are multiplied by 2^group, exactly, and what
is then its largest magnitude is the base: beside a scale per row that is one product an element
more.
"""

from accelsim.kernels.integer.encoding import (
    Layout,
    piece_at,
    raise_peaks,
    rotated_tile,
    row_factors,
    store_codes,
    tiles_at,
)
from accelsim.kernels.integer.phases import Loop
from accelsim.program import language as al
from accelsim.runtime.jit import jit, jit_inner


def base_loop(k: Layout) -> Loop:
    """Return the loop that makes codes by the base of every row."""
    return Loop(encode_by_base, len(k.row_tiles), (k,))


@jit
def encode_by_base(p, phase, k):
    """All row tiles of X, a work item each."""
    for item in range(len(k.row_tiles)):
        al.begin_item(p, phase)
        factor = row_factors(p, item, k.row_tiles[item, 1], row_bases(p, item, k), k)
        for panel in range(k.panels):
            at = piece_at(item, panel, k)
            wide = tiles_at(at, k)[1]
            if k.panels > 1:
                wide = scaled_tile(p, at, k)
            al.multiply_column(p, wide, wide, factor)
            store_codes(p, wide, at, k)


@jit_inner
def row_bases(p, item, k):
    """Return the largest magnitude of every row of a row tile, channels scaled by their group."""
    rows = k.row_tiles[item, 2]
    base, part = al.tile(k.peak, item, rows, 1), al.tile(k.part, item, rows, 1)
    for panel in range(k.panels):
        at = piece_at(item, panel, k)
        large = al.tile(k.large, at.turn, at.rows, at.cols)
        al.magnitude(p, large, scaled_tile(p, at, k))
        raise_peaks(p, panel, base, part, large)
    return base


@jit_inner
def scaled_tile(p, at, k):
    """Return a tile of X, loaded and rotated, less its bias, every channel times 2^group."""
    x, wide = tiles_at(at, k)
    factor = al.tile(k.reciprocal, at.turn, 1, at.cols)
    al.load(p, x, k.hbm.x, at.row, at.col)
    x = rotated_tile(p, x, k)
    al.load(p, factor, k.hbm.reciprocal, at.chunk, at.col)
    if k.has_bias:
        bias = al.tile(k.bias, at.turn, 1, at.cols)
        al.load(p, bias, k.hbm.bias, at.chunk, at.col)
        al.subtract_row(p, wide, x, bias)
        x = wide
    al.multiply_row(p, wide, x, factor)
    return wide
