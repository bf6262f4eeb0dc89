"""When the ops of one core happen, for all candidates at once, by the rules of the engine.

A unit runs its ops in their order; one waits for what other units did before with the tiles it
touches. Loads and stores go through queues with a limit of transfers under way, at the slower of
the rates of the queue and the memory. The core is alone here: what others take of the bandwidth is
a bound on whole items, because the waits of one are the work of another.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import DmaSpec, MachineSpec
from accelsim.program.ops import Unit

Cycles = npt.NDArray[np.float64]
Use = tuple[str, int]
"""A tile: the name of its buffer and the number of its use; slots are used in turn."""


class Supply(NamedTuple):
    """What the memory gives one core that asks alone; others only take bandwidth from it."""

    cycles_per_byte: float
    latency_cycles: Any
    """From the memory that serves, be it the L2 or what lies behind it."""
    port_latency_cycles: float
    """From the memory next to the core, which its queue is in step with."""
    begin_cycles: Any = 0.0
    """When it has served what other cores asked for at the same time, and before this one."""

    def behind(self, begin_cycles: Any) -> "Supply":
        """Return the same behind what others asked for before."""
        return self._replace(begin_cycles=begin_cycles)


class _Queue:
    """One DMA queue."""

    def __init__(self, queue: DmaSpec, supply: Supply) -> None:
        self.supply, self.bandwidth, self.in_flight = supply, queue.bandwidth, queue.in_flight
        self.requested: Any = 0.0
        self.served: Any = supply.begin_cycles
        self.passed: Any = 0.0
        self.ends: list[Any] = []

    def transfer(self, ready: Any, num_bytes: Any) -> Any:
        """Return when a transfer that may be requested at `ready` has ended."""
        if len(self.ends) >= self.in_flight:
            ready = np.maximum(ready, self.ends[-self.in_flight])
        self.requested = np.maximum(self.requested, ready)
        served = num_bytes * self.supply.cycles_per_byte
        self.served = np.maximum(self.served, self.requested) + served
        self.passed = np.maximum(self.passed, self.requested) + num_bytes / self.bandwidth
        arrival = self.served + self.supply.latency_cycles
        self.ends.append(np.maximum(arrival, self.passed + self.supply.port_latency_cycles))
        return self.ends[-1]


class Timeline:
    """One core. Times are cycles from the first claim, as arrays or as one number for all."""

    def __init__(self, machine: MachineSpec, supply: Supply, slots: dict[str, int]) -> None:
        """slots: of each buffer; 1 where it is not named."""
        self._slots, self._items_in_flight = slots, machine.items_in_flight
        self.waits = supply.begin_cycles
        """Before the memory begins with the first load."""
        self._latency = {
            Unit.CUBE: machine.cube.latency_cycles if machine.cube else 0,
            Unit.INT_MAC: machine.int_mac.pipeline_depth_cycles if machine.int_mac else 0,
            Unit.VECTOR: machine.vector.pipeline_depth_cycles,
            Unit.MOVE: 0,
        }
        self._free: dict[Unit, Any] = dict.fromkeys(self._latency, 0.0)
        # What is stored goes to the next memory, whether or not it had it before.
        stored = supply._replace(latency_cycles=supply.port_latency_cycles, begin_cycles=0.0)
        self._load, self._store = _Queue(machine.load, supply), _Queue(machine.store, stored)
        self._ends: dict[Use, dict[Unit, Any]] = {}
        """Last op of each unit on what lies in a slot."""
        self._writer: dict[Use, tuple[Unit, Any]] = {}
        self._claimed: Any = 0.0
        self.retired: Any = 0.0

    @property
    def last_request(self) -> Any:
        """When the last load was requested: then the core claims its next item."""
        return self._load.requested

    def free(self, unit: Unit) -> Any:
        """When a compute unit is done with what it was given."""
        return self._free[unit]

    def claim(self) -> None:
        """Begin the next work item; ops of the one before may still be under way."""
        is_overlapped = self._items_in_flight > 1
        self._claimed = self.last_request if is_overlapped else self.retired

    def run(self, unit: Unit, cycles: Any, reads: Iterable[Use], writes: Use) -> None:
        """Run one op of a compute unit."""
        start = np.maximum(self._ready(unit, reads, writes), self._free[unit])
        self._free[unit] = start + cycles
        self._note(unit, self._free[unit] + self._latency[unit], reads, writes)

    def load(self, num_bytes: Any, tile: Use) -> None:
        """Load a tile."""
        end = self._load.transfer(self._ready(Unit.LOAD, (), tile), num_bytes)
        self._note(Unit.LOAD, end, (), tile)

    def store(self, num_bytes: Any, tile: Use) -> None:
        """Store a tile."""
        end = self._store.transfer(self._ready(Unit.STORE, (tile,), None), num_bytes)
        self._note(Unit.STORE, end, (tile,), None)

    def _ready(self, unit: Unit, reads: Iterable[Use], writes: Use | None) -> Any:
        ready = self._claimed
        for tile in reads:
            writer, end = self._writer[self._slot(tile)]
            if writer != unit:
                ready = np.maximum(ready, end)
        if writes is not None:
            for other, end in self._ends.get(self._slot(writes), {}).items():
                if other != unit:
                    ready = np.maximum(ready, end)
        return ready

    def _note(self, unit: Unit, end: Any, reads: Iterable[Use], writes: Use | None) -> None:
        for tile in reads:
            self._ends[self._slot(tile)][unit] = end
        if writes is not None:
            self._ends[self._slot(writes)] = {unit: end}
            self._writer[self._slot(writes)] = (unit, end)
        self.retired = np.maximum(self.retired, end)

    def _slot(self, tile: Use) -> Use:
        name, use = tile
        return name, use % self._slots.get(name, 1)
