"""How long candidates of tiles take: compiled code.

The items of one core are followed op by op (`online_estimate`), then the items of all cores are
placed. What cores do to each other is in a few numbers of an item: how long it waits at the start,
when all ask at once; the bytes of all where the memory is the slowest; and whether its keys come
from the HBM or lie in an L2.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.bounds import (
    write_bound,
)
from accelsim.kernels.attention.flash.cuts import (
    cut_of,
    seen_of,
)
from accelsim.kernels.attention.flash.known import (
    AHEAD,
    BY_OTHERS,
    CYCLES,
    IS_DONE,
    LAST_SHARED,
    LEAST,
    LONE,
    LONE_OF_SECOND,
    MASK,
    NOTED,
    NUM_ITEMS,
    OF_WARM,
    OTHER_KEYS,
    PERIOD,
    SHARED,
    WAIT,
)
from accelsim.kernels.attention.flash.online_estimate import (
    BOTH,
    END,
    FEW,
    FOURTH,
    LAST,
    LONGEST,
    NEXT_CLAIM,
    NEXT_OPEN,
    NOTES,
    NUM_NOTES,
    NUM_ORDERS,
    SECOND,
)
from accelsim.kernels.attention.flash.shares import (
    write_shares,
)
from accelsim.kernels.estimate.placement import (
    ALONE,
    CLAIMS,
    COLD,
    IS_COLD,
    ITEMS,
    LAST_STEPS,
    NUM_ROWS,
    OPENS,
    ORDER,
    STEPS,
    WAITS,
    WARM,
    last_end,
)
from accelsim.kernels.estimate.rates import (
    joined,
)
from accelsim.kernels.estimate.timeline import (
    BEGIN,
    LATE,
    LATENCY,
    PORT_BEGIN,
    RATE,
    follow_order,
)
from accelsim.program.ops import (
    Unit,
)

_joined = al.jit_inner(joined)
_LOAD, _STORE = Unit.LOAD.value, Unit.STORE.value
_LOADED = NUM_ROWS
NUM_ROOM = NUM_ROWS + 1
"""Rows of room for the times of items; behind those of `placement` the keys that an item loads."""


@al.jit
def estimate(run, parts, candidates, rows, begins, units, known, room, runs):
    """Find the time of all candidates, or a bound on it where that is not near the lowest.

    parts: equal sequences, [parts, 3]. rows, begins: the orders of items, see `orders_of_items`.
    known: costs, and room for what is found, [rows as above, columns]. room, runs: for what follows
    candidates, and places their items.
    """
    num, best = candidates.shape[1], np.inf
    for i in range(num):
        write_bound(run, parts, candidates, known, i)
    while True:
        i = _next(known, num)
        # A bound on one of several parts says nothing of all.
        if i < 0 or (known[LEAST, i] > run.near * best and len(parts) == 1):
            break
        known[IS_DONE, i] = 1
        for part in range(len(parts)):
            cut = cut_of(run, parts[part], candidates, i)
            for last in range(int(cut.whole == 0), 1 + int(cut.num_blocks > cut.whole)):
                column = (2 * part + last) * num + i
                write_shares(run, cut, known, column, known[NUM_ITEMS, i])
                _follow(run, cut, rows, begins, units, known, column, room, runs)
        end = _placed(run, parts, candidates, known, i, room)
        known[CYCLES, i] = max(known[LEAST, i], run.rates.launch_cycles + end)
        best = min(best, known[CYCLES, i])


@al.jit_inner
def _next(known, num):
    """The candidate with the lowest bound; -1: all are done."""
    found = -1
    for i in range(num):
        if known[IS_DONE, i] == 0 and (found < 0 or known[LEAST, i] < known[LEAST, found]):
            found = i
    return found


@al.jit_inner
def _follow(run, cut, rows, begins, units, known, column, room, runs):
    """Follow the items of a column, first those whose keys come from the HBM.

    Items of some whole tiles are followed once: warm, where an L2 keeps what they load.
    """
    rates, overlaps = run.rates, run.rates.items_in_flight > 1
    first = (cut.query_tiles - 1) * NUM_ORDERS
    for warm in range(1 + run.stays):
        place = NOTED + NUM_NOTES * warm
        notes = known[place : place + NUM_NOTES]
        units[RATE, _LOAD] = units[RATE, _STORE] = rates.l2 if warm else rates.hbm
        if warm:
            known[LATENCY, column] = rates.hit_cycles
            known[BEGIN, column] = known[PORT_BEGIN, column] = 0.0
            known[LATE, column] = rates.miss_cycles - rates.hit_cycles
        whole = 1
        if run.causal and warm == run.stays:
            whole = max(1, min(cut.tiles - 1, FEW))
        for steps in range(whole + 1):
            order = first + (steps if steps < whole else FEW + min(cut.tiles, LONGEST) - 1)
            bounds = begins[order], begins[order + 1]
            follow_order(rows, bounds, units, overlaps, known, column, notes, room[0], runs)


@al.jit_inner
def _placed(run, parts, candidates, known, i, times):
    """When the last item of a candidate has ended."""
    num, kinds = candidates.shape[1], 0
    load = _load_of(run, parts, candidates, known, i, times)
    share = 1.0
    for part in range(len(parts)):
        cut = cut_of(run, parts[part], candidates, i)
        # Blocks at the same place in their heads are alike; without a mask all are.
        period = cut.q_len // cut.block_rows if run.causal else 1
        if run.causal and period * cut.block_rows != cut.q_len:
            period = cut.num_blocks
        for block in range(cut.num_blocks):
            is_last = block == cut.whole
            if block < period or is_last:
                column = (2 * part + is_last) * num + i
                seen = seen_of(run, cut, block)
                if len(parts) > 1:
                    share = _share(run, load, times, times[_LOADED, kinds])
                for warm in range(2):
                    _write_times(run, cut, seen, known, column, warm, share, times, kinds)
            else:
                for row in range(ITEMS):
                    times[row, kinds] = times[row, kinds - period]
            times[ITEMS, kinds] = cut.heads
            first = 0 if run.by_head else cut.num_blocks - 1
            times[IS_COLD, kinds] = run.stays and block == first
            times[ORDER, kinds] = kinds
            kinds += 1
    if len(parts) > 1:
        _sort(times, kinds)
    elif not run.by_head:
        for kind in range(kinds):
            times[ORDER, kind] = kinds - 1 - kind
    return last_end(times, kinds, run.by_head and len(parts) == 1, run.rates.cores)


class _Load(NamedTuple):
    """What all items load."""

    kinds: int
    """Of items."""
    items: float
    keys: float
    """Or what makes as many bytes."""


@al.jit_inner
def _load_of(run, parts, candidates, known, i, times):
    """Write how many items there are of each kind, and the keys that one loads; return all.

    Of a single part nothing is asked: items that are at work at the same time are much alike.
    """
    num, kinds, items, keys = candidates.shape[1], 0, 0.0, 0.0
    for part in range(len(parts) if len(parts) > 1 else 0):
        cut = cut_of(run, parts[part], candidates, i)
        for block in range(cut.num_blocks):
            column = (2 * part + (block == cut.whole)) * num + i
            own = seen_of(run, cut, block).keys + known[OTHER_KEYS, column]
            times[ITEMS, kinds], times[_LOADED, kinds] = cut.heads, own
            kinds, items, keys = kinds + 1, items + cut.heads, keys + cut.heads * own
    return _Load(kinds, items, keys)


@al.jit_inner
def _share(run, load, times, keys):
    """The part of the fair share that cores take while an item loads so many keys.

    No core takes more of the memory than its own items load.
    """
    cores, taken = float(run.rates.cores), min(load.keys, run.rates.cores * keys)
    if load.items <= cores:
        cores, taken = load.items, 0.0
        for kind in range(load.kinds):
            taken += times[ITEMS, kind] * min(times[_LOADED, kind], keys)
    return taken / (cores * keys)


@al.jit_inner
def _write_times(run, cut, seen, known, column, warm, share, times, kind):
    """Write the times of an item that sees so much; share: see above."""
    noted = NOTED + (NUM_NOTES if warm and run.stays else 0)
    few, place, later = LONGEST, noted + LAST, 0.0
    if seen.tiles < cut.tiles:
        if run.stays and not warm:
            later = known[place + END, column] - known[place + NUM_NOTES + END, column]
            noted += NUM_NOTES
        few, place = FEW, noted + NOTES * (min(seen.tiles, FEW) - 1)
    period = known[PERIOD, column]
    if cut.tiles >= LONGEST:
        period = max(period, (known[noted + FOURTH, column] - known[noted + SECOND, column]) / 2)
    lone = known[LONE if seen.is_first else LONE_OF_SECOND, column]
    more = max(0, seen.tiles - few) * period - seen.fewer * max(0.0, period - lone)
    end, both = known[place + END, column], known[place + BOTH, column]
    hidden = min(max(0.0, 2 * end - both), end + more)
    waits = 0.0 if warm and run.stays else known[WAIT, column]
    at = OF_WARM * warm
    by_others = max(0.0, 1 - (1 - known[BY_OTHERS + at, column]) / share)
    shared, last_shared = share * known[SHARED + at, column], known[LAST_SHARED + at, column]
    steps, keys = end + more - hidden, seen.keys + known[OTHER_KEYS, column]
    # One tile, behind what all ask for at the start, and the other loads at the fair share.
    slowed = known[noted + END, column] + max(0.0, seen.keys - known[AHEAD, column]) * shared
    masks, first = known[MASK, column] * seen.masked, WARM if warm else COLD
    own_steps = last_steps = _joined(steps, keys * shared, by_others)
    if last_shared < shared:
        last_steps = _joined(steps, keys * last_shared, by_others)
    times[first + ALONE, kind] = max(end + more + later, slowed) + masks
    times[first + STEPS, kind], times[first + LAST_STEPS, kind] = (
        own_steps + masks,
        last_steps + masks,
    )
    times[first + CLAIMS, kind] = max(0.0, known[place + NEXT_CLAIM, column] + more + later)
    times[first + OPENS, kind] = max(0.0, known[place + NEXT_OPEN, column] + more + later)
    times[first + WAITS, kind] = waits


@al.jit_inner
def _sort(times, kinds):
    """Put kinds that see more keys first (Shell, 1959)."""
    gap = kinds // 2
    while gap > 0:
        for last in range(gap, kinds):
            own, place = times[ORDER, last], last
            while place >= gap and _loads_more(times, own, times[ORDER, place - gap]):
                times[ORDER, place] = times[ORDER, place - gap]
                place -= gap
            times[ORDER, place] = own
        gap //= 2


@al.jit_inner
def _loads_more(times, kind, other):
    return times[_LOADED, int(kind)] > times[_LOADED, int(other)]
