"""Row functions of rows that do not stay on chip: statistics in one pass, results in a second.

A row is read in steps of `tile_cols` columns. HBM traffic: the operand read twice, the result
written once. Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018),
Algorithm 3; Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
Sample Variances" (1979), for the deviations of rows in parts.
"""

import numpy as np

from accelsim.jit import jit, jit_inner
from accelsim.kernels.vector.functions import LAYERNORM, RMSNORM, SOFTMAX, root_of_mean
from accelsim.numerics.formats import FP32
from accelsim.program.old.language import (
    add,
    begin_item,
    convert,
    divide_column,
    exp,
    fill,
    load,
    maximum,
    multiply,
    row_max,
    row_sum,
    scale,
    store,
    subtract,
    subtract_column,
    tile,
)

_LOWEST = float(np.finfo(np.float32).min)
"""Where maxima begin: from -inf, a step that is all -inf would make NaN."""
NUM_COLUMNS = 4
_CENTER, _TOTAL, _CHANGE, _PART = range(NUM_COLUMNS)
"""Statistics of the rows: maximum or mean so far; sum of the exponentials or of the squared
distances from the mean; how far a step moves the center; what a step adds to the total."""


@jit
def streamed(p, shape, stored, hbm, b):
    """All row tiles, computed in FP32; stored: format code of the tensors."""
    for item in range(-(-shape.rows // shape.tile_rows)):
        begin_item(p, 0)
        row = item * shape.tile_rows
        rows = min(shape.tile_rows, shape.rows - row)
        turn = _sum_up(p, row, rows, shape, stored, hbm, b)
        _store_results(p, turn, row, rows, shape, stored, hbm, b)


@jit_inner
def _sum_up(p, row, rows, shape, stored, hbm, b):
    """Find the statistics of a tile of rows; return the steps it took."""
    center, total = tile(b.column, _CENTER), tile(b.column, _TOTAL)
    fill(p, center, _LOWEST if shape.function == SOFTMAX else 0.0, rows, 1, FP32)
    fill(p, total, 0.0, rows, 1, FP32)
    turn = 0
    for col in range(0, shape.cols, shape.tile_cols):
        cols = min(shape.tile_cols, shape.cols - col)
        x = _load_step(p, turn, row, col, rows, cols, stored, hbm, b)
        if shape.function == SOFTMAX:
            _add_exponentials(p, x, rows, cols, b)
        else:
            _add_squares(p, x, rows, col, cols, shape.function == LAYERNORM, b)
        turn += 1
    if shape.function != SOFTMAX:
        root_of_mean(p, total, rows, shape, FP32)
    return turn


@jit_inner
def _store_results(p, turn, row, rows, shape, stored, hbm, b):
    """Read the rows again, and store what their statistics make of them."""
    center, total = tile(b.column, _CENTER), tile(b.column, _TOTAL)
    for col in range(0, shape.cols, shape.tile_cols):
        cols = min(shape.tile_cols, shape.cols - col)
        x = _load_step(p, turn, row, col, rows, cols, stored, hbm, b)
        if shape.function != RMSNORM:
            subtract_column(p, x, x, center, rows, cols, FP32)
        if shape.function == SOFTMAX:
            exp(p, x, x, rows, cols, FP32)
        divide_column(p, x, x, total, rows, cols, FP32)
        result = tile(b.stored, turn)
        if stored != FP32:
            convert(p, result, x, rows, cols, FP32, stored)
        store(p, hbm.result, row, col, result, rows, cols)
        turn += 1


@jit_inner
def _load_step(p, turn, row, col, rows, cols, stored, hbm, b):
    """Load a step of the rows and return it in FP32."""
    x = tile(b.x_stored, turn)
    load(p, x, hbm.x, row, col, rows, cols)
    if stored == FP32:
        return x
    own = tile(b.x, turn)
    convert(p, own, x, rows, cols, FP32, FP32)
    return own


@jit_inner
def _add_exponentials(p, x, rows, cols, b):
    """Bring the maxima and the sums of exponentials up to date with a step, which is used up."""
    center, total = tile(b.column, _CENTER), tile(b.column, _TOTAL)
    change, part = tile(b.column, _CHANGE), tile(b.column, _PART)
    row_max(p, part, x, rows, cols, FP32)
    maximum(p, part, part, center, rows, 1, FP32)
    subtract(p, change, center, part, rows, 1, FP32)
    exp(p, change, change, rows, 1, FP32)
    multiply(p, total, total, change, rows, 1, FP32)
    maximum(p, center, center, part, rows, 1, FP32)
    subtract_column(p, x, x, center, rows, cols, FP32)
    exp(p, x, x, rows, cols, FP32)
    row_sum(p, part, x, rows, cols, FP32)
    add(p, total, total, part, rows, 1, FP32)


@jit_inner
def _add_squares(p, x, rows, col, cols, is_centered, b):
    """Bring the sums of squares, and the means they are taken from, up to date with a step."""
    center, total = tile(b.column, _CENTER), tile(b.column, _TOTAL)
    change, part = tile(b.column, _CHANGE), tile(b.column, _PART)
    if is_centered:
        row_sum(p, part, x, rows, cols, FP32)
        scale(p, part, part, 1 / cols, rows, 1, FP32)
        subtract_column(p, x, x, part, rows, cols, FP32)
        # With n before and m new columns: mean += d m / (n + m), total += d^2 n m / (n + m).
        subtract(p, change, part, center, rows, 1, FP32)
        scale(p, part, change, cols / (col + cols), rows, 1, FP32)
        add(p, center, center, part, rows, 1, FP32)
        multiply(p, change, change, change, rows, 1, FP32)
        scale(p, change, change, col * cols / (col + cols), rows, 1, FP32)
        add(p, total, total, change, rows, 1, FP32)
    multiply(p, x, x, x, rows, cols, FP32)
    row_sum(p, part, x, rows, cols, FP32)
    add(p, total, total, part, rows, 1, FP32)
