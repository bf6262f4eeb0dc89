"""When every op of a program happens, and what follows from it. Both engines return this."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from accelsim.program.activity import DramCommands, MemoryTraffic
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, UNIT_NAMES, B, C
from accelsim.program.program import Program
from accelsim.runtime.jit import jit

Cycles = npt.NDArray[np.int64]

NOT_STALLED = -1
NO_WORK = NUM_UNITS
"""Cause of a wait for the next work item to be claimed; causes below are units waited for."""
STALL_CAUSES = [*UNIT_NAMES, "no_work"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """Start and end of every op, in cycles, and the core of every work item.

    An op ends when other units may use its result. A DMA op starts when it is requested. `cause`
    says what a compute op waited for last, once its unit was free.
    """

    program: Program
    cores: int
    start: Cycles
    end: Cycles
    busy: Cycles
    """Cycles a compute op occupies its unit; 0 for DMA ops."""
    cause: npt.NDArray[np.int8]
    core: npt.NDArray[np.int64]
    """Core of every work item."""
    cycles: int
    """Length of the run: the last op has ended, and the HBM had the time for all of its bytes."""
    traffic: MemoryTraffic
    """Bytes over each level of the memory."""
    dram: DramCommands | None
    """What a banked memory did; None where the memory is flat."""

    @cached_property
    def op_core(self) -> Cycles:
        """Core of every op."""
        return np.repeat(self.core, np.diff(self.program.item_start))

    @cached_property
    def busy_by_core(self) -> Cycles:
        """Cycles [core, unit] in which a unit works; a DMA queue works while it has transfers."""
        return self._accounts[0]

    @cached_property
    def hbm_bytes_by_core(self) -> Cycles:
        """Bytes [core, unit] that the DMA queues moved."""
        return self._accounts[2]

    @cached_property
    def stalls(self) -> Cycles:
        """Cycles [unit, cause], over cores, that a compute unit was free but its next op waited."""
        return self._accounts[1]

    @cached_property
    def _accounts(self) -> tuple[Cycles, Cycles, Cycles]:
        result: tuple[Cycles, Cycles, Cycles] = _account(
            self.program.ops,
            self.program.units,
            self.op_core,
            self.start,
            self.end,
            self.busy,
            self.cause,
            self.cores,
        )
        return result


@jit
def _account(ops, units, cores, start, end, busy, cause, num_cores):
    work = np.zeros((num_cores, NUM_UNITS), np.int64)
    stalls = np.zeros((NUM_UNITS, NUM_UNITS + 1), np.int64)
    moved = np.zeros((num_cores, NUM_UNITS), np.int64)
    free = np.zeros((num_cores, NUM_UNITS), np.int64)
    for i in range(len(units)):
        unit, core = units[i], cores[i]
        if unit >= FIRST_MEMORY_UNIT:
            # Transfers overlap: count the union of their intervals, which are in order.
            work[core, unit] += end[i] - max(start[i], free[core, unit])
            free[core, unit] = end[i]
            moved[core, unit] += ops[i, B] * ops[i, C]
        else:
            work[core, unit] += busy[i]
            if cause[i] >= 0:
                stalls[unit, cause[i]] += start[i] - free[core, unit]
            free[core, unit] = start[i] + busy[i]
    return work, stalls, moved
