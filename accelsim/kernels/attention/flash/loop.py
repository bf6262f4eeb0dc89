"""How long items take by the number of their key tiles, of which a few were followed op by op."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al
from accelsim.kernels.estimate.memory import contended

FOLLOWED = 5
"""Key tiles that are followed op by op; after them each one takes as long as the one before."""

Cycles = npt.NDArray[np.float64]

_contended = al.jit_inner(contended)
ALONE, STEPS, LAST_STEPS, CLAIMS, OPENS, WAITS = range(6)
_WAITS, _FIXED, MASK = range(3)
_CLAIMS = MASK + 1
_HIDDEN = _CLAIMS + FOLLOWED
_ALONE = _HIDDEN + FOLLOWED
_NUM_ROWS = _ALONE + FOLLOWED + 1
"""Rows of a loop, see `loop_of`."""
SHARED, LAST_SHARED, BY_OTHERS, WAVES, AHEAD = range(5)
"""Rows of loads: cycles to load what belongs to a key tile where all cores that have work share the
memory, and where those of the last wave do; the part in which the memory keeps a core waiting for
others; items of a core; key tiles of all cores that an item waits for at the start."""


class Followed(NamedTuple):
    """What was seen of items with 1 to FOLLOWED key tiles, [key tiles - 1, columns]."""

    claims: Cycles
    """When the next item can be claimed."""
    ends: Cycles
    """Of an item on an idle core."""
    hidden: Cycles
    """Part of it that passes while an equal item before is at work."""
    more: Cycles
    """What each further key tile takes, [columns]."""


def loop_of(followed: Followed, waits: Any, fixed: Any = 0.0, mask: Any = 0.0) -> Cycles:
    """Return what is known of items, [rows, columns]; a column is an item.

    waits: the part of an item that passes before the memory begins; fixed: the part of a step that
    does not depend on how many keys it has; mask: cycles of a key tile that the diagonal crosses.
    """
    loop = np.empty((_NUM_ROWS, len(followed.more)))
    loop[_WAITS], loop[_FIXED], loop[MASK] = waits, fixed, mask
    loop[_CLAIMS:_HIDDEN], loop[_HIDDEN:_ALONE] = followed.claims, followed.hidden
    loop[_ALONE:-1], loop[-1] = followed.ends, followed.ends[-1] + followed.more
    np.maximum.accumulate(loop[_ALONE:], out=loop[_ALONE:])
    return loop


@al.jit_inner
def _continued(loop, known, length, column, tiles):
    """What is known of some key tiles, in between along a line, and beyond with the last slope."""
    low = min(max(int(tiles), 1), length - 1)
    before, after = loop[known + low - 1, column], loop[known + low, column]
    return before + (tiles - low) * (after - before)


@al.jit_inner
def write_times(loop, column, tiles, masked, loads, own, items_in_flight, times, place):
    """Write the times of an item with so many key tiles, not always whole, some of them masked.

    own: the candidate among loads; times: rows of `ItemTimes`, where the item has a place.
    """
    whole, fixed, more = int(tiles), loop[_FIXED, column], loop[MASK, column] * masked
    worked = tiles if whole == tiles else whole + fixed + (1 - fixed) * (tiles - whole)
    alone = _continued(loop, _ALONE, FOLLOWED + 1, column, worked)
    hidden = min(max(_continued(loop, _HIDDEN, FOLLOWED, column, worked), 0.0), alone)
    # One tile, behind what all ask for at the start, and the other loads at the fair share.
    shared = loads[SHARED, own]
    slowed = loop[_ALONE, column] + max(0.0, tiles - loads[AHEAD, own]) * shared
    alone_or_slowed = max(alone, slowed)
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
    period = loop[_ALONE + FOLLOWED, column] - loop[_ALONE + FOLLOWED - 1, column]
    claims = _continued(loop, _CLAIMS, FOLLOWED, column, worked)
    times[CLAIMS, place] = times[OPENS, place] = claims * max(1.0, shared / period)


@al.jit
def fill_times(loop, tiles, loads, items_in_flight, times):
    """Write the times of one item of each candidate, with so many key tiles."""
    for own in range(len(tiles)):
        write_times(loop, own, tiles[own], 0, loads, own, items_in_flight, times, own)
