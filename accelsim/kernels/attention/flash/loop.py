"""How long items take by the number of their key tiles, of which a few were followed op by op."""

from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.kernels.estimate.memory import contended
from accelsim.kernels.estimate.placement import ALONE, CLAIMS, LAST_STEPS, STEPS, WAITS
from accelsim.runtime.jit import jit, jit_inner

FOLLOWED = 5
"""Key tiles that are followed op by op; after them each one takes as long as the one before."""

Cycles = npt.NDArray[np.float64]

_contended = jit_inner(contended)
_SINGLE, _SEVERAL = 0, 4
_WAITS, _FIXED, MASK, _ALONE = range(_SEVERAL + 2 * FOLLOWED + 2, _SEVERAL + 2 * FOLLOWED + 6)
_NUM_ROWS = _ALONE + FOLLOWED + 1
"""Rows of a loop, see `loop_of`."""
SHARED, LAST_SHARED, BY_OTHERS, WAVES = range(4)
"""Rows of loads: cycles to load what belongs to a key tile where all cores that have work share the
memory, and where those of the last wave do; the part that is of other cores; items of a core."""


def loop_of(
    single: Cycles, several: Cycles, waits: Any, fixed: Any = 0.0, mask: Any = 0.0
) -> Cycles:
    """Return what is known of items, [rows, columns]; a column is an item.

    single, several: what was noted while two equal items ran, one after the other, with one key
    tile, which nothing hides, and with FOLLOWED. That is of each key tile of the first its end and
    when its loads were requested, then the end of both items. waits: the part of an item that
    passes before the memory begins; fixed: the part of a step that does not depend on how many keys
    it has; mask: cycles of a key tile that the diagonal crosses.
    """
    loop = np.empty((_NUM_ROWS, single.shape[1]))
    loop[_SINGLE:_SEVERAL], loop[_SEVERAL:_WAITS] = single, several
    loop[_WAITS], loop[_FIXED], loop[MASK] = waits, fixed, mask
    return loop


@jit_inner
def fill_alone(loop, column):
    """Find the cycles of items with 1, 2, ... FOLLOWED + 1 key tiles, each on an idle core.

    Those with fewer or more steps than were followed have fewer or more of those in the middle.
    """
    last, whole = _ALONE + FOLLOWED, loop[_WAITS - 2, column]
    # Slots are used in turn, so two steps together are what repeats. The last one may be another.
    two = loop[_SEVERAL + 2 * FOLLOWED - 4, column] - loop[_SEVERAL + 2 * FOLLOWED - 8, column]
    loop[last, column], loop[last - 1, column] = whole + two / 2, whole
    for tiles in range(FOLLOWED - 2, 0, -1):
        end = _SEVERAL + 2 * tiles
        step = loop[end, column] - loop[end - 2, column]
        loop[_ALONE + tiles, column] = loop[_ALONE + tiles + 1, column] - step
    loop[_ALONE, column] = loop[_SINGLE + 2, column]
    for row in range(_ALONE + 1, last + 1):
        loop[row, column] = max(loop[row, column], loop[row - 1, column])


@jit_inner
def write_times(loop, column, tiles, masked, loads, own, items_in_flight, times, place):
    """Write the times of an item with so many key tiles, not always whole, some of them masked.

    own: the candidate among loads; times: rows of `ItemTimes`, where the item has a place.
    """
    whole, fixed, more = int(tiles), loop[_FIXED, column], loop[MASK, column] * masked
    worked = tiles if whole == tiles else whole + fixed + (1 - fixed) * (tiles - whole)
    low = min(max(int(worked), 1), FOLLOWED)
    before, after = loop[_ALONE + low - 1, column], loop[_ALONE + low, column]
    alone = before + (worked - low) * (after - before)
    # Part of it passes while the item before is at work.
    one = 2 * loop[_SINGLE + 2, column] - loop[_SINGLE + 3, column]
    several = 2 * loop[_WAITS - 2, column] - loop[_WAITS - 1, column]
    hidden = min(max(one + min(worked - 1, 1.0) * (several - one), 0.0), alone)
    # One tile, and the loads of all others at the fair share.
    shared = loads[SHARED, own]
    alone_or_slowed = max(alone, loop[_ALONE, column] + (tiles - 1) * shared)
    waits = loop[_WAITS, column]
    least = (alone_or_slowed + more - waits) / items_in_flight
    by_others, waves, steps = loads[BY_OTHERS, own], loads[WAVES, own] * tiles, alone - hidden
    own_steps = _contended(steps, tiles * shared, by_others, waves)
    last_steps = own_steps
    # A bound, without a limit of items, asks for no last wave.
    if loads[LAST_SHARED, own] != loads[SHARED, own] and items_in_flight < np.inf:
        last_steps = _contended(steps, tiles * loads[LAST_SHARED, own], by_others, waves)
    times[ALONE, place] = alone_or_slowed + more
    times[STEPS, place] = max(own_steps + more, least)
    times[LAST_STEPS, place] = max(last_steps + more, least)
    times[WAITS, place] = waits
    low = min(low, FOLLOWED - 1)
    before = loop[_SINGLE + 1 if low == 1 else _SEVERAL + 2 * low - 1, column]
    after = loop[_SEVERAL + 2 * low + 1, column]
    period = loop[_ALONE + FOLLOWED, column] - loop[_ALONE + FOLLOWED - 1, column]
    times[CLAIMS, place] = (before + (worked - low) * (after - before)) * max(1.0, shared / period)


@jit
def fill_times(loop, tiles, loads, items_in_flight, times):
    """Write the times of one item of each candidate, with so many key tiles."""
    for own in range(len(tiles)):
        fill_alone(loop, own)
        write_times(loop, own, tiles[own], 0, loads, own, items_in_flight, times, own)
