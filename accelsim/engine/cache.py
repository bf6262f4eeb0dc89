"""The shared L2: which sectors of a run of bytes are there, what is fetched, what is written back.

A line that is being fetched counts as there, and whoever hits it waits for the transfer that
fetches it. The state is in arrays of records, because jitted functions pass plain arrays for free
(docs/decisions/0002-two-engines.md); `accelsim.engine.memory` puts the cache in front of the HBM.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.hbm import BEGIN, END, IS_WRITE, NUM_FIELDS
from accelsim.hardware.l2 import L2Spec
from accelsim.jit import borrow, jit_inner

_EMPTY = -1
_RING = 1 << 16
"""Transfers whose end is remembered; what an older one fetched has long arrived."""

Records = Any
"""Array of records whose fields are attributes."""


def _record(*names: str) -> np.dtype[Any]:
    """Return the type of records whose integer fields are attributes, without the compiler too."""
    return np.dtype((np.record, np.dtype([(name, np.int64) for name in names], align=True)))


_WAY = _record(
    "line",  # number of the line, or _EMPTY
    "valid",  # sectors that are there or on the way, as bits
    "dirty",  # sectors that the HBM does not have yet, as bits
    "used",  # when it was used last, counted in line accesses
    "fetched_by",  # transfer that fetched into it last, or _EMPTY
)

_STATE = _record(
    "num_sets",
    "line_bytes",
    "sector_bytes",
    "writes_through",
    "num_accesses",  # of lines
    "num_transfers",
    "num_pieces",  # that the current transfer wants of the HBM
    "read_bytes",
    "write_bytes",
    "hit_bytes",
    "fetched_bytes",
    "written_back_bytes",
)


class Cache(NamedTuple):
    """Parameters and state; without an L2, `num_sets` is 0 and `ways` is empty."""

    state: Records
    """One record of sizes and counts."""
    ways: Records
    """[sets, ways]."""
    arrivals: npt.NDArray[np.int64]
    """Cycle in which the last fetched byte of recent transfers is there [_RING]."""
    pieces: npt.NDArray[np.int64]
    """What the current transfer wants of the HBM [most pieces, NUM_FIELDS]."""


def new_cache(l2: L2Spec | None, most_pieces: int) -> Cache:
    """Return an empty cache; most_pieces: that any transfer fetches or evicts."""
    state = np.zeros(1, _STATE).view(np.recarray)
    pieces = np.zeros((most_pieces, NUM_FIELDS), np.int64)
    if l2 is None:
        no_ways = np.zeros((0, 0), _WAY).view(np.recarray)
        return Cache(state, no_ways, np.zeros(0, np.int64), pieces)
    state.num_sets, state.line_bytes, state.sector_bytes = l2.sets, l2.line, l2.sector
    state.writes_through = l2.writes == "through"
    ways = np.zeros((l2.sets, l2.ways), _WAY).view(np.recarray)
    ways.line = ways.fetched_by = _EMPTY
    return Cache(state, ways, np.zeros(_RING, np.int64), pieces)


def dirty_bytes(cache: Cache) -> int:
    """Return the bytes that the HBM does not have yet."""
    masks = cache.ways.dirty[cache.ways.dirty != 0]
    return sum(int(mask).bit_count() for mask in masks) * int(cache.state[0].sector_bytes)


@jit_inner
def borrowed_cache(cache):
    """Return the same cache, its state as borrowed views."""
    return Cache(
        borrow(cache.state), borrow(cache.ways), borrow(cache.arrivals), borrow(cache.pieces)
    )


@jit_inner
def begin_transfer(cache):
    """Count a transfer; `end_transfer` tells when what it fetches has arrived."""
    cache.state[0].num_transfers += 1
    cache.state[0].num_pieces = 0
    cache.arrivals[cache.state[0].num_transfers % _RING] = 0


@jit_inner
def end_transfer(cache, arrival):
    """Tell when the last fetched byte of the transfer is there."""
    cache.arrivals[cache.state[0].num_transfers % _RING] = arrival


@jit_inner
def set_of(line, num_sets):
    """Return the set of a line: the lines of a block are mixed by the number of the block.

    So runs of lines fill the sets evenly, and no power-of-two stride stays on a few of them.
    """
    return (line ^ ((line >> 7) & 127) ^ ((line >> 14) & 127)) % num_sets


@jit_inner
def read_run(ways, state, arrivals, pieces, address, num_bytes):
    """Look a run of bytes up and note what to fetch; return when what is on its way arrives."""
    line_bytes, sector_bytes = state.line_bytes, state.sector_bytes
    end = address + num_bytes
    latest = np.int64(0)
    miss_begin = miss_end = np.int64(0)
    for line in range(address // line_bytes, (end + line_bytes - 1) // line_bytes):
        base = line * line_bytes
        first, stop = max(address, base), min(end, base + line_bytes)
        wanted = _sectors_of(first - base, stop - base, sector_bytes)
        way = _place(ways[set_of(line, state.num_sets)], line, state, pieces)
        missing = wanted & ~way.valid
        if missing != wanted:
            latest = max(latest, _arrival_of(way, state, arrivals))
            state.hit_bytes += _bytes_hit(wanted & ~missing, first - base, stop - base, state)
        if missing:
            way.valid |= missing
            way.fetched_by = state.num_transfers
        # Sectors that miss are fetched in pieces as long as they come.
        sector = 0
        while missing >> sector:
            if (missing >> sector) & 1:
                begin = base + sector * sector_bytes
                if begin != miss_end:
                    _fetch(miss_begin, miss_end, state, pieces)
                    miss_begin = begin
                miss_end = begin + sector_bytes
            sector += 1
    _fetch(miss_begin, miss_end, state, pieces)
    state.read_bytes += num_bytes
    return latest


@jit_inner
def write_run(ways, state, pieces, address, num_bytes):
    """Write a run of bytes, and note what of it goes through to the HBM."""
    line_bytes = state.line_bytes
    end = address + num_bytes
    for line in range(address // line_bytes, (end + line_bytes - 1) // line_bytes):
        base = line * line_bytes
        first, stop = max(address, base), min(end, base + line_bytes)
        written = _sectors_of(first - base, stop - base, state.sector_bytes)
        way = _place(ways[set_of(line, state.num_sets)], line, state, pieces)
        way.valid |= written
        if not state.writes_through:
            way.dirty |= written
    state.write_bytes += num_bytes
    if state.writes_through:
        state.written_back_bytes += num_bytes
        _note(address, end, True, state, pieces)


@jit_inner
def _note(begin, end, is_write, state, pieces):
    """Ask the HBM for a piece of bytes."""
    piece = state.num_pieces
    state.num_pieces = piece + 1
    pieces[piece, BEGIN], pieces[piece, END], pieces[piece, IS_WRITE] = begin, end, is_write


@jit_inner
def _fetch(begin, end, state, pieces):
    if begin < end:
        state.fetched_bytes += end - begin
        _note(begin, end, False, state, pieces)


@jit_inner
def _sectors_of(first, stop, sector_bytes):
    """Return the sectors that bytes first..stop of a line touch, as bits."""
    begin, end = first // sector_bytes, (stop + sector_bytes - 1) // sector_bytes
    return ((1 << end) - 1) & ~((1 << begin) - 1)


@jit_inner
def _count(sectors):
    count = 0
    while sectors:
        sectors &= sectors - 1
        count += 1
    return count


@jit_inner
def _bytes_hit(sectors, first, stop, state):
    """Return how many of the bytes first..stop of a line lie in these sectors."""
    size = state.sector_bytes
    num_bytes = _count(sectors) * size
    if (sectors >> (first // size)) & 1:
        num_bytes -= first % size
    if (sectors >> ((stop - 1) // size)) & 1:
        num_bytes -= -stop % size
    return num_bytes


@jit_inner
def _place(own_set, line, state, pieces):
    """Return the way of a line in its set, after making room for it where it was not there."""
    state.num_accesses += 1
    oldest = 0
    for i in range(own_set.size):
        if own_set[i].line == line:
            own_set[i].used = state.num_accesses
            return own_set[i]
        if own_set[i].used < own_set[oldest].used:
            oldest = i
    way = own_set[oldest]
    if way.dirty:
        # Nobody waits for what is written back.
        num_bytes = _count(way.dirty) * state.sector_bytes
        state.written_back_bytes += num_bytes
        begin = way.line * state.line_bytes
        _note(begin, begin + num_bytes, True, state, pieces)
    way.line = line
    way.valid = 0
    way.dirty = 0
    way.used = state.num_accesses
    way.fetched_by = _EMPTY
    return way


@jit_inner
def _arrival_of(way, state, arrivals):
    """Return the cycle in which what was fetched into a way last is there."""
    if way.fetched_by == _EMPTY or way.fetched_by <= state.num_transfers - _RING:
        return np.int64(0)
    return arrivals[way.fetched_by % _RING]
