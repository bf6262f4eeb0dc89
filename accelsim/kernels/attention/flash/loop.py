"""How long items take by the number of their key tiles, of which a few were followed op by op."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels.estimate.memory import contended
from accelsim.kernels.estimate.placement import ItemTimes, limited_inside
from accelsim.runtime.jit import jit, jit_inline

FOLLOWED = 5
"""Key tiles that are followed op by op; after them each one takes as long as the one before."""

Cycles = npt.NDArray[np.float64]

_contended = jit_inline(contended)


class Loads(NamedTuple):
    """Cycles to load what belongs to a key tile, [candidates]."""

    shared: Cycles
    """Where all cores that have work share the memory."""
    last_shared: Cycles
    """Where those of the last wave do."""
    by_others: Cycles
    """Part of `shared` that is of other cores."""
    waves: Cycles
    """Work items of a core."""


class Loop(NamedTuple):
    """What was noted while two equal items ran, one after the other; columns are items.

    Of each key tile of the first its end and when its loads were requested, then the end of each
    item.
    """

    single: Cycles
    """[4, columns], of items with one key tile, whose keys nothing hides."""
    several: Cycles
    """[2 FOLLOWED + 2, columns]"""
    waits: Cycles
    """Part of an item that passes before the memory begins, [columns]."""
    fixed: Cycles
    """Part of a step that does not depend on how many keys it has, [columns]."""

    @classmethod
    def of(cls, single: Cycles, several: Cycles, waits: Any, fixed: Any = 0.0) -> "Loop":
        """Return the times; waits, fixed: arrays or numbers."""
        shares = np.empty((2, single.shape[1]))
        shares[0], shares[1] = waits, fixed
        return cls(single, several, *shares)


@jit_inline
def alone_of(loop, column):
    """Cycles of items with 1, 2, ... FOLLOWED + 1 key tiles, each on an idle core.

    Those with fewer or more steps than were followed have fewer or more of those in the middle.
    """
    alone, ends = np.empty(FOLLOWED + 1), loop.several[: 2 * FOLLOWED : 2, column]
    alone[0] = 0.0
    for tiles in range(1, FOLLOWED - 1):
        alone[tiles + 1] = ends[tiles] - ends[tiles - 1]
    alone[1] = alone[2]
    # Slots are used in turn, so two steps together are what repeats. The last one may be another.
    alone[FOLLOWED] = (ends[FOLLOWED - 2] - ends[FOLLOWED - 4]) / 2
    for tiles in range(1, FOLLOWED + 1):
        alone[tiles] += alone[tiles - 1]
    rest = loop.several[2 * FOLLOWED, column]
    before = alone[FOLLOWED - 1]
    alone[0] = loop.single[2, column]
    for tiles in range(1, FOLLOWED + 1):
        alone[tiles] = max(rest + alone[tiles] - before, alone[tiles - 1])
    return alone


@jit_inline
def times_of(loop, column, alone, key_tiles, loads, candidate):
    """Times of an item with so many key tiles, not always whole; alone: see `alone_of`."""
    shared, by_others = loads.shared[candidate], loads.by_others[candidate]
    whole, fixed = np.floor(key_tiles), loop.fixed[column]
    part = key_tiles - whole
    worked = whole + (fixed + (1 - fixed) * part if part > 0 else 0.0)
    low = min(max(int(worked), 1), FOLLOWED)
    cycles = alone[low - 1] + (worked - low) * (alone[low] - alone[low - 1])
    hidden = min(max(_hidden(loop, column, worked), 0.0), cycles)
    # One tile, and the loads of all others at the fair share.
    slowed = alone[0] + (key_tiles - 1) * shared
    period = alone[FOLLOWED] - alone[FOLLOWED - 1]
    waves = loads.waves[candidate] * key_tiles
    return ItemTimes(
        max(cycles, slowed),
        _contended(cycles - hidden, key_tiles * shared, by_others, waves),
        _contended(cycles - hidden, key_tiles * loads.last_shared[candidate], by_others, waves),
        _claimed(loop, column, worked) * max(1.0, shared / period),
        loop.waits[column],
    )


@jit_inline
def _hidden(loop, column, tiles):
    """Part of an item that passes while the one before is at work."""
    one = 2 * loop.single[2, column] - loop.single[3, column]
    first, second = loop.several[2 * FOLLOWED, column], loop.several[2 * FOLLOWED + 1, column]
    return one + min(tiles - 1, 1.0) * (2 * first - second - one)


@jit_inline
def _claimed(loop, column, tiles):
    """When the last load of an item was requested."""
    low = min(max(int(tiles), 1), FOLLOWED - 1)
    at, after = loop.several[2 * low - 1, column], loop.several[2 * low + 1, column]
    if low == 1:
        at = loop.single[1, column]
    return at + (tiles - low) * (after - at)


@jit
def times_in_loop(loop, key_tiles, loads, items_in_flight):
    """Times of one item of each candidate, rows of `ItemTimes`; all arrays are [candidates]."""
    found = np.empty((5, len(key_tiles)))
    for own in range(len(key_tiles)):
        alone = alone_of(loop, own)
        times = limited_inside(
            times_of(loop, own, alone, key_tiles[own], loads, own), items_in_flight
        )
        for row, value in enumerate(times):
            found[row, own] = value
    return found
