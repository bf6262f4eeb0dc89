"""When every op of a run started and ended, for traces and figures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Integers = NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One row per op, in columns of equal length, and the scratchpad use as a step function.

    The ops may stand in any order. `scratchpad_*` hold one row per change of one core's use, in
    order of time; between two changes the use is constant.
    """

    core: Integers
    """Core that ran the op, from 0."""
    unit: Integers
    """Index into `unit_names`."""
    name_index: Integers
    """Index into `names`."""
    start_cycle: Integers
    """First cycle of the op."""
    end_cycle: Integers
    """Cycle after the last one of the op; never before `start_cycle`."""
    hbm_bytes: Integers
    """Bytes that the HBM read or wrote because of the op; 0 for compute."""
    names: list[str]
    """Names of ops, such as `load k` or `matmul`."""
    unit_names: list[str]
    """Names of the units of a core, in the order of their lanes."""
    clock_hz: float
    """Cycles per second."""
    scratchpad_core: Integers
    """Core whose scratchpad use changed."""
    scratchpad_cycle: Integers
    """Cycle of the change."""
    scratchpad_bytes: Integers
    """Bytes in use from that cycle on."""
    moved_bytes: Integers
    """Bytes that the op moved to or from its core, from an L2 or the HBM; 0 for compute."""
    cycles: int
    """Length of the run, at least to the end of the last op."""
    hbm_bytes_at_end: int
    """Bytes of the HBM that belong to no op: what an L2 still holds and has to write."""
    peak_hbm_bytes_per_s: float
    """Peak rate of the HBM."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What was run: machine, workload, kernel, settings and parameters."""

    def first_ops(self, count: int, core: int = 0) -> "pd.DataFrame":
        """Return the `count` ops of `core` that start first, as a table for figures.

        Columns: core, unit, name, start_cycle, end_cycle, hbm_bytes, clock_hz.
        """
        import pandas as pd

        ops = np.flatnonzero(self.core == core)
        ops = ops[np.argsort(self.start_cycle[ops], kind="stable")][:count]
        return pd.DataFrame(
            {
                "core": self.core[ops],
                "unit": [self.unit_names[index] for index in self.unit[ops]],
                "name": [self.names[index] for index in self.name_index[ops]],
                "start_cycle": self.start_cycle[ops],
                "end_cycle": self.end_cycle[ops],
                "hbm_bytes": self.hbm_bytes[ops],
                "clock_hz": self.clock_hz,
            }
        )

    def hbm_bytes_per_s(self, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the first cycle of each of `bins` equal intervals and the mean rate within it.

        The memory serves what was requested at its peak rate until nothing is left, and what no op
        waits for at the latest when the run ends. So no rate is above the peak, and the sum of
        rate x interval is what the run moved.
        """
        edges = np.linspace(0.0, max(self.cycles, 1), bins + 1)
        moved = np.diff(self._served_before(edges))
        # Differences of large sums round, so a bin at the peak may come out above it.
        rates = np.minimum(moved / np.diff(edges) * self.clock_hz, self.peak_hbm_bytes_per_s)
        return edges[:-1], rates

    def _served_before(self, cycles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the bytes served before each of the ascending `cycles`, the last being the end."""
        peak = self.peak_hbm_bytes_per_s / self.clock_hz
        moving = self.hbm_bytes > 0
        order = np.argsort(self.start_cycle[moving], kind="stable")
        start, size = self.start_cycle[moving][order], self.hbm_bytes[moving][order]
        requested = np.concatenate([[0.0], np.cumsum(size)])
        # A server that is never idle with work has served the least of: all that was requested
        # before some request, and from there on its peak.
        lowest = np.minimum.accumulate(requested[:-1] - peak * start)
        count = np.searchsorted(start, cycles, side="right")
        busy = np.concatenate([[0.0], lowest])[count] + peak * cycles
        served = np.where(count > 0, np.minimum(requested[count], busy), 0.0)
        left = peak * (cycles[-1] - cycles)
        latest = requested[-1] + self.hbm_bytes_at_end - left
        return np.asarray(np.maximum(served, latest), np.float64)


def in_a_row(named: Sequence[tuple[str, Timeline]], about: Mapping[str, Any]) -> Timeline:
    """Return the timeline of runs that follow one another on one machine at one clock.

    named: at least one run, in order, with what it is called: names of its ops begin with its
    number and name. What a run leaves in an L2 counts for the end of all.
    """
    runs = [run for _, run in named]
    first = runs[0]
    begins = [0, *accumulate(run.cycles for run in runs)]
    name_begins = [0, *accumulate(len(run.names) for run in runs)]
    units = list(dict.fromkeys(name for run in runs for name in run.unit_names))

    def joined(name: str, begins: Iterable[int] | None = None) -> Integers:
        columns = [getattr(run, name) for run in runs]
        shifts = begins or [0] * len(runs)
        return np.concatenate([column + by for column, by in zip(columns, shifts, strict=False)])

    return Timeline(
        core=joined("core"),
        unit=np.concatenate(
            [np.array([units.index(each) for each in run.unit_names])[run.unit] for run in runs]
        ),
        name_index=joined("name_index", name_begins),
        start_cycle=joined("start_cycle", begins),
        end_cycle=joined("end_cycle", begins),
        hbm_bytes=joined("hbm_bytes"),
        names=[f"{at}.{name}: {op}" for at, (name, run) in enumerate(named) for op in run.names],
        unit_names=units,
        clock_hz=first.clock_hz,
        scratchpad_core=joined("scratchpad_core"),
        scratchpad_cycle=joined("scratchpad_cycle", begins),
        scratchpad_bytes=joined("scratchpad_bytes"),
        moved_bytes=joined("moved_bytes"),
        cycles=begins[-1],
        hbm_bytes_at_end=sum(run.hbm_bytes_at_end for run in runs),
        peak_hbm_bytes_per_s=first.peak_hbm_bytes_per_s,
        about=about,
    )
