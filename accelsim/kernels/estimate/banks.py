"""How the rows of a matrix lie on the channels of a banked HBM, by its mapping."""

import math
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.mapping import bank_and_row, digit_table
from accelsim.kernels.estimate.memo import remembered
from accelsim.runtime.jit import borrow, jit, jit_inline, jit_inner

_BLOCK_ROWS = 16
_MOST_ROWS = 512
"""Rows of a matrix that are looked at; what they show, the others repeat."""
_MOST_COLUMNS = 64
_PARTS = 8
"""Columns to a piece of a channel at most."""
_FIRST_VIEWS, _VIEWS = 4, 20
"""Views that are followed, one after the other; the first ones only fill the channels."""
_TINY = 1e-9
_CHANNEL = ("channel", "pseudo_channel")


class Places(NamedTuple):
    """Where the rows of a matrix lie."""

    loads: npt.NDArray[np.float64]
    """Bytes of each pseudo-channel in the first 0, 1, ... blocks of rows and the first 0, 1, ...
    columns, [blocks + 1, columns + 1, pseudo-channels]."""
    column_bytes: int
    pitch_bytes: float


def piece_bytes(hbm: BankedHbmSpec) -> int:
    """Return the bytes in a row that lie in one channel before the next one follows."""
    below = takewhile(lambda digit: digit.field not in _CHANNEL, hbm.digits)
    return hbm.dram.shape.burst * math.prod(digit.size for digit in below)


def view_bytes(hbm: BankedHbmSpec) -> int:
    """Return the bytes among which the controllers of all channels choose."""
    return hbm.controller.window * hbm.dram.shape.burst * hbm.channels


@remembered
def places_of(hbm: BankedHbmSpec, pitch_bytes: float) -> Places:
    """Return where rows lie that begin `pitch_bytes` apart."""
    shape, piece = hbm.dram.shape, piece_bytes(hbm)
    column = piece
    while pitch_bytes % column and column > piece // _PARTS:
        column //= 2
    column *= math.ceil(pitch_bytes / (column * _MOST_COLUMNS))
    columns, channels = math.ceil(pitch_bytes / column), hbm.channels * shape.pseudo_channels
    loads = np.zeros((_MOST_ROWS // _BLOCK_ROWS + 1, columns + 1, channels))
    digits = digit_table(hbm.digits, shape, hbm.hashed)
    banks = shape.banks * shape.bank_groups * shape.ranks
    _count(digits, piece, piece // shape.burst, banks, pitch_bytes, column, loads)
    return Places(loads, column, pitch_bytes)


def crowding_in_view(
    hbm: BankedHbmSpec, places: Places, rows: Any, widths_bytes: Any, *, is_swept: bool
) -> npt.NDArray[np.float64]:
    """Return how much longer loads of a matrix take than at the rate of the HBM.

    A view has so many rows of so many bytes. Those beside them come next if `is_swept`, else those
    below. While all that the controller of a channel looks at is for one of its pseudo-channels,
    the others have nothing to do.
    """
    pitch = places.pitch_bytes
    widths = np.minimum(widths_bytes, pitch)
    sweeps = np.ceil(pitch / widths - _TINY) if is_swept else np.ones(len(widths))
    views = np.stack([rows, (pitch / sweeps if is_swept else widths) / places.column_bytes, sweeps])
    found, room = np.empty(len(widths)), np.empty((4, places.loads.shape[2]))
    _follow(places.loads, views, hbm.dram.shape.pseudo_channels, found, room)
    return found


_bank_and_row = jit_inline(bank_and_row)


@jit
def _count(digits, piece, bursts, banks, pitch, column, loads):
    """Fill in the loads of rows that begin a pitch apart, in columns; all in bytes. A piece has so
    many bursts, a pseudo-channel so many banks."""
    digits = borrow(digits)
    loads = borrow(loads)
    for row in range((len(loads) - 1) * _BLOCK_ROWS):
        known = -1
        channel = 0
        for place in range(1, loads.shape[1]):
            at = row * pitch + (place - 1) * column
            end = min(at + column, (row + 1) * pitch)
            while at < end:
                number = int(at / piece)
                if number != known:
                    bank, _ = _bank_and_row(digits, number * bursts)
                    channel = bank // banks
                    known = number
                stop = min(end, (number + 1.0) * piece)
                loads[row // _BLOCK_ROWS + 1, place, channel] += stop - at
                at = stop
    for block in range(1, len(loads)):
        for place in range(1, loads.shape[1]):
            for j in range(loads.shape[2]):
                others = loads[block - 1, place, j] + loads[block, place - 1, j]
                loads[block, place, j] += others - loads[block - 1, place - 1, j]


@jit_inner
def part_of(places, rows, width, loads, sign):
    """Add to loads what lies in the first rows and columns; more rows repeat the others."""
    blocks = len(places) - 1
    row = rows / _BLOCK_ROWS
    rounds = np.floor(row / blocks)
    row -= rounds * blocks
    top = int(row)
    left = min(int(width), places.shape[1] - 2)
    down = row - top
    across = width - left
    for j in range(places.shape[2]):
        upper = places[top, left, j] * (1 - across) + places[top, left + 1, j] * across
        top_next = min(top + 1, blocks)
        lower = places[top_next, left, j] * (1 - across) + places[top_next, left + 1, j] * across
        whole = places[blocks, left, j] * (1 - across) + places[blocks, left + 1, j] * across
        loads[j] += sign * (upper * (1 - down) + lower * down + rounds * whole)


@jit
def _follow(places, views, pseudo_channels, found, room):
    """Fill in how much longer each sequence of views takes; views: rows, columns and sweeps."""
    places = borrow(places)
    room = borrow(room)
    free = room[0]
    load = room[1]
    for i in range(len(found)):
        for j in range(len(free)):
            free[j] = 0.0
            room[2, j] = 0.0
            room[3, j] = 0.0
        total = 0.0
        begun = 0.0
        for view in range(_VIEWS):
            for j in range(len(free)):
                load[j] = 0.0
            top = (view // int(views[2, i])) * views[0, i]
            left = (view % int(views[2, i])) * views[1, i]
            part_of(places, top + views[0, i], left + views[1, i], load, 1.0)
            part_of(places, top + views[0, i], left, load, -1.0)
            part_of(places, top, left + views[1, i], load, -1.0)
            part_of(places, top, left, load, 1.0)
            # As the oldest bursts leave one by one, others come into view: twice as many in all.
            done = room[2 + view % 2]
            _serve(free, load, done, pseudo_channels)
            end = 0.0
            for j in range(len(free)):
                total += load[j]
                end += done[j]
            if view < _FIRST_VIEWS:
                begun = end
                total = 0.0
            found[i] = (end - begun) / max(total, _TINY)


@jit_inner
def _serve(free, load, done, pseudo_channels):
    """Serve a view, which came in place of the one before the last; note when each channel has."""
    for channel in range(len(free) // pseudo_channels):
        begin = done[channel * pseudo_channels]
        end = 0.0
        for j in range(channel * pseudo_channels, (channel + 1) * pseudo_channels):
            free[j] = max(free[j], begin) + load[j]
            end = max(end, free[j])
        for j in range(channel * pseudo_channels, (channel + 1) * pseudo_channels):
            done[j] = end
