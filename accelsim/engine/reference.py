"""The reference engine: SimPy processes that define what the time of a program means.

- A core holds up to `items_in_flight` work items. It claims the next one, of its own list (static
  placement) or of all (greedy), once its load queue has requested every transfer it has and, if it
  holds as many as it can, the oldest has retired; at the earliest in the cycle after its last claim
  or load request. Items of a phase wait until all earlier phases have retired, and then a launch.
- The ops of an item enter the queues of their units in program order. A unit runs its queue in
  order; an op waits for earlier ops of other units on the same core that touch the same tiles:
  reads for the last write, writes for the last write and all reads since.
- A compute unit is occupied for the op's busy cycles, and others see the result a pipeline depth
  later. It sees its own results at once.
- A DMA queue keeps several transfers outstanding and retires them in order. A transfer has ended
  a latency after the memory and the port of its queue, in the order of requests, have served it.
- What happens at the same cycle is ordered by claims before transfers, then core, then unit.

`accelsim.engine.compiled` gives the same cycles faster.
"""

from collections.abc import Generator
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np
import simpy
from simpy.core import NORMAL

from accelsim.engine.durations import latency_cycles, launches_of, work_of
from accelsim.engine.memory.door import ended, new_memory, request
from accelsim.engine.schedule import NO_WORK, NOT_STALLED, TIMES, Schedule
from accelsim.engine.subcycles import SUBCYCLES, service_rate, service_subcycles
from accelsim.hardware.machine import MachineSpec
from accelsim.program.long import AnyProgram, held
from accelsim.program.ops import FIRST_MEMORY_UNIT, Unit
from accelsim.program.program import OpRecord, Program
from accelsim.program.transfer import row_pitches, transfer_of

_CLAIM, _TRANSFER = range(2)
_AFTER_ALL_ELSE = NORMAL + 1

Process = Generator[simpy.Event, Any, None]


def schedule(program: AnyProgram, machine: MachineSpec) -> Schedule:
    """Return when every op of `program` happens on `machine`; raises DoesNotFitError."""
    simulation = _Simulation(held(program, "the reference engine"), machine)
    simulation.env.run()
    return simulation.schedule


class _Turn(simpy.Event):  # type: ignore[misc]
    """Happens now, after everything else of this cycle."""

    def __init__(self, env: simpy.Environment) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        env.schedule(self, priority=_AFTER_ALL_ELSE)


class _Arbiter:
    """Grants what competes within a cycle one by one, in the order of (kind, core, unit)."""

    def __init__(self, env: simpy.Environment) -> None:
        self.env = env
        self._waiting: list[tuple[int, int, int, int, simpy.Event]] = []
        self._arrivals = count()

    def turn(self, kind: int, core: int, unit: int = 0) -> simpy.Event:
        """Return the event of being next."""
        event = self.env.event()
        heappush(self._waiting, (kind, core, unit, next(self._arrivals), event))
        self._call()
        return event

    def _call(self) -> None:
        _Turn(self.env).callbacks.append(self._grant)

    def _grant(self, _: simpy.Event) -> None:
        if self._waiting:
            heappop(self._waiting)[-1].succeed()


class _Core:
    """What a core holds: its queues, its items, and the ops that touched its tiles last."""

    def __init__(self, env: simpy.Environment, index: int) -> None:
        self.index = index
        self.queues = {unit: simpy.Store(env) for unit in Unit}
        self.items: list[int] = []
        self.gate = -1
        self.loads_to_request = 0
        self.all_loads_requested = env.event().succeed()
        self.last_write: dict[int, OpRecord] = {}
        self.reads_since: dict[int, list[OpRecord]] = {}

    def conflicts(self, op: OpRecord) -> list[int]:
        """Note what `op` touches and return the earlier ops it must wait for."""
        found = [self.last_write[slot] for slot in op.reads if slot in self.last_write]
        for slot in op.reads:
            self.reads_since.setdefault(slot, []).append(op)
        for slot in op.writes:
            found += [self.last_write[slot]] if slot in self.last_write else []
            found += self.reads_since.pop(slot, [])
            self.last_write[slot] = op
        return sorted({other.index for other in found if other.unit != op.unit})


