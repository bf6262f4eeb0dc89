"""How long items of a phase take by the number of their tiles, of which a few were followed."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al
from accelsim.kernels.estimate.memory import contended
from accelsim.kernels.estimate.placement import ALONE, CLAIMS, LAST_STEPS, OPENS, STEPS, WAITS

FOLLOWED = 5
"""Tiles that are followed op by op; after them each one takes as long as the one before."""

Cycles = npt.NDArray[np.float64]

_contended = al.jit_inner(contended)
_WAITS, _CLAIMS = 0, 1
_HIDDEN = _CLAIMS + FOLLOWED
_ALONE = _HIDDEN + FOLLOWED
_NUM_ROWS = _ALONE + FOLLOWED + 1
"""Rows of a loop, see `loop_of`."""
SHARED, LAST_SHARED, BY_OTHERS, WAVES = range(4)
"""Rows of loads: cycles to load what belongs to a tile where all cores that have work share the
memory, and where those of the last wave do; the part in which the memory keeps a core waiting for
others; items of a core."""


class Followed(NamedTuple):
    """What was seen of items with 1 to FOLLOWED tiles, [tiles - 1, candidates]."""

    claims: Cycles
    """When the next item can be claimed."""
    ends: Cycles
    """Of an item on an idle core."""
    hidden: Cycles
    """Part of it that passes while an equal item before is at work."""
    more: Cycles
    """What each further tile takes, [candidates]."""


def loop_of(followed: Followed, waits: Any) -> Cycles:
    """Return what is known of items, [rows, candidates].

    waits: the part of an item that passes before the memory begins.
    """
    loop = np.empty((_NUM_ROWS, len(followed.more)))
    loop[_WAITS] = waits
    loop[_CLAIMS:_HIDDEN], loop[_HIDDEN:_ALONE] = followed.claims, followed.hidden
    loop[_ALONE:-1], loop[-1] = followed.ends, followed.ends[-1] + followed.more
    np.maximum.accumulate(loop[_ALONE:], out=loop[_ALONE:])
    return loop


@al.jit
def fill_times(loop, tiles, loads, items_in_flight, times):
    """Write the times of an item of each candidate, rows as of `ItemTimes`.

    tiles: of an item; the last one may be a part of one.
    """
    for own in range(len(tiles)):
        shared, by_others = loads[SHARED, own], loads[BY_OTHERS, own]
        alone = _continued(loop, _ALONE, FOLLOWED + 1, own, tiles[own])
        hidden = min(max(_continued(loop, _HIDDEN, FOLLOWED, own, tiles[own]), 0.0), alone)
        # One tile, behind what all ask for at the start, and the other loads at the fair share.
        slowed = max(alone, loop[_ALONE, own] + max(0.0, tiles[own] - 1) * shared)
        least = (slowed - loop[_WAITS, own]) / items_in_flight
        waves, steps = loads[WAVES, own] * tiles[own], alone - hidden
        for row, each in ((STEPS, shared), (LAST_STEPS, loads[LAST_SHARED, own])):
            times[row, own] = max(_contended(steps, tiles[own] * each, by_others, waves), least)
        times[ALONE, own], times[WAITS, own] = slowed, loop[_WAITS, own]
        period = loop[_ALONE + FOLLOWED, own] - loop[_ALONE + FOLLOWED - 1, own]
        claims = _continued(loop, _CLAIMS, FOLLOWED, own, tiles[own])
        times[CLAIMS, own] = times[OPENS, own] = claims * max(1.0, shared / period)


@al.jit_inner
def _continued(loop, known, length, column, tiles):
    """What is known of some tiles, in between along a line, and beyond with the last slope."""
    low = min(max(int(tiles), 1), length - 1)
    before, after = loop[known + low - 1, column], loop[known + low, column]
    return before + (tiles - low) * (after - before)
