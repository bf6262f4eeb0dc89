"""One walk over the ops of a schedule, core by core: what the times of the ops add up to."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.holding import end_all_uses, highest_use, touch
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, READS, WRITES, B, C
from accelsim.runtime.jit import borrow, jit, jit_inline

Counts = npt.NDArray[np.int64]


class Accounts(NamedTuple):
    """What one walk over all ops finds."""

    busy: Counts
    """Cycles [core, unit] in which a unit works; a DMA queue works while it has transfers."""
    stalls: Counts
    """Cycles [unit, cause], over cores, that a compute unit was free but its next op waited."""
    moved_bytes: Counts
    """Bytes [core, unit] that the DMA queues moved."""
    held_peak_bytes: int
    """Most bytes of a scratchpad that held something that is still needed."""


class Run(NamedTuple):
    """What ops are, and what a schedule says of them."""

    words: Any
    """[op, word], the program"""
    units: Any
    """[op]"""
    start: Any
    """[op]"""
    end: Any
    """[op]"""
    busy: Any
    """[op]"""
    cause: Any
    """[op]"""
    item_start: Any
    """[item]"""
    items: Any
    """[i], the items of one core after the other, as each claimed them"""
    first: Any
    """[core], where the items of a core begin in `items`; one more for the end"""


class _Sums(NamedTuple):
    """What the ops add to."""

    busy: Any
    """[core, unit]"""
    stalls: Any
    """[unit, cause]"""
    moved: Any
    """[core, unit]"""
    free: Any
    """[core, unit], when a unit has done the ops before"""


@jit
def account(run, holding):
    """Return the accounts of a run; holding: room for the changes of one core."""
    run, cores = borrow(run), len(run.first) - 1
    busy, moved, free = np.zeros((3, cores, NUM_UNITS), np.int64)
    stalls = np.zeros((NUM_UNITS, NUM_UNITS + 1), np.int64)
    sums = borrow(_Sums(busy, stalls, moved, free))
    holding, highest = borrow(holding), 0
    for core in range(cores):
        holding.count[0] = 0
        for item in run.items[run.first[core] : run.first[core + 1]]:
            for op in range(run.item_start[item], run.item_start[item + 1]):
                reads, writes = run.words[op, READS], run.words[op, WRITES]
                touch(reads, writes, run.start[op], run.end[op], holding)
                _add(op, core, run.units[op], run, sums)
        end_all_uses(holding)
        count = holding.count[0]
        highest = highest_use(holding.moments[:count], holding.changes[:count], highest)
    return busy, stalls, moved, highest


@jit_inline
def _add(op, core, unit, run, sums):
    """Add the times of an op, and its bytes."""
    start, free = run.start[op], sums.free[core, unit]
    if unit >= FIRST_MEMORY_UNIT:
        # Transfers overlap: count the union of their intervals, which are in order.
        sums.busy[core, unit] += run.end[op] - max(start, free)
        sums.free[core, unit] = run.end[op]
        sums.moved[core, unit] += run.words[op, B] * run.words[op, C]
    else:
        sums.busy[core, unit] += run.busy[op]
        if run.cause[op] >= 0:
            sums.stalls[unit, run.cause[op]] += start - free
        sums.free[core, unit] = start + run.busy[op]
