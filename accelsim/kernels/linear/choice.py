"""The fastest tiling of a matrix product."""

import numpy as np

from accelsim.kernels.linear import waves
from accelsim.kernels.linear.estimate import KEPT_SHARE, Slots, Work, estimates
from accelsim.kernels.linear.tiles import Choice, Cost, Tiles, fastest_of

_BANDS = (1, 2, 3, 4, 6, 8, 12, 16)


def choose(work: Work, tiles: Tiles, slots: Slots) -> Choice:
    """Return the fastest tiling, with as many slots of the operands as are best.

    0 as ranges of k or as the swizzle of the tilings means that they are chosen.
    """
    choice = _fastest(work, tiles, slots)
    l2, best = work.machine.l2, choice.tiles
    if not l2 or np.any(tiles.swizzle) or work.problem.compulsory_bytes <= KEPT_SHARE * l2.capacity:
        return choice
    heights = np.unique([*_BANDS, best.swizzle])
    bands = Tiles(*(np.full(len(heights), each) for each in best))._replace(swizzle=heights)
    return _fastest(work, bands, Slots(best.stages, best.stages))


def _fastest(work: Work, tiles: Tiles, slots: Slots) -> Choice:
    found = estimates(work, tiles, slots)
    best = fastest_of(Cost(*found[: waves.STEPS + 1]))
    cycles, _, _, stages, splits, swizzle = found[:, best].tolist()
    own = tiles.at(best)._replace(stages=stages, splits=splits, swizzle=swizzle)
    return Choice(Tiles(*(int(each) for each in own)), cycles)
