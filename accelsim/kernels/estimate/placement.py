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
    """Cycles of a work item, numbers or arrays."""

    alone: Any
    """From the claim to the end of the last store, on an idle core."""
    steps: Any
    """From the end of the item before to its own, on a core that is busy."""
    last_steps: Any
    """The same in the last wave, which shares the memory among fewer cores."""
    claims: Any
    """From the claim of an item to that of the next one of its core, if there is work."""
    opens: Any
    """From the claim of an item to when the next one can begin: what it needs has room by then."""
    waits: Any
    """Part of these in which the memory serves what all others asked for before, at the start."""


NUM_TIMES = len(ItemTimes._fields)
ALONE, STEPS, LAST_STEPS, CLAIMS, OPENS, WAITS = range(NUM_TIMES)
"""Rows of the same as an array."""
COLD, WARM = 0, NUM_TIMES
"""Rows where the times of an item begin: with what comes from far away, and with what others have
loaded before, which does not wait for others at the start."""
ITEMS, IS_COLD, ORDER = range(2 * NUM_TIMES, 2 * NUM_TIMES + 3)
"""Rows beside those: of a kind of items how many there are, and whether all are cold; those of the
other kinds are only where they are the first ones of their cores. Then the kinds in the order of
the items."""
CORES = ORDER + 1
_FREE, _CLAIMABLE, _OPEN = range(CORES, CORES + 3)
"""Rows of room for what is known of each core."""
NUM_ROWS = CORES + 3


def limited(times: ItemTimes, items_in_flight: int) -> ItemTimes:
    """Return the times where a core has so many items at a time, and the next one waits.

    Only at the start all cores ask at once.
    """
    least = (times.alone - times.waits) / items_in_flight
    steps, last_steps = np.maximum(times.steps, least), np.maximum(times.last_steps, least)
    return times._replace(steps=steps, last_steps=last_steps)


@jit_inner
def last_end(times, kinds, by_head, cores):
    """When the last item has ended.

    times: rows as above, [NUM_ROWS, kinds or cores]. by_head: whether an item of each kind comes in
    turn, or all of a kind together.
    """
    count, end = 0, 0.0
    for kind in range(kinds):
        count += int(times[ITEMS, kind])
    waves = -(-count // cores)
    before = max(1, waves - _LAST_WAVES) * cores
    place = used = 0
    for item in range(min(count, cores)):
        place, used = _next(times, place, used)
        kind = int(times[ORDER, item % kinds if by_head else place])
        # The memory serves one core after the other.
        waits = times[COLD + WAITS, kind] * (1 - (item + 1) / min(count, cores))
        times[_FREE, item] = times[COLD + ALONE, kind] - waits
        times[_CLAIMABLE, item] = max(0.0, times[COLD + CLAIMS, kind] - waits)
        times[_OPEN, item] = times[COLD + OPENS, kind] - waits
        end = max(end, times[_FREE, item])
    if before > cores:
        place, used = _pass_over(times, kinds, by_head, cores, before)
    for item in range(before, count):
        place, used = _next(times, place, used)
        kind = int(times[ORDER, item % kinds if by_head else place])
        end = max(end, _follow(times, kind, cores, item >= (waves - 1) * cores))
    return end


@jit_inner
def _next(times, place, used):
    """The place of the kind of the next item, and how many of that kind there were with it."""
    if used == times[ITEMS, int(times[ORDER, place])]:
        return place + 1, 1
    return place, used + 1


@jit_inner
def _pass_over(times, kinds, by_head, cores, before):
    """Leave out the items behind the first ones; where the next item is found, as of `_next`."""
    begin, found, between, last = 0, (0, 0), 0.0, int(times[ORDER, (before - 1) % kinds])
    for place in range(kinds):
        kind = int(times[ORDER, place])
        end = begin + int(times[ITEMS, kind])
        steps = times[WARM + STEPS, kind]
        if by_head:
            between += steps * (before - cores) / kinds
        else:
            between += steps * max(0, min(before, end) - max(cores, begin))
        if begin < before <= end:
            found, last = (place, before - begin), last if by_head else kind
        begin = end
    hidden = times[WARM + ALONE, last] - times[WARM + STEPS, last]
    for core in range(cores):
        times[_FREE, core] += between / cores
        times[_CLAIMABLE, core] = times[_OPEN, core] = times[_FREE, core] - hidden
    return found


@jit_inner
def _follow(times, kind, cores, is_last):
    """One more item of the core that claims first; returns its end."""
    core = 0
    for other in range(1, cores):
        if times[_CLAIMABLE, other] < times[_CLAIMABLE, core]:
            core = other
    first = COLD if times[IS_COLD, kind] else WARM
    waits = times[first + WAITS, kind]
    alone = times[first + ALONE, kind] - waits
    before, steps = times[_FREE, core], times[first + (LAST_STEPS if is_last else STEPS), kind]
    own_start = max(times[_CLAIMABLE, core], times[_OPEN, core])
    end = max(before + steps, own_start + alone)
    # Its own loads wait for slots that the item before still uses.
    start = max(own_start, end - alone)
    times[_FREE, core] = end
    times[_CLAIMABLE, core] = max(start + max(0.0, times[first + CLAIMS, kind] - waits), before)
    times[_OPEN, core] = start + times[first + OPENS, kind] - waits
    return end


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
