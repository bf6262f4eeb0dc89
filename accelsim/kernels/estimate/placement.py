"""When the last core is done: items placed in their order, each on the core that claims first."""

from typing import Any, NamedTuple

import numpy as np

from accelsim.runtime.jit import jit_inner
from accelsim.units import ceil_div

_LAST_WAVES = 8
"""Items a core that are placed one by one at the end. Those between them and the first ones leave
no core behind, as each goes to the core that is free first; how the last ones fall decides what is
lost."""


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


ALONE, STEPS, LAST_STEPS, CLAIMS, WAITS = range(len(ItemTimes._fields))
"""Rows of the same as an array."""


def limited(times: ItemTimes, items_in_flight: int) -> ItemTimes:
    """Return the times where a core has so many items at a time, and the next one waits.

    Only at the start all cores ask at once.
    """
    least = (times.alone - times.waits) / items_in_flight
    steps, last_steps = np.maximum(times.steps, least), np.maximum(times.last_steps, least)
    return times._replace(steps=steps, last_steps=last_steps)


@jit_inner
def last_end(times, kinds, heads, by_head, cores, rank):
    """When the last item has ended.

    times: rows of `ItemTimes`; each head has an item of each of `kinds`. by_head: whether all kinds
    of a head come first, or the last kind of all heads. cores: room for when each is free and can
    claim; rank: room for their order.
    """
    free, claimable, count = cores[0], cores[1], kinds * heads
    waves = -(-count // len(rank))
    before, end = max(1, waves - _LAST_WAVES) * len(rank), 0.0
    between = 0.0
    for kind in range(kinds if before > len(rank) else 0):
        others = _number(kind, before, kinds, heads, by_head)
        others -= _number(kind, len(rank), kinds, heads, by_head)
        between += times[STEPS, kind] * others / len(rank)
    first = min(count, len(rank))
    for core in range(first):
        # The memory serves one core after the other.
        kind, later = _kind(core, kinds, heads, by_head), 1 - (core + 1) / first
        free[core] = times[ALONE, kind] - times[WAITS, kind] * later + between
        claimable[core] = free[core] if waves > _LAST_WAVES else times[CLAIMS, kind]
        rank[core], end = core, max(end, free[core])
    for item in range(before, count):
        place = item % len(rank)
        if place == 0:
            _sort(rank, claimable)
        kind, core = _kind(item, kinds, heads, by_head), rank[place]
        steps = times[LAST_STEPS if item - place + len(rank) >= count else STEPS, kind]
        own_free = free[core]
        free[core] = own_free + steps
        # Its loads wait for slots that the item before still uses.
        started = max(claimable[core], free[core] - times[ALONE, kind])
        claimable[core] = max(started + times[CLAIMS, kind], own_free)
        end = max(end, free[core])
    return end


@jit_inner
def _kind(item, kinds, heads, by_head):
    """The kind of an item."""
    return item % kinds if by_head else kinds - 1 - item // heads


@jit_inner
def _number(kind, items, kinds, heads, by_head):
    """How many of the first items are of a kind."""
    if by_head:
        return items // kinds + (kind < items % kinds)
    return min(max(items - (kinds - 1 - kind) * heads, 0), heads)


@jit_inner
def _sort(rank, claimable):
    """Order cores by when they can claim. It changes little from wave to wave."""
    for last in range(1, len(rank)):
        for place in range(last, 0, -1):
            core, other = rank[place], rank[place - 1]
            if claimable[other] < claimable[core]:
                break
            if claimable[other] == claimable[core] and other < core:
                break
            rank[place - 1], rank[place] = core, other


def last_equal_end(times: ItemTimes, items: Any, cores: int) -> Any:
    """Return when the last of equal items has ended, [candidates]."""
    waves = ceil_div(items, cores)
    whole = times.alone + np.maximum(waves - 2, 0) * times.steps
    # Cores that were served first have an item more, and are half as far ahead at the end.
    first = whole - times.waits / 2 * (1 - last_wave(items, cores) / cores) + times.last_steps
    return np.where(waves > 1, np.maximum(whole, first), times.alone)


def last_wave(items: Any, cores: int) -> Any:
    """Return how many cores have an item of the last wave."""
    return (items - 1) % cores + 1
