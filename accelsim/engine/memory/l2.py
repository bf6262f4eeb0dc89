"""The shared L2: which sectors of a run of bytes are there, what is fetched, what is written back.

A line that is being fetched counts as there, and whoever hits it waits for the transfer that
fetches it. The state is in arrays of records, because jitted functions pass plain arrays for free
(docs/decisions/0002-two-engines.md). The door of the memory puts the cache in front of the HBM.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.memory.blocks import (
    NO_BLOCK,
    NUM_BLOCKS,
    begin_block,
    block_at,
    break_block,
    is_block,
    new_blocks,
    shift_of,
)
from accelsim.engine.memory.hbm.door import BEGIN, END, IS_WRITE, NUM_FIELDS
from accelsim.hardware.l2 import L2Spec
from accelsim.runtime.jit import borrow, jit_inline, jit_inner

_EMPTY = 0
"""What nobody has written yet: so memory that is never looked at is never touched."""
_RING = 1 << 16
"""Transfers whose end is remembered; what an older one fetched has long arrived."""

Records = Any
"""Array of records whose fields are attributes."""


def _record(*names: str) -> np.dtype[Any]:
    """Return the type of records whose integer fields are attributes, without the compiler too."""
    return np.dtype((np.record, np.dtype([(name, np.int64) for name in names], align=True)))


_WAY = _record(
    "valid",  # sectors that are there or on the way, as bits
    "dirty",  # sectors that the HBM does not have yet, as bits
    "fetched_by",  # transfer that fetched into it last, counted from 1, or _EMPTY
)

_STATE = _record(
    "num_sets",
    "line_bytes",
    "sector_bytes",
    "whole_line",  # all sectors, as bits
    "writes_through",
    "num_accesses",  # of lines
    "num_transfers",
    "num_filled",  # ways that have ever held a line
    "num_settled",  # transfers, from the first on, whose fetches have arrived
    "block",  # number of the block whose lines are looked up, or NO_BLOCK
    "num_pieces",  # that the current transfer wants of the HBM
    "read_bytes",
    "write_bytes",
    "hit_bytes",
    "fetched_bytes",
    "written_back_bytes",
)


class Cache(NamedTuple):
    """Parameters and state.

    Line numbers lie apart from what is known of the lines, for most of them are only looked past.
    """

    state: Records
    """One record of sizes and counts."""
    lines: npt.NDArray[np.int64]
    """Number of the line in every way, counted from 1, or _EMPTY [sets, ways]."""
    used: npt.NDArray[np.int64]
    """When it was used last, counted in line accesses, without the shift of its block [sets, ways].
    """
    block: npt.NDArray[np.int64]
    """Number of the block with which it was looked up last [sets, ways]."""
    blocks: Records
    """See `accelsim.engine.memory.blocks`."""
    ways: Records
    """[sets, ways]."""
    filled: npt.NDArray[np.int64]
    """Set times ways plus way of each way, in the order in which they were first filled."""
    arrivals: npt.NDArray[np.int64]
    """Cycle in which the last fetched byte of recent transfers is there [_RING]."""
    pieces: npt.NDArray[np.int64]
    """What the current transfer wants of the HBM [most pieces, NUM_FIELDS]."""


def new_cache(l2: L2Spec, most_pieces: int) -> Cache:
    """Return an empty cache; most_pieces: that any transfer fetches or evicts."""
    shape = l2.sets, l2.ways
    state = np.zeros(1, _STATE).view(np.recarray)
    state.num_sets, state.line_bytes, state.sector_bytes = l2.sets, l2.line, l2.sector
    state.whole_line = l2.sector_mask
    state.writes_through = l2.writes == "through"
    return Cache(
        state=state,
        lines=np.zeros(shape, np.int64),
        used=np.zeros(shape, np.int64),
        block=np.full(shape, NO_BLOCK, np.int64),
        blocks=new_blocks(),
        ways=np.zeros(shape, _WAY).view(np.recarray),
        filled=np.zeros(shape[0] * shape[1], np.int64),
        arrivals=np.zeros(_RING, np.int64),
        pieces=np.zeros((most_pieces, NUM_FIELDS), np.int64),
    )


def dirty_bytes(cache: Cache) -> int:
    """Return the bytes that the HBM does not have yet."""
    return int(dirty_lines(cache)[1].sum())


def dirty_lines(cache: Cache) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the addresses of lines with bytes that the HBM does not have yet, and how many."""
    state = cache.state[0]
    filled = np.sort(cache.filled[: state.num_filled])
    dirty, lines = cache.ways.reshape(-1)[filled].dirty, cache.lines.reshape(-1)[filled]
    is_dirty = dirty != 0
    sectors = np.bitwise_count(dirty[is_dirty].view(np.uint64)).astype(np.int64)
    return (lines[is_dirty] - 1) * state.line_bytes, sectors * state.sector_bytes