class _Simulation:
    """All processes of one run and the times they find."""

    def __init__(self, program: Program, machine: MachineSpec) -> None:
        self.env = simpy.Environment()
        self.program, self.machine = program, machine
        self.memory = new_memory(machine, program)
        self.pitches = row_pitches(program)
        self.arbiter = _Arbiter(self.env)
        self.latency = latency_cycles(machine)
        self.launches = launches_of(program, machine)
        self.times = np.zeros(program.num_ops, TIMES).view(np.recarray)
        self.times.unit, self.times.cause = program.units, NOT_STALLED
        self.times.busy, self.actions, _ = work_of(program, machine)
        times = self.times
        self.start, self.end, self.busy, self.cause = (
            times.start,
            times.end,
            times.busy,
            times.cause,
        )
        self.item_core = np.full(program.num_items, -1, np.int64)
        self.done = [self.env.event() for _ in range(program.num_ops)]
        self.retired = [self.env.event() for _ in range(program.num_items)]
        self.next_item = 0
        self.openings: list[simpy.Process] = []
        for phase in range(int(program.item_phase.max(initial=0)) + 1):
            self.openings.append(self.env.process(self._opening(phase)))
        for index in range(machine.cores):
            core = _Core(self.env, index)
            self.env.process(self._claim_items(core))
            for unit in Unit:
                run = self._compute if unit < FIRST_MEMORY_UNIT else self._transfer
                self.env.process(run(core, unit))

    @property
    def schedule(self) -> Schedule:
        """The times found; complete when the run is."""
        return Schedule(
            self.program,
            self.machine.cores,
            self.times,
            self.actions,
            self.item_core,
            *ended(
                self.memory,
                self.program.totals.requested,
                self.machine,
                int(self.end.max(initial=0)),
            ),
        )

    def _opening(self, phase: int) -> Process:
        """Ends when items of the phase can be claimed: a launch after earlier ones have retired."""
        phases = self.program.item_phase
        if phase > 0:
            yield self.openings[phase - 1]
            earlier = np.flatnonzero(phases == phase - 1)
            yield self.env.all_of([self.retired[item] for item in earlier])
        if len(self.launches):
            yield self.env.timeout(int(self.launches[phase]))

    def _claim_items(self, core: _Core) -> Process:
        limit = self.machine.items_in_flight
        while (item := self._upcoming(core)) is not None:
            yield core.all_loads_requested
            if self.env.now <= core.gate:
                yield self.env.timeout(core.gate + 1 - self.env.now)
            if len(core.items) >= limit:
                yield self.retired[core.items[-limit]]
            phase = self.program.item_phase[item]
            yield self.openings[phase]
            yield self.arbiter.turn(_CLAIM, core.index)
            # Another core may have taken the item, and the one after it may be of a later phase.
            item = self._upcoming(core)
            if item is not None and self.program.item_phase[item] == phase:
                self._claim(core, item)

    def _upcoming(self, core: _Core) -> int | None:
        is_static = self.machine.placement == "static"
        own = len(core.items) * self.machine.cores + core.index
        item = own if is_static else self.next_item
        return item if item < self.program.num_items else None

    def _claim(self, core: _Core, item: int) -> None:
        self.next_item += 1
        self.item_core[item] = core.index
        core.items.append(item)
        core.gate = self.env.now
        first, end = self.program.item_start[item : item + 2]
        ops = [self.program.decode(index) for index in range(first, end)]
        core.loads_to_request = sum(op.unit == Unit.LOAD for op in ops)
        if core.loads_to_request:
            core.all_loads_requested = self.env.event()
        for op in ops:
            core.queues[op.unit].put((op, self.env.now, core.conflicts(op)))
        self.env.process(self._retire(item, [self.done[op.index] for op in ops]))

    def _retire(self, item: int, done: list[simpy.Event]) -> Process:
        yield self.env.all_of(done)
        self.retired[item].succeed()

    def _compute(self, core: _Core, unit: Unit) -> Process:
        while True:
            free = self.env.now
            op, claimed_at, conflicts = yield core.queues[unit].get()
            for other in conflicts:
                yield self.done[other]
            self.start[op.index] = self.env.now
            self.cause[op.index] = self._cause(free, claimed_at, conflicts)
            yield self.env.timeout(self.busy[op.index])
            self._finish(op, self.env.now + self.latency[unit])

    def _cause(self, free: int, claimed_at: int, conflicts: list[int]) -> int:
        """What the last wait was for; the lower unit if two ended together."""
        latest, cause = free, NOT_STALLED
        if claimed_at > latest:
            latest, cause = claimed_at, NO_WORK
        for other in sorted(conflicts, key=lambda other: self.program.units[other]):
            if self.end[other] > latest:
                latest, cause = self.end[other], int(self.program.units[other])
        return cause

    def _transfer(self, core: _Core, unit: Unit) -> Process:
        queue = self.machine.queues[unit]
        requested: list[OpRecord] = []
        port_free = 0
        while True:
            op, _, conflicts = yield core.queues[unit].get()
            for other in conflicts:
                yield self.done[other]
            if len(requested) >= queue.in_flight:
                yield self.done[requested[-queue.in_flight].index]
            yield self.arbiter.turn(_TRANSFER, core.index, unit)
            transfer = transfer_of(self.program.ops, op.index, self.pitches)
            num_bytes = transfer.rows * transfer.row_bytes
            port_free = max(port_free, self.env.now * SUBCYCLES)
            port_free += service_subcycles(num_bytes, service_rate(queue.bandwidth))
            through_port = -(-port_free // SUBCYCLES) + self.memory.latency_cycles
            end = max(request(self.memory, self.env.now, transfer), through_port)
            if requested:
                end = max(end, self.end[requested[-1].index])
            requested.append(op)
            self.start[op.index] = self.env.now
            self._finish(op, end)
            if unit == Unit.LOAD:
                self._note_load(core)

    def _note_load(self, core: _Core) -> None:
        core.gate = self.env.now
        core.loads_to_request -= 1
        if core.loads_to_request == 0:
            core.all_loads_requested.succeed()

    def _finish(self, op: OpRecord, end: int) -> None:
        self.end[op.index] = end
        finished = self.env.timeout(end - self.env.now)
        finished.callbacks.append(lambda _: self.done[op.index].succeed())
