"""When the last core is done: items placed in their order, each on the core that claims first."""

from typing import Any, NamedTuple

import numpy as np

from accelsim.runtime.jit import jit_inline
from accelsim.units import ceil_div

_LAST_WAVES = 8
"""Items a core that are placed one by one at the end. Those before leave no core behind, as each
goes to the core that is free first; how the last ones fall decides what is lost."""


class ItemTimes(NamedTuple):
    """Cycles of work items: a number of one, or arrays."""

    alone: Any
    """From the claim to the end of the last store, on an idle core."""
    steps: Any
    """From the end of the item before to its own, on a core that is busy."""
    last_steps: Any
    """The same in the last wave, which shares the memory among fewer cores."""
    claims: Any
    """From the claim of an item to that of the next one of its core, if there is work."""
    waits: Any
    """Part of `alone` in which the memory serves what all others asked for before, at the start."""


def limited(times, items_in_flight):
    """Return the times where a core has so many items at a time, and the next one waits.

    Only at the start all cores ask at once.
    """
    least = (times.alone - times.waits) / items_in_flight
    return ItemTimes(
        times.alone,
        np.maximum(times.steps, least),
        np.maximum(times.last_steps, least),
        times.claims,
        times.waits,
    )


limited_inside = jit_inline(limited)
"""The same in compiled code."""


class Items(NamedTuple):
    """The work items of a candidate: as many of each kind as there are heads."""

    kinds: int
    heads: int
    by_head: bool
    """Whether all kinds of a head come first, or the last kind of all heads."""


@jit_inline
def _kind_of(item, items):
    if items.by_head:
        return item % items.kinds
    return items.kinds - 1 - item // items.heads


@jit_inline
def _number_before(item, kind, items):
    """How many of a kind come before an item."""
    if items.by_head:
        return item // items.kinds + (kind < item % items.kinds)
    return min(max(item - (items.kinds - 1 - kind) * items.heads, 0), items.heads)


@jit_inline
def last_end(times, items, cores):
    """When the last item has ended; times: rows of `ItemTimes`, [5, kinds]."""
    count = items.kinds * items.heads
    before = max(0, -(-count // cores) - _LAST_WAVES) * cores
    start, end = 0.0, 0.0
    for kind in range(items.kinds if before else 0):
        start += times[1, kind] * _number_before(before, kind, items) / cores
    free, claimable, rank = np.empty(cores), np.empty(cores), np.empty(cores, np.int64)
    for core in range(cores):
        free[core], claimable[core], rank[core] = start, start, core
    for first in range(before, count, cores):
        wave = min(cores, count - first)
        if first > before:
            _sort(rank, claimable)
        for place in range(wave):
            kind, core = _kind_of(first + place, items), rank[place]
            alone, steps = times[0, kind], times[2 if first + cores >= count else 1, kind]
            if first == 0:
                # The memory serves one core after the other.
                steps = alone - times[4, kind] * (1 - (place + 1) / wave)
            own_free = free[core]
            free[core] = own_free + steps
            # Its loads wait for slots that the item before still uses.
            started = max(claimable[core], free[core] - alone)
            claimable[core] = max(started + times[3, kind], own_free)
            end = max(end, free[core])
    return end


@jit_inline
def _sort(rank, claimable):
    """Order cores by when they can claim. It changes little from wave to wave."""
    for place in range(1, len(rank)):
        core = rank[place]
        time = claimable[core]
        while place > 0 and (
            claimable[rank[place - 1]] > time
            or (claimable[rank[place - 1]] == time and rank[place - 1] > core)
        ):
            rank[place] = rank[place - 1]
            place -= 1
        rank[place] = core


def last_equal_end(times: ItemTimes, items: Any, cores: int) -> Any:
    """Return when the last of equal items has ended, [candidates]."""
    waves = ceil_div(items, cores)
    whole = times.alone + np.maximum(waves - 2, 0) * times.steps
    # Cores that were served first have an item more.
    first = whole - times.waits * (1 - last_wave(items, cores) / cores) + times.last_steps
    return np.where(waves > 1, np.maximum(whole, first), times.alone)


def last_wave(items: Any, cores: int) -> Any:
    """Return how many cores have an item of the last wave."""
    return (items - 1) % cores + 1