@jit_inline
def borrowed_cache(cache):
    """Return the same cache, its state as borrowed views."""
    return Cache(
        borrow(cache.state),
        borrow(cache.lines),
        borrow(cache.used),
        borrow(cache.block),
        borrow(cache.blocks),
        borrow(cache.ways),
        borrow(cache.filled),
        borrow(cache.arrivals),
        borrow(cache.pieces),
    )


@jit_inner
def begin_transfer(cache, time_cycles):
    """Count a transfer; `end_transfer` tells when what it fetches has arrived."""
    state, arrivals = cache.state[0], cache.arrivals
    state.num_settled = max(state.num_settled, state.num_transfers + 1 - _RING)
    while (
        state.num_settled < state.num_transfers
        and arrivals[(state.num_settled + 1) % _RING] <= time_cycles
    ):
        state.num_settled += 1
    state.num_transfers += 1
    state.num_pieces = 0
    arrivals[state.num_transfers % _RING] = 0


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


@jit_inline
def block_arrival(cache, transfer):
    """Look all that a transfer reads up at once, if it is there or on the way with one transfer.

    Returns when it arrives, as `read_run` does; negative if lines must be looked up one by one.
    """
    state = cache.state[0]
    first_line, lines = _lines_of(transfer, state)
    block = block_at(cache.blocks, first_line)
    if not block.is_whole or not is_block(block, first_line, lines, transfer):
        return np.int64(-1)
    wanted = _wanted_of(lines, transfer, state)
    if wanted < 0 or wanted & ~block.wanted:
        return np.int64(-1)
    arrival = np.int64(0)
    if block.last_fetch > state.num_settled:
        if block.first_fetch != block.last_fetch:
            return np.int64(-1)
        arrival = cache.arrivals[block.last_fetch % _RING]
    block.shift = state.num_accesses - block.first_access
    state.num_accesses += block.num_accesses
    num_bytes = transfer.rows * transfer.row_bytes
    state.read_bytes += num_bytes
    state.hit_bytes += num_bytes
    return arrival


@jit_inner
def _lines_of(transfer, state):
    """Return the first line of a transfer, and how many lines a row of it touches."""
    first = transfer.address // state.line_bytes
    end = transfer.address + transfer.row_bytes
    return first, (end + state.line_bytes - 1) // state.line_bytes - first


@jit_inner
def _wanted_of(lines, transfer, state):
    """Return what a transfer wants of every line; negative where lines differ.

    That is sectors, as bits, of rows of one line; rows of several lines must have all of each.
    """
    first, num_bytes = transfer.address % state.line_bytes, transfer.row_bytes
    is_aligned = transfer.step_bytes % state.line_bytes == 0 or transfer.rows == 1
    if transfer.step_bytes == transfer.row_bytes:
        num_bytes, is_aligned = num_bytes * transfer.rows, True
    elif lines == 1 and is_aligned:
        return _sectors_of(first, first + num_bytes, state)
    if first == 0 and num_bytes % state.line_bytes == 0 and is_aligned:
        return state.whole_line
    return np.int64(-1)


@jit_inner
def begin_lines(cache, transfer):
    """Tell that the lines of a transfer are looked up one by one, until `end_lines`."""
    state = cache.state[0]
    first_line, lines = _lines_of(transfer, state)
    block = block_at(cache.blocks, first_line)
    if block.shift != 0:
        _settle(cache, state, block)
    begin_block(block, first_line, lines, transfer, state.num_accesses)
    state.block = block.number


@jit_inner
def end_lines(cache, transfer):
    """Tell that all lines of a transfer have been looked up."""
    state = cache.state[0]
    first_line, lines = _lines_of(transfer, state)
    block = block_at(cache.blocks, first_line)
    block.num_accesses = state.num_accesses - block.first_access
    wanted = _wanted_of(lines, transfer, state)
    block.wanted |= max(wanted, 0)
    state.block = NO_BLOCK


@jit_inner
def _settle(cache, state, block):
    """Note for each line of a block when it was used last."""
    for row in range(block.rows):
        first = block.first_line + row * block.step_bytes // state.line_bytes
        for line in range(first, first + block.lines):
            own = set_of(line, state.num_sets)
            for way in range(cache.lines.shape[1]):
                if cache.lines[own, way] == line + 1 and cache.block[own, way] == block.number:
                    cache.used[own, way] += block.shift
                    cache.block[own, way] = NO_BLOCK
    block.shift = 0


@jit_inline
def read_run(cache, address, num_bytes):
    """Look a run of bytes up and note what to fetch; return when what is on its way arrives."""
    state, end = cache.state[0], address + num_bytes
    line = address // state.line_bytes
    base = line * state.line_bytes
    latest = miss_begin = miss_end = np.int64(0)
    while base < end:
        first, stop = max(address - base, 0), min(end - base, state.line_bytes)
        wanted = _sectors_of(first, stop, state)
        way = cache.ways[_placed(cache, state, line)]
        missing = wanted & ~way.valid
        if missing != wanted:
            latest = max(latest, _arrival_of(way, state, cache.arrivals))
            hit = _bytes_hit(wanted & ~missing, first, stop, state) if missing else stop - first
            state.hit_bytes += hit
        if missing:
            way.valid |= missing
            way.fetched_by = state.num_transfers
        # Sectors that miss are fetched in pieces as long as they come.
        while missing:
            first, stop = _first_gap(missing, state)
            missing &= ~_sectors_of(first, stop, state)
            if base + first != miss_end:
                _fetch(miss_begin, miss_end, state, cache.pieces)
                miss_begin = base + first
            miss_end = base + stop
        _note_fetch(way.fetched_by, state, cache.blocks)
        line += 1
        base += state.line_bytes
    _fetch(miss_begin, miss_end, state, cache.pieces)
    state.read_bytes += num_bytes
    return latest


