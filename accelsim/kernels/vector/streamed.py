"""Row functions of rows that do not stay on chip: statistics in one pass, results in a second.

A row is read in steps of `tile_cols` columns. HBM traffic: the operand read twice, the result
written once. Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018),
Algorithm 3; Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
Sample Variances" (1979), for the deviations of rows in parts.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.blocks import block_at
from accelsim.kernels.vector.functions import LAYERNORM, RMSNORM, SOFTMAX, root_of_mean
from accelsim.kernels.vector.operands import computed, load_operand, store_result

_LOWEST = float(np.finfo(np.float32).min)
"""Where maxima begin: from -inf, a step that is all -inf would make NaN."""


class _Statistics(NamedTuple):
    """One number for each row of a tile."""

    center: al.Tile
    """Maximum or mean so far."""
    total: al.Tile
    """Sum of the exponentials or of the squared distances from the mean."""
    change: al.Tile
    """How far a step moves the center."""
    part: al.Tile
    """What a step adds to the total."""


NUM_COLUMNS = len(_Statistics._fields)


@al.jit
def streamed(p, k):
    """All row tiles, computed in FP32."""
    for item in range(-(-k.x.matrix.rows // k.tile_rows)):
        if not al.begin_item(p, 0):
            continue
        row = item * k.tile_rows
        statistics = _statistics(min(k.tile_rows, k.x.matrix.rows - row), k)
        _sum_up(p, row, statistics, k)
        _store_results(p, row, statistics, k)


@al.jit_inner
def _statistics(rows, k):
    """The statistics of a tile of rows."""
    center, total = al.tile(k.column, 0, rows, 1), al.tile(k.column, 1, rows, 1)
    return _Statistics(center, total, al.tile(k.column, 2, rows, 1), al.tile(k.column, 3, rows, 1))


@al.jit_inner
def _sum_up(p, row, s, k):
    """Find the statistics of a tile of rows."""
    al.fill(p, s.center, _LOWEST if k.function == SOFTMAX else 0.0)
    al.fill(p, s.total, 0.0)
    for step in range(-(-k.x.matrix.cols // k.tile_cols)):
        at = block_at(k.x.matrix, row, step * k.tile_cols, k.tile_rows, k.tile_cols)
        load_operand(p, step, at, k.x)
        x = computed(p, step, at, k.x)
        if k.function == SOFTMAX:
            _add_exponentials(p, x, s)
        else:
            _add_squares(p, x, at.col, k.function == LAYERNORM, s)
    if k.function != SOFTMAX:
        root_of_mean(p, s.total, k.x.matrix.cols, k.epsilon)


@al.jit_inner
def _store_results(p, row, s, k):
    """Read the rows again, and store what their statistics make of them."""
    steps = -(-k.x.matrix.cols // k.tile_cols)
    for step in range(steps):
        at = block_at(k.x.matrix, row, step * k.tile_cols, k.tile_rows, k.tile_cols)
        load_operand(p, steps + step, at, k.x)
        x = computed(p, steps + step, at, k.x)
        if k.function != RMSNORM:
            al.subtract_column(p, x, x, s.center)
        if k.function == SOFTMAX:
            al.exp(p, x, x)
        al.divide_column(p, x, x, s.total)
        store_result(p, steps + step, at, x, k.result)


@al.jit_inner
def _add_exponentials(p, x, s):
    """Bring the maxima and the sums of exponentials up to date with a step, which is used up."""
    al.row_max(p, s.part, x)
    al.maximum(p, s.part, s.part, s.center)
    al.subtract(p, s.change, s.center, s.part)
    al.exp(p, s.change, s.change)
    al.multiply(p, s.total, s.total, s.change)
    al.maximum(p, s.center, s.center, s.part)
    al.subtract_column(p, x, x, s.center)
    al.exp(p, x, x)
    al.row_sum(p, s.part, x)
    al.add(p, s.total, s.total, s.part)


@al.jit_inner
def _add_squares(p, x, col, is_centered, s):
    """Bring the sums of squares, and the means they are taken from, up to date with a step."""
    if is_centered:
        cols = x.cols
        al.row_sum(p, s.part, x)
        al.scale(p, s.part, s.part, 1 / cols)
        al.subtract_column(p, x, x, s.part)
        # With n before and m new columns: mean += d m / (n + m), total += d^2 n m / (n + m).
        al.subtract(p, s.change, s.part, s.center)
        al.scale(p, s.part, s.change, cols / (col + cols))
        al.add(p, s.center, s.center, s.part)
        al.multiply(p, s.change, s.change, s.change)
        al.scale(p, s.change, s.change, col * cols / (col + cols))
        al.add(p, s.total, s.total, s.change)
    al.multiply(p, x, x, x)
    al.row_sum(p, s.part, x)
    al.add(p, s.total, s.total, s.part)
