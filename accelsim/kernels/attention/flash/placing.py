"""When the last block of query rows has ended, for all candidates."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels.attention.flash.loop import alone_of, times_of
from accelsim.kernels.estimate.placement import Items, ItemTimes, last_end, limited_inside
from accelsim.runtime.jit import jit, jit_inline

Integers = npt.NDArray[np.int64]


class Run(NamedTuple):
    """What is the same for all candidates."""

    q_len: int
    kv_len: int
    causal: bool
    by_head: bool
    """Whether all blocks of a head come first, or the last block of all heads."""
    cores: int
    items_in_flight: int


class Cuts(NamedTuple):
    """How the candidates cut the query rows, [candidates]."""

    way: Integers
    """Candidates that go the same way through the query rows have the same number."""
    tile_k: Integers
    block_rows: Integers
    heads: Integers
    rows: Integers
    """Of a head."""
    counts: Integers
    """Blocks of a head."""
    seen: npt.NDArray[np.float64]
    """Keys that a block sees in the mean."""


@jit
def placed(run, cuts, loop, mask, loads):
    """When the last item has ended; where it cannot be the first, a bound on that.

    loop, mask: of full blocks of all candidates, then of the last ones, which may have fewer rows;
    mask: cycles of a key tile that the diagonal crosses.
    """
    cycles, least = np.empty(len(cuts.way)), np.empty(len(cuts.way))
    for own in range(len(cycles)):
        cycles[own], least[own] = _bounds(own, run, cuts, loop, loads)
    is_done = np.zeros(len(cycles), np.bool_)
    for way in range(cuts.way.max() + 1):
        _leave_out(way, cuts, least, cycles, is_done)
        best = np.inf
        while True:
            lead = _most_promising(way, cuts, least, is_done)
            if lead < 0:
                break
            most = best
            for own in range(len(cycles)):
                is_next = cuts.way[own] == way and cuts.counts[own] == cuts.counts[lead]
                if is_next and not is_done[own]:
                    is_done[own] = True
                    if least[own] <= most:
                        times = _block_times(own, run, cuts, loop, mask, loads)
                        items = Items(cuts.counts[own], cuts.heads[own], run.by_head)
                        cycles[own] = last_end(times, items, run.cores)
                        best = min(best, cycles[own])
    return cycles


@jit_inline
def _bounds(own, run, cuts, loop, loads):
    """Bounds from above and from below on when the last item has ended.

    All items over all cores are a bound from below; with whole tiles of keys, full blocks and
    the longest item more they are one from above (Graham, "Bounds on multiprocessing timing
    anomalies", 1969).
    """
    tiles, least_tiles = run.kv_len / cuts.tile_k[own], cuts.seen[own] / cuts.tile_k[own]
    alone, full = alone_of(loop, own), cuts.counts[own] * cuts.block_rows[own]
    longest = times_of(loop, own, alone, tiles, loads, own).alone
    even = times_of(loop, own, alone, least_tiles, loads, own).steps
    most = times_of(loop, own, alone, min(tiles, least_tiles + 1), loads, own).steps
    share = cuts.heads[own] * cuts.counts[own] / run.cores
    # Under a mask the last block, which sees all keys, may have few rows.
    hidden = run.causal * min(cuts.block_rows[own], run.q_len)
    least = max(
        even * cuts.rows[own] / full * share,
        longest * (1 - hidden / run.kv_len),
    )
    return most * share + longest, least


@jit_inline
def _leave_out(way, cuts, least, cycles, is_done):
    """Leave out candidates that cannot be the best of their way."""
    best = np.inf
    for own in range(len(cycles)):
        if cuts.way[own] == way:
            best = min(best, cycles[own])
    for own in range(len(cycles)):
        is_done[own] |= cuts.way[own] == way and not least[own] <= best


@jit_inline
def _most_promising(way, cuts, least, is_done):
    """The candidate of the lowest bound; -1: all are done."""
    found = -1
    for own in range(len(least)):
        if cuts.way[own] == way and not is_done[own]:
            if found < 0 or least[own] < least[found]:
                found = own
    return found


@jit_inline
def _block_times(own, run, cuts, loop, mask, loads):
    """Times of all blocks of a head, rows of `ItemTimes`."""
    found, count = np.empty((5, cuts.counts[own])), cuts.counts[own]
    for block in range(count):
        is_last = block == count - 1
        if not (run.causal or is_last or block == 0):
            found[:, block] = found[:, 0]
            continue
        column = own + is_last * len(cuts.way)
        key_tiles, masked = _keys_of(own, block, run, cuts)
        alone = alone_of(loop, column)
        times = times_of(loop, column, alone, key_tiles, loads, own)
        times = _longer(times, mask[column] * masked)
        for row, value in enumerate(limited_inside(times, run.items_in_flight)):
            found[row, block] = value
    return found


@jit_inline
def _longer(times, more):
    """Times with some cycles of masks."""
    return ItemTimes(
        times.alone + more, times.steps + more, times.last_steps + more, times.claims, times.waits
    )


@jit_inline
def _keys_of(own, block, run, cuts):
    """Key tiles of a block, not whole where the last tile ends before its full size, and those
    that the diagonal crosses."""
    size = cuts.tile_k[own]
    if not run.causal:
        return run.kv_len / size, 0
    first, hidden = block * cuts.block_rows[own], run.kv_len - run.q_len
    rows, position = min(cuts.block_rows[own], cuts.rows[own] - first), first % run.q_len
    ends_within = position + rows <= run.q_len
    seen = (position + rows if ends_within else run.q_len) + hidden
    tiles = -(-seen // size)
    clear = ((position if ends_within else 0) + hidden + 1) // size
    return min(float(tiles), run.kv_len / size), max(0, tiles - clear)
