"""The fastest tiling of a matrix product: a quick look at all of them, and a close one at the best.

The quick look leaves out how loads lie on channels, what stays in an L2, how long the last item of
each core is, and how times that overlap are joined.
"""

from typing import Any

import numpy as np

from accelsim.kernels.estimate.memory import (
    hit_cycles,
    shared_bytes_per_cycle,
    sustained_bytes_per_cycle,
)
from accelsim.kernels.linear.estimate import (
    KEPT_SHARE,
    Work,
    cost_of,
    drain_cycles,
    end_cycles,
    merge_cycles,
)
from accelsim.kernels.linear.tiles import SUM_BYTES, Choice, Tiles, fastest, quotient
from accelsim.units import BITS_PER_BYTE

_LOOKED_AT = 192
"""Tilings that are estimated closely. Of 533 products on five machines, the best by the close
estimate of all tilings was never beyond the 135th of the quick look."""
_BANDS = (1, 2, 3, 4, 6, 8, 12, 16)


def choose(work: Work, tiles: Tiles, *, can_reorder: bool) -> Choice:
    """Return the fastest tiling; can_reorder: its tiles may be walked in bands of any height."""
    machine = work.machine
    tiles = _promising(work, tiles)
    if not can_reorder or not machine.l2:
        return fastest(tiles, cost_of(work, tiles))
    square = np.sqrt(machine.cores / tiles.splits * tiles.n / tiles.m)
    tiles = tiles._replace(swizzle=np.maximum(1, np.rint(square)).astype(np.int64))
    choice = fastest(tiles, cost_of(work, tiles))
    if work.problem.compulsory_bytes <= KEPT_SHARE * machine.l2.capacity:
        return choice
    best = choice.tiles
    heights = np.unique([*_BANDS, best.swizzle])
    bands = Tiles(*(np.full(len(heights), each) for each in best))._replace(swizzle=heights)
    return fastest(bands, cost_of(work, bands))


def _promising(work: Work, tiles: Tiles) -> Tiles:
    """Return the tilings that a quick look finds best, in their order."""
    if len(tiles.m) <= 2 * _LOOKED_AT:
        return tiles
    best = np.argpartition(_quick_cycles(work, tiles), _LOOKED_AT)[:_LOOKED_AT]
    return tiles.at(np.sort(best))


def _quick_cycles(work: Work, tiles: Tiles) -> Any:
    """Return about the least time that tilings may take."""
    problem, machine = work.problem, work.machine
    tiles = tiles.as_floats()
    step = work.step(tiles)
    left, *others = step.operand_bytes
    right = sum(others)
    rows, cols = quotient(problem.m, tiles.m), quotient(problem.n, tiles.n)
    along_m, along_n = problem.m / tiles.m, problem.n / tiles.n
    along_k = problem.k / tiles.k
    steps = np.minimum(along_k, quotient(quotient(along_k, 1), tiles.splits))
    items = rows * cols * tiles.splits
    load = (left + right) / machine.load.bandwidth
    arrival = hit_cycles(machine) + load + step.compute_cycles + step.latency_cycles
    slots = np.minimum(tiles.stages, np.maximum(steps, 1))
    period = np.maximum(np.maximum(step.compute_cycles, load), arrival / slots)
    move, store = drain_cycles(work, tiles, step)
    item = np.maximum(steps * period + move, store)
    # The busiest core has the mean of its share and of whole items.
    share = along_m * along_n * tiles.splits / machine.cores
    run = (share + quotient(items, machine.cores)) / 2 * item
    loaded = along_k * (along_m * cols * left + along_n * rows * right)
    run = np.maximum(run, _memory_cycles(work, tiles, loaded))
    run = run + end_cycles(work, tiles, load, step.compute_cycles)
    return run + merge_cycles(work, tiles, np.minimum(items, machine.cores))


def _memory_cycles(work: Work, tiles: Tiles, loaded_bytes: Any) -> Any:
    """Return the least time for what is loaded from an L2, or for all from the HBM."""
    problem, machine = work.problem, work.machine
    if machine.l2:
        least = problem.compulsory_bytes / sustained_bytes_per_cycle(machine)
        return np.maximum(least, loaded_bytes / shared_bytes_per_cycle(machine))
    outputs = problem.m * problem.n
    sums = np.where(tiles.splits > 1, tiles.splits * outputs * SUM_BYTES, 0)
    stored = outputs * work.output_bits / BITS_PER_BYTE + sums
    return (loaded_bytes + stored) / sustained_bytes_per_cycle(machine)
