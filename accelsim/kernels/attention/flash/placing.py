"""When the last block of query rows has ended, for all candidates."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.loop import WAVES, write_times
from accelsim.kernels.estimate.placement import ALONE, STEPS, last_end

NUM_WAYS = 4
"""Through the query rows: one query tile or two, of one head or of folded ones."""
WAY, TILE_K, BLOCK_ROWS, HEADS, ROWS, COUNT = range(6)
"""Rows of cuts: the way through the query rows, the rows of a key tile and of a block, the heads,
their rows, and how many blocks these are."""
_CYCLES, _LEAST = 0, 1
"""Rows of what is found: when the last item has ended, and a bound from below."""


class Run(NamedTuple):
    """What is the same for all candidates."""

    q_len: int
    kv_len: int
    causal: bool
    by_head: bool
    """Whether all blocks of a head come first, or the last block of all heads."""
    items_in_flight: int


def placed(
    run: Run,
    cuts: npt.NDArray[np.int64],
    loop: npt.NDArray[np.float64],
    loads: npt.NDArray[np.float64],
    cores: int,
) -> npt.NDArray[np.float64]:
    """Return when the last item has ended; where it cannot be the first, a bound on that.

    cuts, loads: [rows, candidates]. loop: of full blocks of all candidates, then of the last
    blocks, which are looked at where they have fewer rows.
    """
    found, is_done = np.empty((2, cuts.shape[1])), np.zeros(cuts.shape[1], np.bool_)
    times = np.empty((5, max(3, int(cuts[COUNT].max()))))
    room = np.empty((2, cores)), np.empty(cores, np.int64)
    _place(run, cuts, loop, loads, found, is_done, times, *room)
    return np.asarray(found[_CYCLES])


@al.jit
def _place(run, cuts, loop, loads, found, is_done, times, cores, rank):
    for own in range(len(is_done)):
        _bound(own, run, cuts, loop, loads, found, times)
    for way in range(NUM_WAYS):
        best = np.inf
        for own in range(len(is_done)):
            if cuts[WAY, own] == way:
                best = min(best, found[_CYCLES, own])
        for own in range(len(is_done)):
            is_done[own] |= cuts[WAY, own] == way and found[_LEAST, own] > best
        lead, best = _most_promising(way, cuts, found, is_done), np.inf
        while lead >= 0:
            most = best
            for own in range(len(is_done)):
                is_next = cuts[WAY, own] == way and cuts[COUNT, own] == cuts[COUNT, lead]
                if is_next and not is_done[own]:
                    is_done[own] = True
                    if found[_LEAST, own] <= most:
                        _time_blocks(own, run, cuts, loop, loads, times)
                        count, heads = cuts[COUNT, own], cuts[HEADS, own]
                        end = last_end(times, count, heads, run.by_head, cores, rank)
                        found[_CYCLES, own], best = end, min(best, end)
            lead = _most_promising(way, cuts, found, is_done)


@al.jit_inner
def _bound(own, run, cuts, loop, loads, found, times):
    """Find bounds from above and from below on when the last item has ended.

    All items over all cores are a bound from below; with whole tiles of keys, full blocks and
    the longest item more they are one from above (Graham, "Bounds on multiprocessing timing
    anomalies", 1969).
    """
    # Under a mask the last block, which sees all keys, may have few rows.
    rows = min(cuts[BLOCK_ROWS, own], run.q_len) if run.causal else 0
    hidden = (run.q_len - rows) / 2 if run.causal else 0.0
    tiles, fewer = run.kv_len / cuts[TILE_K, own], (run.kv_len - hidden) / cuts[TILE_K, own]
    # Without a mask all of them are the same.
    even_place, most_place = (1, 2) if run.causal else (0, 0)
    for place in range(most_place + 1):
        keys = tiles if place == 0 else min(tiles, fewer + (place - 1))
        write_times(loop, own, keys, 0, loads, own, np.inf, times, place)
    longest, share = times[ALONE, 0], loads[WAVES, own]
    found[_CYCLES, own] = times[STEPS, most_place] * share + longest
    full = cuts[COUNT, own] * cuts[BLOCK_ROWS, own]
    even = times[STEPS, even_place] * cuts[ROWS, own] / full * share
    found[_LEAST, own] = max(even, longest * (1 - rows / run.kv_len))


@al.jit_inner
def _most_promising(way, cuts, found, is_done):
    """The candidate of the lowest bound; -1: all are done."""
    lead = -1
    for own in range(len(is_done)):
        is_less = lead < 0 or found[_LEAST, own] < found[_LEAST, lead]
        if is_less and cuts[WAY, own] == way and not is_done[own]:
            lead = own
    return lead


@al.jit_inner
def _time_blocks(own, run, cuts, loop, loads, times):
    """Write the times of all blocks of a head."""
    count, size, hidden = cuts[COUNT, own], cuts[TILE_K, own], run.kv_len - run.q_len
    block_rows = cuts[BLOCK_ROWS, own]
    is_even = count * block_rows == cuts[ROWS, own]
    # Blocks at the same place in their heads are alike; without a mask all are.
    period = 1 if not run.causal else run.q_len // block_rows
    if run.causal and period * block_rows != run.q_len:
        period = count
    for block in range(count):
        is_shorter = block == count - 1 and not is_even
        if block >= period and not is_shorter:
            for row in range(len(times)):
                times[row, block] = times[row, block - period]
            continue
        keys, masked = run.kv_len / size, 0
        if run.causal:
            begin = block * block_rows % run.q_len
            end = begin + min(block_rows, cuts[ROWS, own] - block * block_rows)
            if end > run.q_len:
                begin, end = 0, run.q_len
            tiles = -(-(end + hidden) // size)
            keys, masked = min(keys, float(tiles)), max(0, tiles - (begin + hidden + 1) // size)
        column = own + is_shorter * cuts.shape[1]
        write_times(
            loop, column, keys, masked, loads, own, float(run.items_in_flight), times, block
        )
