"""When every op of a run started and ended, for traces and figures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    """Bytes the op moved between HBM and the core; 0 for compute."""
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

    @property
    def cycles(self) -> int:
        """End of the last op, in cycles."""
        return int(self.end_cycle.max(initial=0))

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

        The bytes of an op are spread evenly over its cycles, so the sum of rate x interval is
        exactly what the ops moved.
        """
        edges = np.linspace(0.0, max(self.cycles, 1), bins + 1)
        moved = np.diff(self._bytes_before(edges))
        return edges[:-1], moved / np.diff(edges) * self.clock_hz

    def _bytes_before(self, cycles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the HBM bytes of all cores moved before each of the ascending `cycles`."""
        moving = self.hbm_bytes > 0
        start, size = self.start_cycle[moving], self.hbm_bytes[moving]
        rate = size / np.maximum(self.end_cycle[moving] - start, 1)
        end = np.maximum(self.end_cycle[moving], start + 1)
        # The total is piecewise linear: its slope rises where an op starts and falls at its end.
        knots = np.concatenate([start, end])
        order = np.argsort(knots, kind="stable")
        slopes = np.cumsum(np.concatenate([rate, -rate])[order])
        knots = knots[order].astype(np.float64)
        totals = np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(knots))])
        return np.interp(cycles, knots, totals, left=0.0) if knots.size else np.zeros_like(cycles)
