"""The candidate that a kernel takes."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.units import ceil_div

TILE_SIZES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sizes of a tile along one axis that are tried: powers of two, and half as much again."""

Array = Any
"""Sizes or times, one for every candidate: an array, or a number where all have the same."""

_ALIKE = 1.02
"""Estimates that differ by less are taken for equal; then bytes decide."""
ALIKE_ITEMS = 1.005
"""The same of estimates that follow the ops of items and place the items."""
DOUBT = 1.05
"""Estimates that differ by less may be in the wrong order: what two of them say of each other has a
standard deviation of 3 to 5 % (docs/decisions/0061-trials.md)."""
MOST_RIVALS, MOST_BANKED_RIVALS = 3, 4
"""Candidates that are told, the one that is estimated to be the best among them. Where the HBM has
banks there are more, since estimates see less of it."""


class Estimate(NamedTuple):
    """Of each candidate."""

    cycles: Array
    loaded_bytes: Array
    steps: Array
    """Tiles of keys that all work items meet."""


def one_after_the_other(estimates: Sequence[Estimate]) -> Estimate:
    """Return the estimate of several problems with the same candidates, run one by one."""
    return Estimate(*(sum(each) for each in zip(*estimates, strict=True)))


_MULTIPLE = 16
"""Of the sizes of a tile: the side of a cube, and whole bytes of every format."""


@lru_cache(4096)
def sizes(asked: int | None, length: int) -> npt.NDArray[np.int64]:
    """Return the sizes of a tile along an axis: the one asked for, or those to choose from.

    Each is as small as cuts the axis into as few pieces, so that the last one is nearly as long.
    """
    pieces = {ceil_div(length, min(longest, length)) for longest in TILE_SIZES}
    even = (ceil_div(ceil_div(length, count), _MULTIPLE) * _MULTIPLE for count in pieces)
    own = [asked] if asked else sorted({min(size, length) for size in even})
    found = np.minimum(own, length)
    found.flags.writeable = False  # All callers share it.
    return found


_WHOLE_SIZES = tuple(size for size in TILE_SIZES if 64 <= size <= 256)


@lru_cache(4096)
def masked_sizes(asked: int | None, length: int) -> npt.NDArray[np.int64]:
    """Return the sizes of a tile along the keys of a causal mask: those of `sizes`, and whole ones.

    Most query rows do not see the last piece, so it may be shorter. Tiles of keys then end where
    those of queries do.
    """
    own = sizes(asked, length)
    if asked:
        return own
    found = np.union1d(own, [size for size in _WHOLE_SIZES if size < length]).astype(np.int64)
    found.flags.writeable = False
    return found


def grid(*axes: Array) -> list[Array]:
    """Return all combinations of what may be chosen along some axes, the last axis first."""
    places = _places(*(len(axis) for axis in axes))
    return [axis[place] for axis, place in zip(axes, places, strict=True)]


@lru_cache(256)
def _places(*lengths: int) -> Array:
    return np.indices(lengths).reshape(len(lengths), -1)


def fastest_of(num_candidates: int, estimate: Callable[[], Estimate], alike: float) -> int:
    """Return the best candidate; a single one needs no estimate."""
    return 0 if num_candidates == 1 else fastest(estimate(), alike)


def most_rivals(machine: MachineSpec) -> int:
    """Return how many candidates are told on a machine."""
    return MOST_BANKED_RIVALS if isinstance(machine.hbm, BankedHbmSpec) else MOST_RIVALS


def rivals_of(
    cycles: npt.NDArray[np.float64], best: int, sizes: Sequence[Array], most: int
) -> list[int]:
    """Return the candidates that may be the fastest: the best one, then others by their estimates.

    Those that are alike fail alike, so what differs by a factor of two comes first, all sizes taken
    together. cycles: of all candidates; what is not found in full must be beyond doubt. sizes: of
    all candidates, by parameter; a truth counts as one of two sizes. most: how many are told.
    """
    order = np.argsort(cycles, kind="stable")
    near = order[cycles[order] <= DOUBT * cycles[best]]
    near = np.array([best, *near[near != best].tolist()])
    if len(near) <= most:
        return [int(each) for each in near]
    logs = np.log2([each[near] + 1 if each.dtype == bool else each[near] for each in sizes])
    taken, apart = [0], np.full(len(near), np.inf)
    while len(taken) < most:
        apart = np.minimum(apart, np.abs(logs - logs[:, taken[-1:]]).sum(axis=0))
        others = np.flatnonzero(apart >= 1)
        if not len(others):
            break
        taken.append(int(others[0]))
    alike = [each for each in range(most) if each not in taken]
    return near[[*taken, *alike][:most]].tolist()


def fastest(estimate: Estimate, alike: float = _ALIKE) -> int:
    """Return the best candidate.

    It is the fastest, or one as fast that loads less or takes fewer steps. alike: by which factor
    estimates of such ones may differ.
    """
    near = np.flatnonzero(estimate.cycles <= alike * estimate.cycles.min())
    keys = (estimate.cycles, estimate.steps, estimate.loaded_bytes)
    return int(near[np.lexsort([key[near] for key in keys])[0]])
