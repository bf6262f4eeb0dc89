"""When every op of a program happens, and what follows from it. Both engines return this."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.engine.account import Accounts, Ledger, Run
from accelsim.hardware.units.base import Counts
from accelsim.program.activity import DramCommands, MemoryTraffic
from accelsim.program.long import AnyProgram
from accelsim.program.ops import NUM_UNITS, UNIT_NAMES
from accelsim.program.program import Program
from accelsim.program.totals import Requested

Cycles = npt.NDArray[np.int64]


def record(*fields: tuple[str, type]) -> np.dtype[Any]:
    """Return the type of records whose fields are attributes, without the compiler too."""
    return np.dtype((np.record, np.dtype(list(fields), align=True)))


TIMES = record(
    ("start", np.int64),
    ("end", np.int64),
    ("busy", np.int64),
    ("successor", np.int32),  # next op of the same unit and core; for engines alone
    ("work_item", np.int32),
    ("unit", np.int8),
    ("cause", np.int8),
)
"""What is found of an op."""
NOT_STALLED = -1
NO_WORK = NUM_UNITS
"""Cause of a wait for the next work item to be claimed; causes below are units waited for."""
STALL_CAUSES = [*UNIT_NAMES, "no_work"]


class Accounted:
    """What reports need of a run: sums over its ops."""

    cores: int
    program: AnyProgram
    actions: Counts
    """What the units did, see `UnitModel.count`."""
    cycles: int
    """Length of the run: the last op has ended, and the HBM had the time for all of its bytes."""
    traffic: MemoryTraffic
    """Bytes over each level of the memory."""
    dram: DramCommands | None
    """What a banked memory did; None where the memory is flat."""

    @property
    def accounts(self) -> Accounts:
        """What one walk over all ops finds."""
        raise NotImplementedError

    @property
    def num_ops(self) -> int:
        """Ops of the program."""
        raise NotImplementedError

    @property
    def requested(self) -> Requested:
        """Bytes that its transfers asked for."""
        raise NotImplementedError

    @property
    def busy_by_core(self) -> Cycles:
        """Cycles [core, unit] in which a unit works; a DMA queue works while it has transfers."""
        return self.accounts.busy

    @property
    def hbm_bytes_by_core(self) -> Cycles:
        """Bytes [core, unit] that the DMA queues moved."""
        return self.accounts.moved_bytes

    @property
    def stalls(self) -> Cycles:
        """Cycles [unit, cause], over cores, that a compute unit was free but its next op waited."""
        return self.accounts.stalls

    @property
    def scratchpad_held_peak_bytes(self) -> int:
        """Most bytes of the scratchpad that are in use at once on any core."""
        return self.accounts.held_peak_bytes


@dataclass(frozen=True, eq=False)
class Schedule(Accounted):
    """Start and end of every op, in cycles, and the core of every work item.

    An op ends when other units may use its result. A DMA op starts when it is requested. `cause`
    says what a compute op waited for last, once its unit was free.
    """

    program: Program
    cores: int
    times: np.recarray
    """Records of every op, see `TIMES`."""
    actions: Counts
    """What the units did, see `UnitModel.count`."""
    core: npt.NDArray[np.int64]
    """Core of every work item."""
    cycles: int
    """Length of the run: the last op has ended, and the HBM had the time for all of its bytes."""
    traffic: MemoryTraffic
    """Bytes over each level of the memory."""
    dram: DramCommands | None
    """What a banked memory did; None where the memory is flat."""

    @property
    def start(self) -> Cycles:
        """Cycle at which every op starts."""
        return self.times.start

    @property
    def end(self) -> Cycles:
        """Cycle at which every op ends."""
        return self.times.end

    @property
    def busy(self) -> Cycles:
        """Cycles a compute op occupies its unit; 0 for DMA ops."""
        return self.times.busy

    @property
    def cause(self) -> npt.NDArray[np.int8]:
        """What every compute op waited for last."""
        return self.times.cause

    @cached_property
    def op_core(self) -> Cycles:
        """Core of every op."""
        return np.repeat(self.core, np.diff(self.program.item_start))

    @cached_property
    def items_by_core(self) -> tuple[Cycles, Cycles]:
        """Items of one core after the other, and where those of each core begin."""
        return items_by_core(self.core, self.cores)

    @property
    def num_ops(self) -> int:
        """Ops of the program."""
        return self.program.num_ops

    @property
    def requested(self) -> Requested:
        """Bytes that its transfers asked for."""
        return self.program.totals.requested

    @cached_property
    def accounts(self) -> Accounts:
        """What one walk over all ops finds."""
        ledger = Ledger(self.program, self.cores)
        ledger.add(Run(self.program.ops, self.times, self.program.item_start, *self.items_by_core))
        return ledger.accounts


def items_by_core(core: Cycles, cores: int) -> tuple[Cycles, Cycles]:
    """Return the items of one core after the other, and where those of each begin.

    core: [item]. Items are claimed in program order on every core.
    """
    first = np.append(0, np.cumsum(np.bincount(core, minlength=cores)))
    return np.argsort(core, kind="stable"), first
