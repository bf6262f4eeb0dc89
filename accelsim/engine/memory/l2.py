"""The shared L2: which sectors of a run of bytes are there, what is fetched, what is written back.

A line that is being fetched counts as there, and whoever hits it waits for the transfer that
fetches it. The state is in arrays of records, because jitted functions pass plain arrays for free
(docs/decisions/0002-two-engines.md). The door of the memory puts the cache in front of the HBM.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.memory.arrivals import RING, arrival_of
from accelsim.engine.memory.blocks import new_blocks
from accelsim.engine.memory.hbm.door import BEGIN, END, IS_WRITE, NUM_FIELDS
from accelsim.engine.memory.hbm.state import Records, record, records
from accelsim.engine.memory.lone import are_watched, is_watched
from accelsim.engine.memory.sectors import bytes_hit, count, first_gap, sectors_of
from accelsim.engine.memory.sets import (
    BLOCK_LINES,
    EMPTY,
    HOME,
    LINE,
    Sets,
    borrowed_sets,
    choose_share,
    empty_ways,
    fetch_set,
    flags_at,
    flags_of,
    lines_at,
    new_sets,
    note_fetch,
    note_new,
    oldest_way,
    set_of,
    share_of,
    use_way,
    way_of,
)
from accelsim.hardware.l2 import L2Spec
from accelsim.runtime.jit import borrow, jit_inline, jit_inner

_AHEAD = 8
"""Lines of a row that the processor is told to fetch in advance."""

_WAY = record(
    "valid",  # sectors that are there or on the way, as bits
    "dirty",  # sectors that the HBM does not have yet, as bits
    "fetched_by",  # transfer that fetched into it last, counted from 1, or EMPTY
)

_STATE = record(
    "line_bytes",
    "sector_bytes",
    "whole_line",  # all sectors, as bits
    "writes_through",
    "num_transfers",
    "num_filled",  # ways that have ever held a line
    "num_settled",  # transfers, from the first on, whose fetches have arrived
    "num_pieces",  # that the current transfer wants of the HBM
    "read_bytes",
    "write_bytes",
    "hit_bytes",
    "fetched_bytes",
    "written_back_bytes",
)


_IS_CLEAN, _IS_NEW, _IS_COMING, _IS_DIRTY = 1, 2, 4, 8
"""Flags of a way: all sectors are there and none is dirty; it was fetched by the transfer of its
share; it was fetched by another one, and had not arrived when it was used last; all sectors are
there and dirty. What they do not say is in its record, which is far away."""


class Held(NamedTuple):
    """What a way holds, as in its record."""

    valid: np.int64
    dirty: np.int64
    fetched_by: np.int64


class Cache(NamedTuple):
    """Parameters and state.

    Line numbers lie apart from what is known of the lines, for most of them are only looked past.
    """

    state: Records
    """One record of sizes and counts."""
    sets: Sets
    """Where every line lies, and when it was used."""
    blocks: Records
    """See `accelsim.engine.memory.blocks`."""
    ways: Records
    """[sets, ways]."""
    filled: npt.NDArray[np.int64]
    """Set times ways plus way of each way, in the order in which they were first filled."""
    arrivals: npt.NDArray[np.int64]
    """Cycle in which the last fetched byte of recent transfers is there [RING]."""
    pieces: npt.NDArray[np.int64]
    """What the current transfer wants of the HBM [most pieces, NUM_FIELDS]."""


def new_cache(l2: L2Spec, most_pieces: int) -> Cache:
    """Return an empty cache; most_pieces: that any transfer fetches or evicts."""
    state = records(1, _STATE)
    state.line_bytes, state.sector_bytes = l2.line, l2.sector
    state.whole_line = l2.sector_mask
    state.writes_through = l2.writes == "through"
    pieces = np.zeros((most_pieces, NUM_FIELDS), np.int64)
    return _empty_cache(l2.sets, l2.ways)._replace(state=state, pieces=pieces)


_idle: dict[tuple[int, int], Cache] = {}
"""Empty caches of earlier runs, one a shape."""
_MOST_IDLE = 2
"""Shapes of which an empty cache is kept."""


def _empty_cache(num_sets: int, num_ways: int) -> Cache:
    """Return an empty cache without sizes, of an earlier run if there is one."""
    shape = num_sets, num_ways
    kept = _idle.pop(shape, None)
    if kept is not None:
        return kept
    return Cache(
        state=records(1, _STATE),
        sets=new_sets(*shape),
        blocks=new_blocks(),
        ways=records(shape, _WAY),
        filled=np.zeros(num_sets * num_ways, np.int64),
        arrivals=np.zeros(RING, np.int64),
        pieces=np.zeros((0, NUM_FIELDS), np.int64),
    )


def let_go(cache: Cache) -> None:
    """Empty a cache that nobody uses any more, and keep it for the next run.

    To write memory for the first time takes longer than a short run. What is known of blocks and of
    ways stays as it is: the serial numbers of shares go on, so no block is whole any more, and
    the record of a way is written before it is read.
    """
    num_sets, num_ways = cache.ways.shape
    if len(_idle) >= _MOST_IDLE:
        _idle.clear()
    empty_ways(cache.sets, cache.filled[: int(cache.state[0].num_filled)])
    cache.arrivals[: int(cache.state[0].num_transfers) + 1] = 0
    _idle[num_sets, num_ways] = cache


def dirty_bytes(cache: Cache) -> int:
    """Return the bytes that the HBM does not have yet."""
    return int(dirty_lines(cache)[1].sum())


def dirty_lines(cache: Cache) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the addresses of lines with bytes that the HBM does not have yet, and how many."""
    state = cache.state[0]
    if state.writes_through:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    filled = np.sort(cache.filled[: state.num_filled])
    own, way = np.divmod(filled, cache.ways.shape[1])
    flags = flags_at(cache.sets, own, way)
    is_known = flags & _IS_CLEAN == 0
    own, way, flags = own[is_known], way[is_known], flags[is_known]
    recorded = cache.ways["dirty"][own, way]
    dirty = np.where(flags & _IS_DIRTY, state.whole_line, recorded)
    is_dirty = dirty != 0
    own, way, dirty = own[is_dirty], way[is_dirty], dirty[is_dirty]
    sectors = np.bitwise_count(dirty.view(np.uint64)).astype(np.int64)
    addresses = (lines_at(cache.sets, own, way) - 1) * state.line_bytes
    return addresses, sectors * state.sector_bytes


