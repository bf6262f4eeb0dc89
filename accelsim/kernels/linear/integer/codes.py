"""The phases that turn X into codes in HBM: by numbers known before, or by peaks found on the way.

A tile goes from HBM to codes in FP32: minus its bias, times the reciprocal of its step, rounded
half to even and saturated.
"""

from typing import Any, NamedTuple

from accelsim.jit import jit, jit_inner
from accelsim.numerics.formats import FP32
from accelsim.program.old.block_ops import tile_max
from accelsim.program.old.language import (
    begin_item,
    convert,
    divide_column,
    fill,
    load,
    maximum,
    multiply_column,
    row_max,
    store,
    subtract_row,
    tile,
)
from accelsim.program.old.quantizing import magnitude, multiply_row
from accelsim.program.old.selection import read_element
from accelsim.quantization.codes import SMALLEST_SCALE


class CodeShape(NamedTuple):
    """Sizes in elements, and what the codes are."""

    k: int
    tile_k: int
    codes: int
    """Code of their format."""
    largest: float
    """Largest code."""


class CodeMatrices(NamedTuple):
    """Matrices in HBM; what a phase has no use for is a matrix that it has."""

    x: Any
    """[m, k]"""
    bias: Any
    """[chunks, k]"""
    reciprocal: Any
    """[chunks, k]"""
    peaks: Any
    """Largest magnitude of the rows of every work item [items, 1]."""
    codes: Any
    """[m, k]"""
    row_scale: Any
    """[m, 1]"""


class CodeBuffers(NamedTuple):
    """On-chip tiles."""

    x: Any
    wide: Any
    bias: Any
    reciprocal: Any
    codes: Any
    peak: Any
    part: Any
    scale: Any
    peaks: Any


@jit
def quantize_static(p, phase, row_tiles, has_bias, shape, hbm, b):
    """All tiles of X, a work item each."""
    tiles_k = -(-shape.k // shape.tile_k)
    for item in range(len(row_tiles) * tiles_k):
        begin_item(p, phase)
        chunk, row, rows = row_tiles[item // tiles_k]
        start = item % tiles_k * shape.tile_k
        cols = min(shape.tile_k, shape.k - start)
        x, wide, factor = tile(b.x, item), tile(b.wide, item), tile(b.reciprocal, item)
        load(p, x, hbm.x, row, start, rows, cols)
        load(p, factor, hbm.reciprocal, chunk, start, 1, cols)
        if has_bias:
            bias = tile(b.bias, item)
            load(p, bias, hbm.bias, chunk, start, 1, cols)
            subtract_row(p, wide, x, bias, rows, cols, FP32)
            multiply_row(p, wide, wide, factor, rows, cols, FP32)
        else:
            multiply_row(p, wide, x, factor, rows, cols, FP32)
        _store_codes(p, item, wide, row, start, rows, cols, shape, hbm, b)


@jit
def find_peaks(p, phase, row_tiles, shape, hbm, b):
    """The largest magnitude in every row tile of X."""
    for item in range(len(row_tiles)):
        begin_item(p, phase)
        _, row, rows = row_tiles[item]
        peak, part = tile(b.peak, item), tile(b.part, item)
        _row_peaks(p, item, row, rows, peak, shape, hbm, b)
        tile_max(p, part, 0, peak, rows, 1, FP32)
        store(p, hbm.peaks, item, 0, part, 1, 1)


@jit
def quantize_dynamic(p, phase, row_tiles, is_shared, shape, hbm, b):
    """All row tiles of X, each row by its own peak, or by the largest of `find_peaks` if shared."""
    for item in range(len(row_tiles)):
        begin_item(p, phase)
        _, row, rows = row_tiles[item]
        peak = tile(b.peak, item)
        if is_shared:
            peaks, part = tile(b.peaks, item), tile(b.part, item)
            load(p, peaks, hbm.peaks, 0, 0, len(row_tiles), 1)
            tile_max(p, part, 0, peaks, len(row_tiles), 1, FP32)
            fill(p, peak, read_element(p, part, 0), rows, 1, FP32)
        else:
            _row_peaks(p, item, row, rows, peak, shape, hbm, b)
        factor = _factors(p, item, row, rows, peak, shape, hbm, b)
        is_loaded = not is_shared and shape.tile_k >= shape.k
        for start in range(0, shape.k, shape.tile_k):
            cols = min(shape.tile_k, shape.k - start)
            turn = item if is_loaded else _turn(item, start, shape)
            x, wide = tile(b.x, turn), tile(b.wide, turn)
            if not is_loaded:
                load(p, x, hbm.x, row, start, rows, cols)
            multiply_column(p, wide, x, factor, rows, cols, FP32)
            _store_codes(p, turn, wide, row, start, rows, cols, shape, hbm, b)


@jit_inner
def _row_peaks(p, item, row, rows, peak, shape, hbm, b):
    """peak[r, 0] = the largest magnitude of row r of a row tile."""
    part = tile(b.part, item)
    for start in range(0, shape.k, shape.tile_k):
        cols = min(shape.tile_k, shape.k - start)
        turn = item if shape.tile_k >= shape.k else _turn(item, start, shape)
        x, wide = tile(b.x, turn), tile(b.wide, turn)
        load(p, x, hbm.x, row, start, rows, cols)
        magnitude(p, wide, x, rows, cols, FP32)
        if start == 0:
            row_max(p, peak, wide, rows, cols, FP32)
        else:
            row_max(p, part, wide, rows, cols, FP32)
            maximum(p, peak, peak, part, rows, 1, FP32)


@jit_inner
def _turn(item, start, shape):
    return item * -(-shape.k // shape.tile_k) + start // shape.tile_k


@jit_inner
def _factors(p, item, row, rows, peak, shape, hbm, b):
    """Store the step of every row, peak / largest code, and return its reciprocal."""
    part, scale = tile(b.part, item), tile(b.scale, item)
    fill(p, part, shape.largest, rows, 1, FP32)
    divide_column(p, scale, peak, part, rows, 1, FP32)
    fill(p, part, SMALLEST_SCALE, rows, 1, FP32)
    maximum(p, scale, scale, part, rows, 1, FP32)
    store(p, hbm.row_scale, row, 0, scale, rows, 1)
    fill(p, part, 1, rows, 1, FP32)
    divide_column(p, part, part, scale, rows, 1, FP32)
    return part


@jit_inner
def _store_codes(p, turn, wide, row, start, rows, cols, shape, hbm, b):
    codes = tile(b.codes, turn)
    convert(p, codes, wide, rows, cols, FP32, shape.codes)
    store(p, hbm.codes, row, start, codes, rows, cols)
