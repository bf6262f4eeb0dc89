"""The shared L2: which sectors of a transfer are there, what is fetched, what is written back.

Only the state of the cache is here; `accelsim.engine.memory` puts it in front of the HBM. A line
that is being fetched counts as there, and whoever hits it waits for the transfer that fetches it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.l2 import L2Spec
from accelsim.jit import borrow, jit_inner

_EMPTY = -1
_RING = 1 << 16
"""Fetches whose end is remembered; an older one has long arrived."""
NUM_COUNTS = 5
READ_BYTES, WRITE_BYTES, HIT_BYTES, FETCHED_BYTES, WRITTEN_BACK_BYTES = range(NUM_COUNTS)

Words = npt.NDArray[np.int64]


class Cache(NamedTuple):
    """Parameters and state; without an L2, the arrays are empty and `sets` is 0."""

    sets: int
    line_bytes: int
    sector_bytes: int
    writes_through: bool
    tags: Words
    """Line number of every way [sets, ways], or _EMPTY."""
    valid: Words
    """Sectors that are there or on the way, as bits [sets, ways]."""
    dirty: Words
    """Sectors that the HBM does not have yet, as bits [sets, ways]."""
    used: Words
    """When every way was used last, counted in line accesses [sets, ways]."""
    fetched_by: Words
    """Transfer that fetched into a way last [sets, ways]."""
    arrivals: Words
    """Cycle in which the last bytes of recent transfers were there [_RING]."""
    clock: Words
    """[line accesses, transfers] so far."""
    counts: Words
    """Bytes so far [NUM_COUNTS]."""


def new_cache(l2: L2Spec | None) -> Cache:
    """Return an empty cache."""
    sets, ways = (l2.sets, l2.ways) if l2 else (0, 0)
    return Cache(
        sets=sets,
        line_bytes=l2.line if l2 else 1,
        sector_bytes=l2.sector if l2 else 1,
        writes_through=l2 is not None and l2.writes == "through",
        tags=np.full((sets, ways), _EMPTY, np.int64),
        valid=np.zeros((sets, ways), np.int64),
        dirty=np.zeros((sets, ways), np.int64),
        used=np.zeros((sets, ways), np.int64),
        fetched_by=np.full((sets, ways), _EMPTY, np.int64),
        arrivals=np.zeros(_RING if l2 else 0, np.int64),
        clock=np.zeros(2, np.int64),
        counts=np.zeros(NUM_COUNTS, np.int64),
    )


@jit_inner
def borrowed_cache(cache):
    """Return the same cache, its state as borrowed views."""
    return Cache(
        cache.sets,
        cache.line_bytes,
        cache.sector_bytes,
        cache.writes_through,
        borrow(cache.tags),
        borrow(cache.valid),
        borrow(cache.dirty),
        borrow(cache.used),
        borrow(cache.fetched_by),
        borrow(cache.arrivals),
        borrow(cache.clock),
        borrow(cache.counts),
    )


@jit_inner
def begin_transfer(cache):
    """Count a transfer; what it fetches arrives when `end_transfer` says."""
    cache.clock[1] += 1
    cache.arrivals[cache.clock[1] % _RING] = 0


@jit_inner
def end_transfer(cache, arrival):
    """Tell when the last fetched byte of the transfer is there."""
    cache.arrivals[cache.clock[1] % _RING] = arrival


@jit_inner
def set_of(line, sets):
    """Return the set of a line: the lines of a block are mixed by the number of the block.

    So runs of lines fill the sets evenly, and no power-of-two stride stays on a few of them.
    """
    return (line ^ ((line >> 7) & 127) ^ ((line >> 14) & 127)) % sets


@jit_inner
def sectors_of(first, stop, sector_bytes):
    """Return the sectors that bytes first..stop of a line touch, as bits."""
    begin, end = first // sector_bytes, (stop + sector_bytes - 1) // sector_bytes
    return ((1 << end) - 1) & ~((1 << begin) - 1)


@jit_inner
def bytes_of(sectors, sector_bytes):
    """Return the bytes of these sectors."""
    count = 0
    while sectors:
        sectors &= sectors - 1
        count += 1
    return count * sector_bytes


@jit_inner
def find(cache, line):
    """Return the set and way of a line, the way negative if it is not there."""
    index = set_of(line, cache.sets)
    for way in range(cache.tags.shape[1]):
        if cache.tags[index, way] == line:
            return index, way
    return index, _EMPTY


@jit_inner
def victim(cache, index):
    """Return the way of a set that was not used for the longest time."""
    oldest = 0
    for way in range(1, cache.used.shape[1]):
        if cache.used[index, way] < cache.used[index, oldest]:
            oldest = way
    return oldest


@jit_inner
def replace(cache, index, way, line):
    """Give a way to a line of which nothing is there yet."""
    cache.tags[index, way] = line
    cache.valid[index, way] = 0
    cache.dirty[index, way] = 0
    cache.fetched_by[index, way] = _EMPTY


@jit_inner
def touch(cache, index, way):
    """Make a way the one used last."""
    cache.clock[0] += 1
    cache.used[index, way] = cache.clock[0]


@jit_inner
def arrival_of(cache, index, way):
    """Return the cycle in which what was fetched into a way last is there."""
    by = cache.fetched_by[index, way]
    if by == _EMPTY or by <= cache.clock[1] - _RING:
        return np.int64(0)
    return cache.arrivals[by % _RING]
