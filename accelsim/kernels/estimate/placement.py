"""When the last core is done: items placed in their order, each on the core that claims first."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.units import ceil_div

Cycles = npt.NDArray[np.float64]
Kinds = npt.NDArray[np.int64]

_LAST_WAVES = 8
"""Items a core that are placed one by one at the end. Those before leave no core behind, as each
goes to the core that is free first; how the last ones fall decides what is lost."""


class ItemTimes(NamedTuple):
    """Cycles of kinds of work items, [candidates, kinds]."""

    alone: Cycles
    """From the claim to the end of the last store, on an idle core."""
    steps: Cycles
    """From the end of the item before to its own, on a core that is busy."""
    last_steps: Cycles
    """The same in the last wave, which shares the memory among fewer cores."""
    claims: Cycles
    """From the claim of an item to that of the next one of its core, if there is work."""
    waits: Cycles
    """Part of `alone` in which the memory serves what all others asked for before, at the start."""

    def first_ends(self, wave: Kinds) -> Cycles:
        """Return when the first items end: the memory serves one core after the other."""
        served_later = 1 - np.arange(1, len(wave) + 1) / len(wave)
        return np.asarray(self.alone[:, wave] - self.waits[:, wave] * served_later)

    def limited(self, items_in_flight: int) -> "ItemTimes":
        """Return the same where a core has so many items at a time, and the next one waits.

        Only at the start all cores ask at once.
        """
        least = (self.alone - self.waits) / items_in_flight
        steps, last_steps = np.maximum(self.steps, least), np.maximum(self.last_steps, least)
        return self._replace(steps=steps, last_steps=last_steps)


def last_end(times: ItemTimes, kinds: Kinds, cores: int) -> Cycles:
    """Return when the last item has ended, [candidates]; kinds: of the items, in their order."""
    if len(kinds) <= cores:
        return times.first_ends(kinds).max(axis=1)
    before = max(0, ceil_div(len(kinds), cores) - _LAST_WAVES) * cores
    free = np.zeros((len(times.alone), cores))
    if before:
        counts = np.bincount(kinds[cores:before], minlength=times.alone.shape[1])
        free += times.first_ends(kinds[:cores]) + (times.steps @ counts / cores)[:, None]
    claimable, placed = free.copy(), kinds[before:]
    alone, steps, last_steps, claims = (each[:, placed] for each in times[:4])
    last = (len(placed) - 1) // cores * cores
    steps[:, last:] = last_steps[:, last:]
    if not before:
        steps[:, :cores] = times.first_ends(placed[:cores])
    for first in range(0, len(placed), cores):
        wave = np.s_[:, first : first + cores]
        # At first all cores are alike.
        is_first = not (first or before)
        own = wave if is_first else _first_to_claim(claimable, len(placed[first : first + cores]))
        _place(free, claimable, own, alone[wave], steps[wave], claims[wave])
    return np.asarray(free.max(axis=1))


def last_equal_end(times: ItemTimes, items: Any, cores: int) -> Cycles:
    """Return when the last of equal items has ended, [candidates]; times: [candidates, 1]."""
    waves = ceil_div(items, cores)
    alone, steps, last_steps, _, waits = (each[:, 0] for each in times)
    whole = alone + np.maximum(waves - 2, 0) * steps
    # Cores that were served first have an item more, and are half as far ahead at the end.
    first = whole - waits / 2 * (1 - last_wave(items, cores) / cores) + last_steps
    return np.asarray(np.where(waves > 1, np.maximum(whole, first), alone))


def last_wave(items: Any, cores: int) -> Any:
    """Return how many cores have an item of the last wave."""
    return (items - 1) % cores + 1


def _first_to_claim(claimable: Cycles, count: int) -> tuple[Any, Any]:
    """Return the places of the `count` cores of each candidate that can claim first."""
    order = np.argsort(claimable, axis=1, kind="stable")[:, :count]
    return np.arange(len(order))[:, None], order


def _place(
    free: Cycles, claimable: Cycles, own: Any, alone: Cycles, steps: Cycles, claims: Cycles
) -> None:
    """Give one item each to the cores at the places `own`; both arrays are [candidates, cores]."""
    own_free = free[own]
    end = own_free + steps
    # Its loads wait for slots that the item before still uses.
    started = np.maximum(claimable[own], end - alone)
    free[own], claimable[own] = end, np.maximum(started + claims, own_free)


def query_blocks(blocks: int, heads: int, *, by_head: bool) -> Kinds:
    """Return the block of query rows of every item: of all heads the last one first, or by head."""
    items = np.arange(blocks * heads)
    return items % blocks if by_head else blocks - 1 - items // heads
