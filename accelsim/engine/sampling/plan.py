"""Which items of a program are scheduled: the first and last of each phase, and runs in between.

Systematic sampling, as in Wunderlich et al., "SMARTS" (ISCA 2003): runs of items that follow each
other, at even distances of work, each behind a warm-up that is scheduled and not counted. The
first items of a phase fill pipelines, and the last ones leave cores idle: both are scheduled.
"""

import itertools
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.sampling.items import ranges_of

HEAD_WAVES, TAIL_WAVES = 2, 1
"""Items of each core that are scheduled at the begin and at the end of a phase."""
RUNS, FEWEST_RUNS = 16, 6
"""Runs of a phase: so many, or fewer where they would be shorter than two waves each."""
MOST_SHARE = 0.6
"""A phase of which more than this share would be scheduled is scheduled as a whole."""
_SPREAD = (5**0.5 - 1) / 2
"""Steps of this share never fall into step with anything that repeats."""


class Kind(IntEnum):
    """What becomes of a segment of items."""

    WHOLE = 0
    """It is counted as it is."""
    WARM_UP = 1
    """It is scheduled and not counted."""
    RUN = 2
    """It stands for those that are left out."""


class Segment(NamedTuple):
    """Items of one phase that follow each other."""

    kind: Kind
    phase: int
    """Number of the range of items with one phase."""
    first: int
    after: int


def plan_of(
    num_ops: npt.NDArray[np.float64], phases: npt.NDArray[np.int64], cores: int, share: float
) -> list[Segment]:
    """Return the segments that are scheduled, in order.

    num_ops, phases: of every item. share: of the ops that may be scheduled; the ends of phases and
    the fewest runs are, even so.
    """
    plan: list[Segment] = []
    for phase, (first, after) in enumerate(ranges_of(phases)):
        plan += _Phase(phase, first, num_ops[first:after], cores).plan(share)
    return plan


class _Phase:
    """Items of one phase."""

    def __init__(
        self, phase: int, first: int, num_ops: npt.NDArray[np.float64], cores: int
    ) -> None:
        self._phase, self._first, self._cores = phase, first, cores
        self._before = np.append(0, np.cumsum(num_ops))
        """Ops before each item."""
        self._head, self._tail = HEAD_WAVES * cores, len(num_ops) - TAIL_WAVES * cores

    def plan(self, share: float) -> list[Segment]:
        if self._tail <= self._head:
            return [self._whole(0, len(self._before) - 1)]
        runs, waves = self._runs(share)
        starts = self._starts(runs, waves)
        scheduled = runs * 2 * waves * self._cores
        if not starts or scheduled > MOST_SHARE * (self._tail - self._head):
            return [self._whole(0, len(self._before) - 1)]
        plan = [self._whole(0, self._head)]
        for start in starts:
            counted = start + waves * self._cores
            plan.append(self._segment(Kind.WARM_UP, start, counted))
            plan.append(self._segment(Kind.RUN, counted, counted + waves * self._cores))
        return [*plan, self._whole(self._tail, len(self._before) - 1)]

    def _runs(self, share: float) -> tuple[int, int]:
        """Return how many runs there are, and how many waves of each are counted.

        As many come before them to warm up: what decides how long that must be, such as how long
        an L2 remembers, grows with what is counted.
        """
        waves = share * (len(self._before) - 1) / self._cores - HEAD_WAVES - TAIL_WAVES
        runs = int(np.clip(waves // 4, FEWEST_RUNS, RUNS))
        return runs, max(1, int(waves // (2 * runs)))

    def _starts(self, runs: int, waves: int) -> list[int]:
        """Return where runs begin: one in each of as many stretches of equal work."""
        length, cores = 2 * waves * self._cores, self._cores
        inner = self._before[self._head : self._tail + 1]
        bounds = np.searchsorted(inner, np.linspace(inner[0], inner[-1], runs + 1))
        starts: list[int] = []
        earliest = self._head
        for run, (begin, end) in enumerate(itertools.pairwise(bounds)):
            room = max(0, int(end - begin) - length)
            start = self._head + int(begin) + int(room * (_SPREAD * (run + 1) % 1))
            # A core has the same place in every wave, which decides where items are placed.
            start = max(earliest, start - start % cores)
            if start + length > self._tail:
                break
            starts.append(start)
            earliest = start + length
        return starts if len(starts) >= min(runs, FEWEST_RUNS) else []

    def _whole(self, first: int, after: int) -> Segment:
        return self._segment(Kind.WHOLE, first, after)

    def _segment(self, kind: Kind, first: int, after: int) -> Segment:
        return Segment(kind, self._phase, self._first + first, self._first + after)
