"""The fastest tiling of a matrix product."""

import numpy as np

from accelsim.kernels.linear.estimate import waves
from accelsim.kernels.linear.estimate.products import KEPT_SHARE, TWO_SLOTS, Slots, Work, estimates
from accelsim.kernels.linear.tiles import Choice, Cost, Tiles, fastest_of
from accelsim.units import BITS_PER_BYTE

_BANDS = (1, 2, 3, 4, 6, 8, 12, 16)


def choose(work: Work, tiles: Tiles, slots: Slots = TWO_SLOTS) -> Choice:
    """Return the fastest of those tilings that fit; if none does, it takes for ever.

    0 as ranges of k, as the swizzle or as slots of the accumulator means that they are chosen.
    """
    choice = _fastest(work, tiles, slots)
    if choice.cycles == np.inf or np.any(tiles.swizzle) or not _may_leave(work):
        return choice
    best = choice.tiles
    heights = np.unique([*_BANDS, best.swizzle])
    bands = Tiles(*(np.full(len(heights), each) for each in best))._replace(swizzle=heights)
    return _fastest(work, bands, Slots(best.stages, best.stages))


def _may_leave(work: Work) -> bool:
    """Return whether there is an L2 that does not keep all operands."""
    problem, l2 = work.problem, work.machine.l2
    elements = problem.k * (problem.m + problem.n)
    bits = elements * problem.dtype.bits + problem.m * problem.n * work.output_bits
    return l2 is not None and bits / BITS_PER_BYTE > KEPT_SHARE * l2.capacity


def _fastest(work: Work, tiles: Tiles, slots: Slots) -> Choice:
    found = estimates(work, tiles, slots)
    best = fastest_of(Cost(*found[: waves.STEPS + 1]))
    cycles, _, _, stages, splits, swizzle = found[:, best].tolist()
    own = tiles.at(best)._replace(stages=stages, splits=splits, swizzle=swizzle)
    return Choice(Tiles(*(int(each) for each in own)), cycles)
