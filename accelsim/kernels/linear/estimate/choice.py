"""The fastest tilings of a matrix product."""

from collections.abc import Sequence

import numpy as np

from accelsim.kernels.estimate.choice import Array, most_rivals, rivals_of
from accelsim.kernels.linear.estimate import waves
from accelsim.kernels.linear.estimate.products import KEPT_SHARE, TWO_SLOTS, Slots, Work, estimates
from accelsim.kernels.linear.tiles import Choice, Cost, Tiles, fastest_of
from accelsim.units import BITS_PER_BYTE

_BANDS = (1, 2, 3, 4, 6, 8, 12, 16)


def rival_tilings(work: Work, tiles: Tiles, slots: Slots = TWO_SLOTS) -> Sequence[Choice]:
    """Return the tilings that may be the fastest of those that fit, the best estimate first.

    If none fits, there is one that takes for ever. 0 as ranges of k, as the swizzle or as slots of
    the accumulator means that they are chosen.
    """
    found = _rivals(work, tiles, slots)
    if found[0].cycles == np.inf or np.any(tiles.swizzle) or not _may_leave(work):
        return found
    return [_in_bands(work, each.tiles) for each in found]


def _in_bands(work: Work, own: Tiles) -> Choice:
    """Return a tiling with the best height of its bands."""
    heights = np.unique([*_BANDS, own.swizzle])
    bands = Tiles(*(np.full(len(heights), each) for each in own))._replace(swizzle=heights)
    return _rivals(work, bands, Slots(own.stages, own.stages))[0]


def _may_leave(work: Work) -> bool:
    """Return whether there is an L2 that does not keep all operands."""
    problem, l2 = work.problem, work.machine.l2
    elements = problem.k * (problem.m + problem.n)
    bits = elements * problem.dtype.bits + problem.m * problem.n * work.output_bits
    return l2 is not None and bits / BITS_PER_BYTE > KEPT_SHARE * l2.capacity


def _rivals(work: Work, tiles: Tiles, slots: Slots) -> list[Choice]:
    found = estimates(work, tiles, slots)
    best = fastest_of(Cost(*found[: waves.STEPS + 1]))
    sizes = tiles.m, tiles.n, tiles.k, *found[[waves.BEST_STAGES, waves.BEST_SPLITS]]
    rivals = rivals_of(found[waves.CYCLES], best, sizes, most_rivals(work.machine))
    return [_choice(tiles.at(each), found[:, each]) for each in rivals]


def _choice(tiles: Tiles, found: Array) -> Choice:
    cycles, _, _, stages, splits, swizzle = found.tolist()
    own = tiles._replace(stages=stages, splits=splits, swizzle=swizzle)
    return Choice(Tiles(*(int(each) for each in own)), cycles)