@jit_inner
def _note_fetch(fetched_by, state, blocks):
    """Note which transfer a line of the block that is looked up waits for, if it does."""
    if fetched_by > state.num_settled:
        block = blocks[state.block % NUM_BLOCKS]
        block.first_fetch = min(block.first_fetch, fetched_by)
        block.last_fetch = max(block.last_fetch, fetched_by)


@jit_inline
def write_run(cache, address, num_bytes):
    """Write a run of bytes, and note what of it goes through to the HBM."""
    state, end = cache.state[0], address + num_bytes
    line = address // state.line_bytes
    base = line * state.line_bytes
    while base < end:
        first, stop = max(address - base, 0), min(end - base, state.line_bytes)
        written = _sectors_of(first, stop, state)
        way = cache.ways[_placed(cache, state, line)]
        way.valid |= written
        if not state.writes_through:
            way.dirty |= written
        line += 1
        base += state.line_bytes
    state.write_bytes += num_bytes
    if state.writes_through:
        state.written_back_bytes += num_bytes
        _note(address, end, True, state, cache.pieces)


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
def _sectors_of(first, stop, state):
    """Return the sectors that bytes first..stop of a line touch, as bits."""
    if stop - first == state.line_bytes:
        return state.whole_line
    size = state.sector_bytes
    begin, end = first // size, (stop + size - 1) // size
    return ((1 << end) - 1) & ~((1 << begin) - 1)


@jit_inline
def _first_gap(sectors, state):
    """Return the bytes first..stop of the line that the lowest run of these sectors takes."""
    if sectors == state.whole_line:
        return np.int64(0), state.line_bytes
    begin = np.int64(0)
    while not (sectors >> begin) & 1:
        begin += 1
    end = begin + 1
    while (sectors >> end) & 1:
        end += 1
    return begin * state.sector_bytes, end * state.sector_bytes


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


@jit_inline
def _placed(cache, state, line):
    """Return set and way of a line, after making room for it where it was not there."""
    state.num_accesses += 1
    own = set_of(line, state.num_sets)
    way = np.int64(-1)
    # To the end, without a branch: where a search would stop cannot be predicted.
    for i in range(cache.lines.shape[1]):
        way = np.int64(i) if cache.lines[own, i] == line + 1 else way
    if way < 0:
        way = _replaced(own, line, state, cache)
    elif cache.block[own, way] != state.block:
        break_block(cache.blocks, cache.block[own, way])
    cache.block[own, way] = state.block
    cache.used[own, way] = state.num_accesses
    return own, way


@jit_inner
def _last_use(own, way, cache):
    """Return when a line was used last, counted in line accesses."""
    return cache.used[own, way] + shift_of(cache.blocks, cache.block[own, way])


@jit_inner
def _replaced(own, line, state, cache):
    """Put a line into the way of a set that was used longest ago; return that way."""
    lines, used, num_ways = cache.lines, cache.used, cache.lines.shape[1]
    oldest = 0
    for way in range(num_ways):
        if used[own, way] < used[own, oldest]:
            oldest = way
    # Shifts only add, so most ways need not be asked for theirs.
    oldest_use = _last_use(own, oldest, cache)
    for way in range(num_ways):
        if used[own, way] < oldest_use:
            use = _last_use(own, way, cache)
            if use < oldest_use:
                oldest, oldest_use = way, use
    break_block(cache.blocks, cache.block[own, oldest])
    evicted = cache.ways[own, oldest]
    if lines[own, oldest] == _EMPTY:
        cache.filled[state.num_filled] = own * num_ways + oldest
        state.num_filled += 1
    if evicted.dirty:
        # Nobody waits for what is written back.
        num_bytes = _count(evicted.dirty) * state.sector_bytes
        state.written_back_bytes += num_bytes
        begin = (lines[own, oldest] - 1) * state.line_bytes
        _note(begin, begin + num_bytes, True, state, cache.pieces)
    lines[own, oldest] = line + 1
    evicted.valid = evicted.dirty = 0
    evicted.fetched_by = _EMPTY
    return oldest


@jit_inline
def _arrival_of(way, state, arrivals):
    """Return the cycle in which what was fetched into a way last is there, 0 if it is by now."""
    return np.int64(0) if way.fetched_by <= state.num_settled else arrivals[way.fetched_by % _RING]
