"""When the ops of one core happen, for all candidates at once, by the rules of the engine.

A unit runs its ops in their order; one waits for what other units did before with the tiles it
touches. Loads and stores go through queues with a limit of transfers under way, at the slower of the
queue's rate and the core's share of the memory.
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
    """What the memory gives one core while all that have work ask for the same."""

    cycles_per_byte: Any
    latency_cycles: Any
    """From the memory that serves, be it the L2 or what lies behind it."""
    port_latency_cycles: Any
    """From the memory next to the core, which its queue is in step with."""


class _Queue:
    """One DMA queue."""

    def __init__(self, queue: DmaSpec, supply: Supply) -> None:
        self.supply, self.bandwidth, self.in_flight = supply, queue.bandwidth, queue.in_flight
        self.requested: Any = 0.0
        self.served: Any = 0.0
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

    def __init__(self, machine: MachineSpec, supply: Supply, slots: dict[str, Any]) -> None:
        """slots: of each buffer, a number or one for each candidate; 1 where it is not named."""
        self._slots, self._items_in_flight = slots, machine.items_in_flight
        self._latency = {
            Unit.CUBE: machine.cube.latency_cycles if machine.cube else 0,
            Unit.INT_MAC: machine.int_mac.pipeline_depth_cycles if machine.int_mac else 0,
            Unit.VECTOR: machine.vector.pipeline_depth_cycles,
            Unit.MOVE: 0,
        }
        self._free: dict[Unit, Any] = dict.fromkeys(self._latency, 0.0)
        self._load, self._store = _Queue(machine.load, supply), _Queue(machine.store, supply)
        self._ends: dict[Use, dict[Unit, Any]] = {}
        """Last op of each unit on a tile."""
        self._writer: dict[Use, Unit] = {}
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
            writer = self._writer.get(tile, unit)
            if writer != unit:
                ready = np.maximum(ready, self._ends[tile][writer])
        for own in () if writes is None else self._touched(writes):
            for other, end in own.items():
                if other != unit:
                    ready = np.maximum(ready, end)
        return ready

    def _touched(self, tile: Use) -> list[dict[Unit, Any]]:
        """What was done with a tile, and with what lay in its slot before."""
        name, use = tile
        slots = self._slots.get(name, 1)
        if isinstance(slots, int):
            return [self._ends.get((name, use), {}), self._ends.get((name, use - slots), {})]
        return [self._ends.get(tile, {}), self._before(name, use, slots)]

    def _before(self, name: str, use: int, slots: Any) -> dict[Unit, Any]:
        """Ends of the use `slots` before, which is another one for each candidate."""
        found: dict[Unit, Any] = {}
        for count in np.unique(slots):
            for unit, end in self._ends.get((name, use - int(count)), {}).items():
                found[unit] = np.where(slots == count, end, found.get(unit, 0.0))
        return found

    def _note(self, unit: Unit, end: Any, reads: Iterable[Use], writes: Use | None) -> None:
        for tile in reads:
            self._ends.setdefault(tile, {})[unit] = end
        if writes is not None:
            self._ends.setdefault(writes, {})[unit] = end
            self._writer[writes] = unit
        self.retired = np.maximum(self.retired, end)
