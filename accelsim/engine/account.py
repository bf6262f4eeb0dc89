"""One walk over the ops of a schedule, core by core: what the times of the ops add up to."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.holding import Holding, end_all_uses, highest_use, touch
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
    times: Any
    """[op], records"""
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


def account(run: Run, holding: Holding) -> Accounts:
    """Return the accounts of a run; holding: room for the changes of one core."""
    busy, moved, free = np.zeros((3, len(run.first) - 1, NUM_UNITS), np.int64)
    stalls = np.zeros((NUM_UNITS, NUM_UNITS + 1), np.int64)
    highest = _walk(run, _Sums(busy, stalls, moved, free), holding)
    return Accounts(busy, stalls, moved, highest)


@jit
def _walk(run, sums, holding):
    """Add up the ops; return the most bytes in use on any core."""
    run, sums, holding, highest = borrow(run), borrow(sums), borrow(holding), 0
    for core in range(len(run.first) - 1):
        for place in range(run.first[core], run.first[core + 1]):
            item = run.items[place]
            for op in range(run.item_start[item], run.item_start[item + 1]):
                times = run.times[op]
                reads, writes = run.words[op, READS], run.words[op, WRITES]
                touch(reads, writes, times.start, times.end, holding)
                _add(op, core, times, run, sums)
        end_all_uses(holding)
        highest = highest_use(holding, highest)
    return highest


@jit_inline
def _add(op, core, times, run, sums):
    """Add the times of an op, and its bytes."""
    unit, start = times.unit, times.start
    free = sums.free[core, unit]
    if unit >= FIRST_MEMORY_UNIT:
        # Transfers overlap: count the union of their intervals, which are in order.
        sums.busy[core, unit] += times.end - max(start, free)
        sums.free[core, unit] = times.end
        sums.moved[core, unit] += run.words[op, B] * run.words[op, C]
    else:
        sums.busy[core, unit] += times.busy
        if times.cause >= 0:
            sums.stalls[unit, times.cause] += start - free
        sums.free[core, unit] = start + times.busy
