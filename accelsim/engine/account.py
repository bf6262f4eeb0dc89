"""One walk over the ops of a schedule, core by core: what the times of the ops add up to."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.holding import (
    end_all_uses,
    highest_use,
    new_holding,
    note_change,
    touch,
)
from accelsim.program.ops import (
    FIRST_MEMORY_UNIT,
    NUM_UNITS,
    READS,
    SLOTS_PER_WORD,
    WRITES,
    B,
    C,
)
from accelsim.program.program import Declared
from accelsim.runtime.jit import borrow, jit, jit_inline, jit_inner

Counts = npt.NDArray[np.int64]
_NO_LATER = -1
"""In the place of a cycle: no op comes later."""


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


class _Later(NamedTuple):
    """Changes of what is in use that ops of later pieces may come before, core by core."""

    first: Any
    """[core], where those of a core begin; one more for the end"""
    moments: Any
    changes: Any
    """[change], see `Holding`"""


class Ledger:
    """The accounts of a run, added up piece by piece."""

    def __init__(self, program: Declared, cores: int) -> None:
        self._program = program
        busy, moved, free = np.zeros((3, cores, NUM_UNITS), np.int64)
        stalls = np.zeros((NUM_UNITS, NUM_UNITS + 1), np.int64)
        self._sums, self._highest = _Sums(busy, stalls, moved, free), 0
        self._later = _no_changes(cores, 0)

    def add(self, run: Run, since: Counts | None = None) -> None:
        """Add the ops of some items; on each core they follow those that were added before.

        since: [core], no op that is added later starts before; None: there are none.
        """
        cores = len(run.first) - 1
        lengths = np.diff(run.item_start)[run.items]
        most = int(np.diff(np.append(0, np.cumsum(lengths))[run.first]).max(initial=0))
        before = self._later
        holding = new_holding(self._program, most, more=len(before.moments))
        after = _no_changes(cores, 0)
        if since is None:
            since = np.full(cores, _NO_LATER)
        else:
            changes = 2 * SLOTS_PER_WORD * int(lengths.sum()) + len(before.moments) + cores
            after = _no_changes(cores, changes)
        self._highest = _walk(run, self._sums, holding, before, after, since, self._highest)
        end = int(after.first[-1])
        self._later = _Later(after.first, after.moments[:end].copy(), after.changes[:end].copy())

    @property
    def accounts(self) -> Accounts:
        """What all ops added up to."""
        busy, stalls, moved, _ = self._sums
        return Accounts(busy, stalls, moved, int(self._highest))


def _no_changes(cores: int, room: int) -> _Later:
    first = np.zeros(cores + 1, np.int64)
    return _Later(first, np.empty(room, np.int64), np.empty(room, np.int64))


@jit
def _walk(run, sums, holding, before, after, since, highest):
    """Add up the ops; return the most bytes in use on any core."""
    run, sums, holding = borrow(run), borrow(sums), borrow(holding)
    before, after = borrow(before), borrow(after)
    kept = 0
    for core in range(len(run.first) - 1):
        for i in range(before.first[core], before.first[core + 1]):
            note_change(before.moments[i], before.changes[i], holding)
        for place in range(run.first[core], run.first[core + 1]):
            item = run.items[place]
            for op in range(run.item_start[item], run.item_start[item + 1]):
                times = run.times[op]
                reads, writes = run.words[op, READS], run.words[op, WRITES]
                touch(reads, writes, times.start, times.end, holding)
                _add(op, core, times, run, sums)
        # No item reads what another one has written.
        end_all_uses(holding)
        if since[core] != _NO_LATER:
            kept = _put_off(since[core], holding, after, kept)
        after.first[core + 1] = kept
        highest = highest_use(holding, highest)
    return highest


@jit_inner
def _put_off(since, holding, after, kept):
    """Move the changes from cycle `since` on to those for later; return how many these are.

    What is in use then is one more change, at an odd moment as any that adds.
    """
    left, in_use, begin = 0, 0, kept
    kept += 1
    for i in range(holding.count[0]):
        moment, change = holding.moments[i], holding.changes[i]
        if moment >= 2 * since:
            after.moments[kept], after.changes[kept] = moment, change
            kept += 1
        else:
            holding.moments[left], holding.changes[left] = moment, change
            in_use += change
            left += 1
    holding.count[0] = left
    after.moments[begin], after.changes[begin] = max(2 * since - 1, 1), in_use
    return kept


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
