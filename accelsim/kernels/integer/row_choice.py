"""The phase that turns X into codes of channel groups, every row by the best of several bases.

Candidate i is the largest magnitude of a row, channels scaled by their group, over 2^(i/4). The row
is encoded with each, decoded, and the squares of what is lost are added; channels count as they
were before they were scaled. Eight vector ops an element and candidate.
"""

from typing import NamedTuple

from accelsim.kernels.integer.encoding import Layout, piece_at, steps_of, store_codes, tiles_at
from accelsim.kernels.integer.phases import Loop
from accelsim.kernels.integer.row_base import row_bases, scaled_tile
from accelsim.program import language as al
from accelsim.program.recording import Tile
from accelsim.runtime.jit import jit, jit_inner

COLUMNS = 8
"""Numbers per row that the choice needs."""
_BASE, _STEP, _RECIPROCAL, _ERROR, _BEST_STEP, _LEAST_ERROR, _KEPT, _PART = range(COLUMNS)


def choice_loop(k: Layout) -> Loop:
    """Return the loop that makes codes by the best base of every row."""
    return Loop(encode_by_choice, len(k.row_tiles), (k,))


@jit
def encode_by_choice(p, phase, k):
    """All row tiles of X, a work item each."""
    for item in range(len(k.row_tiles)):
        al.begin_item(p, phase)
        rows = k.row_tiles[item, 2]
        peak = row_bases(p, item, k)
        for index in range(len(k.shrink)):
            _try(p, item, peak, index, k)
        factor = best_factors(p, k.row_tiles[item, 1], rows, k)
        for panel in range(k.panels):
            at = piece_at(item, panel, k)
            wide = _there(p, at, k)
            al.multiply_column(p, wide, wide, factor)
            store_codes(p, wide, at, k)


@jit_inner
def _try(p, item, peak, index, k):
    """Take candidate `index` where it loses less than those before."""
    candidate = candidate_of(p, index, peak, k)
    for panel in range(k.panels):
        at = piece_at(item, panel, k)
        wide, worth = _there(p, at, k), al.tile(k.worth, at.turn, 1, at.cols)
        al.load(p, worth, k.hbm.worth, at.chunk, at.col)
        add_lost(p, panel, at.turn, wide, worth, candidate, k)
    take_better(p, index, candidate, k)


class Candidate(NamedTuple):
    """Steps that rows try, their reciprocals, and what they lose; a number for each row."""

    step: Tile
    factor: Tile
    error: Tile


@jit_inner
def candidate_of(p, index, peak, k):
    """Return candidate `index` of rows with these largest magnitudes."""
    rows = peak.rows
    step, base = _column(_STEP, rows, k), _column(_BASE, rows, k)
    al.scale(p, base, peak, k.shrink[index])
    steps_of(p, step, base, _column(_PART, rows, k), k)
    return Candidate(step, _inverse(p, step, k), _column(_ERROR, rows, k))


@jit_inner
def add_lost(p, panel, turn, wide, worth, candidate, k):
    """Add the squares of what codes lose of one more panel of scaled X to the error of its rows."""
    step, factor, error = candidate
    lost = al.tile(k.large, turn, wide.rows, wide.cols)
    codes = al.tile(k.tried, turn, wide.rows, wide.cols)
    al.multiply_column(p, lost, wide, factor)
    al.convert(p, codes, lost)
    al.convert(p, lost, codes)
    al.multiply_column(p, lost, lost, step)
    al.subtract(p, lost, lost, wide)
    al.multiply_row(p, lost, lost, worth)
    al.multiply(p, lost, lost, lost)
    if panel == 0:
        al.row_sum(p, error, lost)
    else:
        part = _column(_PART, wide.rows, k)
        al.row_sum(p, part, lost)
        al.add(p, error, error, part)


@jit_inner
def take_better(p, index, candidate, k):
    """Keep the best step and the least error of every row; the first ones are those so far."""
    step, error, rows = candidate.step, candidate.error, candidate.step.rows
    best, least = _column(_BEST_STEP, rows, k), _column(_LEAST_ERROR, rows, k)
    if index == 0:
        al.scale(p, best, step, 1.0)
        al.scale(p, least, error, 1.0)
        return
    kept, part = _column(_KEPT, rows, k), _column(_PART, rows, k)
    al.at_least(p, kept, error, least)
    al.scale(p, part, kept, -1.0)
    al.add_scalar(p, part, part, 1.0)
    _pick(p, best, step, kept, part)
    _pick(p, least, error, kept, part)


@jit_inner
def _pick(p, so_far, new, kept, taken):
    """so_far = kept x so_far + taken x new, of which one factor is 1 and the other 0."""
    al.multiply(p, so_far, so_far, kept)
    al.multiply(p, new, new, taken)
    al.add(p, so_far, so_far, new)


@jit_inner
def best_factors(p, row, rows, k):
    """Store the best steps of the rows from `row` on, and return their reciprocals."""
    step = _column(_BEST_STEP, rows, k)
    al.store(p, k.hbm.row_scale, row, 0, step)
    return _inverse(p, step, k)


@jit_inner
def _inverse(p, step, k):
    """Return 1 / step of every row."""
    one, factor = _column(_PART, step.rows, k), _column(_RECIPROCAL, step.rows, k)
    al.fill(p, one, 1.0)
    al.divide_column(p, factor, one, step)
    return factor


@jit_inner
def _there(p, at, k):
    """Return a tile of scaled X: it still lies there if a row is one tile."""
    return scaled_tile(p, at, k) if k.panels > 1 else tiles_at(at, k)[1]


@jit_inner
def _column(which, rows, k):
    return al.tile(k.choice, which, rows, 1)