@jit_inline
def borrowed_cache(cache):
    """Return the same cache, its state as borrowed views."""
    return Cache(
        borrow(cache.state),
        borrowed_sets(cache.sets),
        borrow(cache.blocks),
        borrow(cache.ways),
        borrow(cache.filled),
        borrow(cache.arrivals),
        borrow(cache.pieces),
    )


@jit_inline
def fetch_run(cache, address, num_bytes):
    """Let the processor that runs this fetch what it needs to look a run of bytes up."""
    line_bytes = cache.state[0].line_bytes
    first = address // line_bytes
    last = min((address + num_bytes - 1) // line_bytes, first + _AHEAD - 1)
    for line in range(first, last + 1):
        fetch_set(cache.sets, line)


@jit_inline
def read_run(cache, address, num_bytes):
    """Look a run of bytes up and note what to fetch; return when what is on its way arrives."""
    state, end = cache.state[0], address + num_bytes
    line = address // state.line_bytes
    base = line * state.line_bytes
    latest = miss_begin = miss_end = np.int64(0)
    while base < end:
        if base + _AHEAD * state.line_bytes < end:
            fetch_set(cache.sets, line + _AHEAD)
        first, stop = max(address - base, 0), min(end - base, state.line_bytes)
        wanted = sectors_of(first, stop, state)
        choose_share(cache.sets.state[0], line)
        own, way, held = _placed(cache, state, line)
        missing = wanted & ~held.valid
        fetched_by = held.fetched_by
        if missing != wanted:
            latest = max(latest, arrival_of(fetched_by, state, cache.arrivals))
            hit = bytes_hit(wanted & ~missing, first, stop, state) if missing else stop - first
            state.hit_bytes += hit
        if missing:
            fetched_by = state.num_transfers
        _keep(cache, state, own, way, line, Held(held.valid | missing, held.dirty, fetched_by))
        if fetched_by > state.num_settled:
            note_fetch(cache.sets.shares[cache.sets.state[0].share], fetched_by)
        # Sectors that miss are fetched in pieces as long as they come.
        while missing:
            first, stop = first_gap(missing, state)
            missing &= ~sectors_of(first, stop, state)
            if base + first != miss_end:
                _fetch(miss_begin, miss_end, state, cache.pieces)
                miss_begin = base + first
            miss_end = base + stop
        line += 1
        base += state.line_bytes
    _fetch(miss_begin, miss_end, state, cache.pieces)
    state.read_bytes += num_bytes
    return latest


@jit_inline
def write_run(cache, address, num_bytes):
    """Write a run of bytes, and note what of it goes through to the HBM."""
    state, end = cache.state[0], address + num_bytes
    line = address // state.line_bytes
    base = line * state.line_bytes
    while base < end:
        if base + _AHEAD * state.line_bytes < end:
            fetch_set(cache.sets, line + _AHEAD)
        first, stop = max(address - base, 0), min(end - base, state.line_bytes)
        written = sectors_of(first, stop, state)
        own, way, held = _placed(cache, state, line)
        dirty = held.dirty if state.writes_through else held.dirty | written
        _keep(cache, state, own, way, line, Held(held.valid | written, dirty, held.fetched_by))
        line += 1
        base += state.line_bytes
    state.write_bytes += num_bytes
    if state.writes_through:
        state.written_back_bytes += num_bytes
        _note(address, end, True, state, cache.pieces)


@jit_inline
def pass_run(cache, lone, address, num_bytes, is_write):
    """Read or write a run of sectors that are asked for once: what `read_run` and `write_run` do.

    Of the sets only those that are watched are kept up.
    """
    state, end = cache.state[0], address + num_bytes
    num_sets = cache.sets.state[0].num_sets
    line, last = address // state.line_bytes, (end - 1) // state.line_bytes
    while line <= last:
        block_end = min(line - line % BLOCK_LINES + BLOCK_LINES - 1, last)
        if are_watched(lone, line, num_sets):
            for each in range(line, block_end + 1):
                if is_watched(lone, set_of(each, num_sets)):
                    _pass_line(cache, state, each, address, end, is_write)
        line = block_end + 1
    if is_write:
        state.write_bytes += num_bytes
        state.written_back_bytes += num_bytes
        _note(address, end, True, state, cache.pieces)
    else:
        state.read_bytes += num_bytes
        sector = state.sector_bytes
        _fetch(address - address % sector, end + -end % sector, state, cache.pieces)


@jit_inner
def _pass_line(cache, state, line, address, end, is_write):
    """Let a line of a watched set take its way."""
    base = line * state.line_bytes
    touched = sectors_of(max(address - base, 0), min(end - base, state.line_bytes), state)
    own, way, held = _placed(cache, state, line)
    fetched_by = held.fetched_by if is_write else state.num_transfers
    _keep(cache, state, own, way, line, Held(held.valid | touched, held.dirty, fetched_by))


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


@jit_inline
def _placed(cache, state, line):
    """Return set and way of a line and what is held of it, after making room where it is not there.

    `_keep` must follow.
    """
    sets = cache.sets
    own = set_of(line, sets.state[0].num_sets)
    lines, homes = sets.ways[own, LINE], sets.ways[own, HOME]
    way = way_of(lines, line)
    if way >= 0:
        return own, way, _held(cache, own, way, homes[way])
    note_new(sets.state[0], sets.shares)
    way = oldest_way(homes, sets.begun_at)
    if lines[way] == EMPTY:
        cache.filled[state.num_filled] = own * len(lines) + way
        state.num_filled += 1
    else:
        dirty = _dirty_in(cache, own, way, flags_of(homes[way]))
        if dirty:
            _write_back((lines[way] - 1) * state.line_bytes, dirty, state, cache.pieces)
    return own, way, Held(np.int64(0), np.int64(0), np.int64(EMPTY))


@jit_inline
def _dirty_in(cache, own, way, flags):
    """Return the sectors of a way that the HBM does not have yet, as bits."""
    if flags & _IS_CLEAN:
        return np.int64(0)
    return cache.state[0].whole_line if flags & _IS_DIRTY else cache.ways[own, way].dirty


@jit_inline
def _held(cache, own, way, home):
    """Return what a way holds."""
    flags = flags_of(home)
    fetched_by = np.int64(EMPTY)
    if flags & _IS_NEW:
        fetched_by = cache.sets.shares[share_of(home)].fetched_by
    elif flags & _IS_COMING:
        fetched_by = cache.ways[own, way].fetched_by
    if flags & _IS_CLEAN:
        return Held(cache.state[0].whole_line, np.int64(0), fetched_by)
    if flags & _IS_DIRTY:
        return Held(cache.state[0].whole_line, cache.state[0].whole_line, fetched_by)
    known = cache.ways[own, way]
    return Held(known.valid, known.dirty, fetched_by)


@jit_inline
def _keep(cache, state, own, way, line, held):
    """Use a line, and keep what is held of it."""
    flags = np.int64(0)
    if held.valid == state.whole_line and not held.dirty:
        flags |= _IS_CLEAN
    elif held.dirty == state.whole_line:
        flags |= _IS_DIRTY
    else:
        known = cache.ways[own, way]
        known.valid, known.dirty = held.valid, held.dirty
    if held.fetched_by == state.num_transfers:
        flags |= _IS_NEW
    elif held.fetched_by > state.num_settled:
        flags |= _IS_COMING
        cache.ways[own, way].fetched_by = held.fetched_by
    use_way(cache.sets, own, way, line, flags)


@jit_inner
def _write_back(begin, dirty, state, pieces):
    """Note sectors of a line that the HBM must get. Nobody waits for them."""
    num_bytes = count(dirty) * state.sector_bytes
    state.written_back_bytes += num_bytes
    _note(begin, begin + num_bytes, True, state, pieces)
