"""When the ops of one core happen, for all candidates at once, by the rules of the engine.

A unit runs its ops in their order; one waits for what other units did before with the tiles it
touches. Loads and stores go through queues with a limit of transfers under way, at the slower of
the rates of the queue and the memory. The core is alone here: what others take of the bandwidth is
a bound on whole items, because the waits of one are the work of another.
"""

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import DmaSpec, MachineSpec
from accelsim.kernels.estimate.order import Use, order_of_none
from accelsim.program.ops import Unit

Cycles = npt.NDArray[np.float64]


class Supply(NamedTuple):
    """What the memory gives one core that asks alone; others only take bandwidth from it."""

    cycles_per_byte: float
    latency_cycles: Any
    """From the memory that serves, be it the L2 or what lies behind it."""
    port_latency_cycles: float
    """From the memory next to the core, which its queue is in step with."""
    begin_cycles: Any = 0.0
    """When it has served what other cores asked for at the same time, and before this one."""


class _Queue:
    """One DMA queue."""

    def __init__(self, queue: DmaSpec, supply: Supply) -> None:
        self.supply, self.bandwidth, self.in_flight = supply, queue.bandwidth, queue.in_flight
        self.requested: Any = 0.0
        self.served: Any = supply.begin_cycles
        self.passed: Any = 0.0
        self.ends: list[Any] = []

    def transfer(self, waits: list[Any], num_bytes: Any) -> Any:
        """Return when a transfer has ended that may be requested once all `waits` have passed."""
        if len(self.ends) >= self.in_flight:
            waits.append(self.ends[-self.in_flight])
        self.requested = reduce(np.maximum, waits, self.requested)
        served = num_bytes * self.supply.cycles_per_byte
        self.served = np.maximum(self.served, self.requested) + served
        self.passed = np.maximum(self.passed, self.requested) + num_bytes / self.bandwidth
        arrival = self.served + self.supply.latency_cycles
        self.ends.append(np.maximum(arrival, self.passed + self.supply.port_latency_cycles))
        return self.ends[-1]


class Timeline:
    """One core. Times are cycles from the first claim, as arrays or as one number for all."""

    def __init__(
        self, machine: MachineSpec, supply: Supply, *slots: dict[str, int], layout: Any = 0
    ) -> None:
        """slots: of each buffer, 1 where it is not named, in one or several layouts.

        layout: which of them candidates have, as an array if there are several.
        """
        self._layout, self._items_in_flight = layout, machine.items_in_flight
        self.waits = supply.begin_cycles
        """Before the memory begins with the first load."""
        self._latency = {
            Unit.CUBE: machine.cube.latency_cycles if machine.cube else 0,
            Unit.INT_MAC: machine.int_mac.pipeline_depth_cycles if machine.int_mac else 0,
            Unit.VECTOR: machine.vector.pipeline_depth_cycles,
            Unit.MOVE: 0,
        }
        # What is stored goes to the next memory, whether or not it had it before.
        stored = supply._replace(latency_cycles=supply.port_latency_cycles, begin_cycles=0.0)
        self._load, self._store = _Queue(machine.load, supply), _Queue(machine.store, stored)
        self._order = order_of_none(*(tuple(each.items()) for each in slots))
        self._free: dict[Unit, Any] = {}
        self._ends: list[Any] = []
        """Of each op."""
        self._claimed: Any = 0.0

    @property
    def last_request(self) -> Any:
        """When the last load was requested: then the core claims its next item."""
        return self._load.requested

    @property
    def retired(self) -> Any:
        """When everything has ended."""
        return reduce(np.maximum, [self._ends[last] for last in self._order.last.values()])

    def free(self, unit: Unit) -> Any:
        """When a compute unit is done with what it was given."""
        return self._free[unit]

    def claim(self) -> None:
        """Begin the next work item; ops of the one before may still be under way."""
        if self._ends:
            is_overlapped = self._items_in_flight > 1
            self._claimed = self.last_request if is_overlapped else self.retired
        self._order = self._order.then_claim()

    def run(self, unit: Unit, cycles: Any, reads: tuple[Use, ...], writes: Use) -> None:
        """Run one op of a compute unit."""
        waits = self._waits(unit, reads, writes)
        if unit in self._free:
            waits.append(self._free[unit])
        self._free[unit] = end = reduce(np.maximum, waits) + cycles
        latency = self._latency[unit]
        self._ends.append(end + latency if latency else end)

    def load(self, num_bytes: Any, tile: Use) -> None:
        """Load a tile."""
        self._ends.append(self._load.transfer(self._waits(Unit.LOAD, (), tile), num_bytes))

    def store(self, num_bytes: Any, tile: Use) -> None:
        """Store a tile."""
        self._ends.append(self._store.transfer(self._waits(Unit.STORE, (tile,), None), num_bytes))

    def _waits(self, unit: Unit, reads: tuple[Use, ...], writes: Use | None) -> list[Any]:
        """Return what the next op waits for, but its own unit."""
        self._order = order = self._order.then(unit, reads, writes)
        if len(order.waits) == 1:
            waits = [self._ends[number] for number in order.waits[0]]
            return [self._claimed, *waits] if order.awaits_claim else waits
        by_layout = ([self._ends[number] for number in numbers] for numbers in order.waits)
        latest = [reduce(np.maximum, each, self._claimed) for each in by_layout]
        return [np.choose(self._layout, latest)]
