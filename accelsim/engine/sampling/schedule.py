"""The schedule of a program of which a sample is scheduled: estimates, and how far off they are.

One run goes through all segments of the plan, as if the items between them did not exist. So cores
stay out of phase, and the memory keeps what was there. docs/decisions/0055-sampled-programs.md.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from accelsim.engine.account import Accounts
from accelsim.engine.events import next_time
from accelsim.engine.hazards import NONE
from accelsim.engine.memory.door import Direct, Memory, refreshes_of
from accelsim.engine.sampling.estimate import Amounts, Estimate, Size, estimate
from accelsim.engine.sampling.items import num_ops_of, play
from accelsim.engine.sampling.marks import (
    Done,
    at_least_compulsory,
    commands_from,
    memory_amounts,
    scaled_commands,
    scaled_traffic,
    traffic_from,
)
from accelsim.engine.sampling.plan import Kind, Segment, plan_of
from accelsim.engine.schedule import Accounted
from accelsim.engine.window import Known, LongSchedule, Sums, Window, informed, requested_of
from accelsim.errors import SampleError
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.units.base import Counts
from accelsim.program.activity import MemoryTraffic
from accelsim.program.long import AnyProgram
from accelsim.program.program import Program

L2_TIME_BIAS = 0.01
"""Share of the cycles that half of their interval is at least behind an L2: the bias that was seen,
0.9 % at most, rounded up. Runs that all miss the same reuse agree with each other and are off."""
TIME_BIAS = 0.002
"""The same without an L2: 0.12 % at most was seen. Runs of equal items agree to the cycle, and what
cores do at the ends of a run is not quite what they do within the program."""


@dataclass(frozen=True, eq=False)
class SampledSchedule(LongSchedule):
    """What is estimated of a run from a sample of its items."""

    scheduled_ops: int
    """Ops that were scheduled, warm-ups included."""
    cycles_margin: int
    """Half of the interval of the cycles that has them in 95 of 100 cases."""
    hbm_bytes_margin: int | None
    """The same of the bytes over the HBM; None behind an L2, where a sample does not tell them."""

    @property
    def at_most(self) -> "SampledSchedule":
        """The same at the upper end of the intervals, of which none is left."""
        moved_bytes = self.traffic.hbm_read_bytes + self.traffic.hbm_write_bytes
        more = 1 + (self.hbm_bytes_margin or 0) / max(moved_bytes, 1)
        return replace(
            self,
            cycles=self.cycles + self.cycles_margin,
            traffic=scaled_traffic(self.traffic, more),
            dram=self.dram and scaled_commands(self.dram, more),
            cycles_margin=0,
            hbm_bytes_margin=0,
        )


def check_known_traffic(run: Accounted, machine: MachineSpec) -> None:
    """Refuse a sample that does not tell the traffic, of which the clock is; raises SampleError."""
    if isinstance(run, SampledSchedule) and run.hbm_bytes_margin is None:
        raise SampleError(
            f"sample: the power cap of {machine.name} lowers the clock, which follows from traffic "
            f"that a sample does not estimate behind an L2; allowed: never"
        )


def schedule(program: AnyProgram, machine: MachineSpec, share: float) -> SampledSchedule | None:
    """Return what a sample of so large a share of the ops says of a run.

    None where all would be scheduled. Raises DoesNotFitError.
    """
    num_ops = num_ops_of(program)
    plan = plan_of(num_ops, program.item_phase, machine.cores, share)
    if all(each.kind == Kind.WHOLE for each in plan):
        return None
    return schedule_by_plan(program, machine, plan, num_ops)


def schedule_by_plan(
    program: AnyProgram, machine: MachineSpec, plan: list[Segment], num_ops: Amounts
) -> SampledSchedule:
    """Return what the segments of a plan say of a run; num_ops: of every item."""

    def run(known: Known) -> "_SampledWindow":
        window = _SampledWindow(program, machine, known, plan)
        segments = [(each.first, each.after) for each in plan]
        play(program, window.take, known.piece_ops, segments)
        return window

    return _Estimator(informed(run), num_ops, program.item_phase, plan).schedule(program, machine)


class _SampledWindow(Window):
    """A window that notes what was done at the end of each segment."""

    def __init__(
        self, program: AnyProgram, machine: MachineSpec, known: Known, plan: list[Segment]
    ) -> None:
        super().__init__(program, machine, known)
        self._plan = plan
        self._ends = np.cumsum([each.after - each.first for each in plan])
        """Items that are there at the end of each segment, of all that are scheduled."""
        self._items_taken = self._items_dropped = self._ops_dropped = 0
        self._segment = 0
        self.moments: list[Done] = []
        """At the end of each segment."""
        self.ledgers: list[Amounts] = []
        """What the ledger has when the items of each segment have been added."""
        self.counted = np.zeros((len(plan), self._counts().size))
        """What is known of ops without their times, of each segment."""

    def take(self, piece: Program) -> None:
        """Schedule as far as the next items allow."""
        before = self._counts()
        super().take(piece)
        self.counted[self._segment] += self._counts() - before
        self._items_taken += piece.num_items
        if self._items_taken == self._ends[self._segment]:
            self.moments.append(self._done(next_time(self._state.events)))
            self._segment += 1

    def finish(self) -> None:
        """Schedule what is left."""
        memory = self._finish()
        items, ops = float(self._ends[-1]), float(self._num_ops)
        moved = memory_amounts(memory, self._machine, is_over=True)
        self.moments[-1] = Done(items, ops, np.append(self._last_end, moved))

    @property
    def memory(self) -> Memory:
        """The memory, which is there when a piece has been taken."""
        if self._memory is None:
            raise ValueError("nothing has been scheduled")
        return self._memory

    def _counts(self) -> Amounts:
        """Return bytes by tensor, read and written, and actions of all ops so far."""
        found: list[Any] = [self._moved.ravel(), self._actions.ravel(), [self._num_ops]]
        return np.concatenate(found).astype(np.float64)

    def _done(self, now: int) -> Done:
        """Return what is done by a cycle."""
        state = self._state
        items = state.items
        count = len(items)
        claimed = items.core != NONE
        has_ended = np.zeros(len(state.ops), bool)
        for first, end in zip(items.first_op[claimed], items.end_op[claimed], strict=True):
            own = state.ops.end[first:end]
            has_ended[first:end] = (own >= 0) & (own <= now)
        ended = np.append(0, np.cumsum(has_ended))
        per_item = ended[items.end_op] - ended[items.first_op]
        lengths = np.maximum(items.end_op - items.first_op, 1)
        share = per_item / lengths if count else np.zeros(0)
        return Done(
            self._items_dropped + float(share.sum()),
            self._ops_dropped + float(per_item.sum()),
            np.append(now, memory_amounts(self.memory, self._machine)),
        )

    def _account(self, first: int, after: int, now: int | None) -> None:
        """Add items to the sums, those of each segment apart."""
        while len(self.ledgers) < len(self._ends):
            end = int(self._ends[len(self.ledgers)]) - self._items_dropped
            if end > after:
                break
            cut = self._last_time() if now is None else now
            super()._account(first, end, cut if end < len(self._state.items) else None)
            self.ledgers.append(self._ledger_amounts())
            first = end
        if first < after:
            super()._account(first, after, now)

    def _last_time(self) -> int:
        return int(self._state.ops.end.max(initial=0))

    def _ledger_amounts(self) -> Amounts:
        busy, stalls, moved, _ = self._ledger.accounts
        return np.concatenate([busy.ravel(), stalls.ravel(), moved.ravel()]).astype(float)

    def _move(self, count: int) -> None:
        self._items_dropped += count
        self._ops_dropped += int(self._state.items.end_op[:count].max(initial=0))
        super()._move(count)


class _Estimator:
    """From what a sample took to what all items take."""

    def __init__(
        self, window: _SampledWindow, num_ops: Amounts, phases: Counts, plan: list[Segment]
    ) -> None:
        window.finish()
        self._window, self._plan = window, plan
        self._kinds = np.array([each.kind for each in plan])
        self._own = np.array([each.phase for each in plan])
        before = np.append(0, np.cumsum(num_ops))
        self._planned = Size(
            np.array([each.after - each.first for each in plan], float),
            window.counted[:, -1],
        )
        starts = np.flatnonzero(np.append(True, np.diff(phases) > 0))
        ends = np.append(starts[1:], len(phases))
        self._all = Size((ends - starts).astype(float), before[ends] - before[starts])
        """Of each phase."""

    def timed(self) -> Estimate:
        """Return cycles and what the memory did."""
        moments = self._window.moments
        ops = np.diff([0.0, *(each.ops for each in moments)])
        items = np.diff([0.0, *(each.items for each in moments)])
        none = np.zeros_like(moments[0].amounts)
        amounts = np.diff([none, *(each.amounts for each in moments)], axis=0)
        return self._total(amounts, Size(items, ops))

    def counted(self) -> Estimate:
        """Return what the ops are."""
        return self._total(self._window.counted, self._planned)

    def accounted(self) -> Estimate:
        """Return what their times add up to."""
        ledgers = self._window.ledgers
        amounts = np.diff([np.zeros_like(ledgers[0]), *ledgers], axis=0)
        return self._total(amounts, self._planned)

    def _total(self, amounts: Amounts, sizes: Size) -> Estimate:
        """Return the sums over all items; amounts: [segment, quantity]."""
        is_kept = self._kinds != Kind.WARM_UP
        total, variance = amounts[is_kept].sum(axis=0), np.zeros(amounts.shape[1])
        for phase in range(len(self._all.items)):
            runs = (self._own == phase) & (self._kinds == Kind.RUN)
            if not runs.any():
                continue
            left_out = self._left_out(phase, sizes)
            found = estimate(amounts[runs], Size(sizes.items[runs], sizes.ops[runs]), left_out)
            total = total + found.amounts
            variance = variance + found.margins**2
        return Estimate(total, np.sqrt(variance))

    def _left_out(self, phase: int, sizes: Size) -> Size:
        """Return how much of a phase was not counted."""
        own = self._own == phase
        warm_up = own & (self._kinds == Kind.WARM_UP)
        return Size(
            self._all.items[phase] - self._planned.items[own].sum() + sizes.items[warm_up].sum(),
            self._all.ops[phase] - self._planned.ops[own].sum() + sizes.ops[warm_up].sum(),
        )

    def schedule(self, program: AnyProgram, machine: MachineSpec) -> SampledSchedule:
        """Return the schedule that is estimated."""
        window, cores = self._window, machine.cores
        timed, counted, accounted = self.timed(), self.counted(), self.accounted()
        tensors = len(program.tensors)
        moved, actions, ops = np.split(counted.amounts, [2 * tensors, counted.amounts.size - 1])
        requested = requested_of(*np.rint(moved.reshape(2, tensors)).astype(np.int64))
        memory = window.memory
        if isinstance(memory, Direct):
            traffic = MemoryTraffic(
                hbm_read_bytes=requested.read_bytes,
                hbm_write_bytes=requested.write_bytes,
                hbm_bytes_by_tensor=requested.bytes_by_tensor,
            )
            hbm_margin, late = float(counted.margins[: 2 * tensors].sum()), 0.0
        else:
            traffic = traffic_from(timed.amounts[1:], tensors)
            if Kind.RUN in self._kinds:
                traffic = at_least_compulsory(traffic, program)
            hbm_margin = float(timed.margins[1:3].sum())
            late = hbm_margin / machine.hbm_bytes_per_cycle
        moved_bytes = traffic.hbm_read_bytes + traffic.hbm_write_bytes
        # Cores wait for bytes that the sample has not seen as often as the HBM is busy.
        late *= min(1.0, moved_bytes / machine.hbm_bytes_per_cycle / max(timed.amounts[0], 1.0))
        cycles = max(round(timed.amounts[0]), ceil(moved_bytes / machine.hbm_bytes_per_cycle))
        cycles_margin = ceil(timed.margins[0] + late)
        is_direct, is_whole = isinstance(memory, Direct), Kind.RUN not in self._kinds
        if not is_whole:
            bias = TIME_BIAS if is_direct else L2_TIME_BIAS
            cycles_margin = max(cycles_margin, ceil(bias * cycles))
        dram = None
        if isinstance(machine.hbm, BankedHbmSpec):
            refreshes = refreshes_of(machine.hbm, cycles / machine.clock)
            dram = commands_from(timed.amounts, refreshes)
        sums = Sums(self._accounts(accounted, cores), round(float(ops[0])), requested)
        return SampledSchedule(
            program,
            cores,
            sums,
            np.rint(actions).astype(np.int64).reshape(window._actions.shape),
            cycles,
            traffic,
            dram,
            scheduled_ops=window._num_ops,
            cycles_margin=cycles_margin,
            hbm_bytes_margin=ceil(hbm_margin) if is_direct or is_whole else None,
        )

    def _accounts(self, accounted: Estimate, cores: int) -> Accounts:
        busy, stalls, moved, held = self._window._ledger.accounts
        own = np.split(accounted.amounts, np.cumsum([busy.size, stalls.size]))
        shares = [np.rint(each).astype(np.int64) for each in own]
        by_core = []
        for whole, seen in ((shares[0], busy), (shares[2], moved)):
            totals = whole.reshape(seen.shape).sum(axis=0)
            # What was not scheduled is spread evenly: the ends of phases say how uneven cores are.
            rest = (totals - seen.sum(axis=0)) / cores
            by_core.append(np.rint(seen + rest).astype(np.int64))
        return Accounts(by_core[0], shares[1].reshape(stalls.shape), by_core[1], held)
