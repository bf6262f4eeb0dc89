"""When the ops of one core happen, for all candidates at once, by the rules of the engine.

A unit runs its ops in their order; one waits for what other units did before with the tiles it
touches. Loads and stores go through queues with a limit of transfers under way, at the slower of
the rates of the queue and the memory. The core is alone here: what others take of the bandwidth is
a bound on whole items, because the waits of one are the work of another.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.order import (
    CLAIM,
    COST,
    KIND,
    NOTE_FREE,
    NOTE_REQUEST,
    WAITS,
    Orders,
)
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, Unit
from accelsim.runtime.jit import jit, jit_inline

Cycles = npt.NDArray[np.float64]

_TOGETHER = 64
"""Candidates that are followed together: their times stay near the core that computes them."""


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


class _Core(NamedTuple):
    """What compiled code needs of a machine and its memory; of both queues, that of loads first."""

    latency: Cycles
    """Of every compute unit."""
    bandwidth: Cycles
    in_flight: npt.NDArray[np.int64]
    is_overlapped: bool
    """Whether an item is claimed before the one before has ended."""
    cycles_per_byte: float
    port_latency: float


class _Group(NamedTuple):
    """Candidates of one order that are followed together, and what is known of them."""

    own: npt.NDArray[np.int64]
    """Their numbers."""
    now: Cycles
    """Times at the op at hand; rows are those below."""
    ends: Cycles
    """Of every row of the order."""
    transfers: npt.NDArray[np.int64]
    """Rows of the transfers of both queues so far."""
    begun: npt.NDArray[np.int64]
    """How many these are."""


_CLAIMED, _RETIRED = 0, 1
_REQUESTED, _SERVED, _PASSED, _LATENCY = 2, 4, 6, 8
"""Of the queue of loads; the next row is that of stores."""
_FREE = 10
"""Of the first unit."""


def follow(
    orders: Orders, which: Any, machine: MachineSpec, supply: Supply, costs: Sequence[Any]
) -> Cycles:
    """Return what the orders note, [notes, candidates]: cycles from the first claim.

    which: the order of every candidate. costs: cycles or bytes, a number or an array for each.
    """
    matrix = np.empty((len(costs) + 2, len(which)))
    for row, cost in zip(
        matrix, (*costs, supply.begin_cycles, supply.latency_cycles), strict=True
    ):
        row[:] = cost
    return np.asarray(_follow(*orders, which, _core_of(machine, supply), matrix))


def _core_of(machine: MachineSpec, supply: Supply) -> _Core:
    latency = np.zeros(FIRST_MEMORY_UNIT)
    latency[Unit.CUBE] = machine.cube.latency_cycles if machine.cube else 0
    latency[Unit.INT_MAC] = machine.int_mac.pipeline_depth_cycles if machine.int_mac else 0
    latency[Unit.VECTOR] = machine.vector.pipeline_depth_cycles
    queues = machine.load, machine.store
    return _Core(
        latency,
        np.array([float(queue.bandwidth) for queue in queues]),
        np.array([queue.in_flight for queue in queues]),
        machine.items_in_flight > 1,
        float(supply.cycles_per_byte),
        float(supply.port_latency_cycles),
    )


@jit
def _follow(rows, begins, num_notes, which, core, costs):
    """All candidates, as many together as have the same order.

    costs: also when the memory begins with each of them, and its latency.
    """
    notes, most = np.empty((num_notes, len(which))), len(rows)
    group = _Group(
        np.empty(_TOGETHER, np.int64),
        np.empty((_FREE + FIRST_MEMORY_UNIT, _TOGETHER)),
        np.empty((most, _TOGETHER)),
        np.empty((2, most), np.int64),
        np.empty(2, np.int64),
    )
    for order in range(len(begins) - 1):
        count = 0
        for candidate in range(len(which)):
            if which[candidate] == order:
                group.own[count] = candidate
                count += 1
            if count == _TOGETHER or (count > 0 and candidate == len(which) - 1):
                _begin(group, count, core, costs)
                _run(group, count, rows, begins[order], begins[order + 1], core, costs, notes)
                count = 0
    return notes


@jit_inline
def _begin(group, count, core, costs):
    group.begun[0] = group.begun[1] = 0
    for row in range(len(group.now)):
        for i in range(count):
            group.now[row, i] = 0.0
    for i in range(count):
        group.now[_SERVED, i] = costs[-2, group.own[i]]
        group.now[_LATENCY, i] = costs[-1, group.own[i]]
        # What is stored goes to the next memory, whether or not it had it before.
        group.now[_LATENCY + 1, i] = core.port_latency


@jit_inline
def _run(group, count, rows, begin, end, core, costs, notes):
    """The ops of an order; their costs are those of the candidates of the group."""
    note = 0
    for op in range(end - begin):
        row = rows[begin + op]
        kind = row[KIND]
        if kind == CLAIM:
            source = _REQUESTED if core.is_overlapped else _RETIRED
            for i in range(count):
                group.now[_CLAIMED, i] = group.now[source, i]
        elif kind > CLAIM:
            source = _noted(row)
            for i in range(count):
                notes[note, group.own[i]] = group.now[source, i]
            note += 1
        else:
            for i in range(count):
                group.ends[op, i] = group.now[_CLAIMED, i]
            for unit in range(NUM_UNITS):
                if row[WAITS + unit] >= 0:
                    _delay(group.ends, op, group.ends, row[WAITS + unit], count)
            if kind < FIRST_MEMORY_UNIT:
                _compute(group, count, op, row, core, costs)
            else:
                _transfer(group, count, op, row, core, costs)
            _delay(group.now, _RETIRED, group.ends, op, count)


@jit_inline
def _noted(row):
    """Where the time is that is noted."""
    if row[KIND] == NOTE_FREE:
        return _FREE + row[COST]
    return _REQUESTED if row[KIND] == NOTE_REQUEST else _RETIRED


@jit_inline
def _delay(times, row, others, other, count):
    """The later of two times."""
    for i in range(count):
        times[row, i] = max(times[row, i], others[other, i])


@jit_inline
def _compute(group, count, op, row, core, costs):
    """An op of a compute unit, whose tiles are ready at `ends`."""
    unit = row[KIND]
    for i in range(count):
        start = max(group.now[_FREE + unit, i], group.ends[op, i])
        free = start + costs[row[COST], group.own[i]]
        group.now[_FREE + unit, i] = free
        group.ends[op, i] = free + core.latency[unit]


@jit_inline
def _transfer(group, count, op, row, core, costs):
    """A transfer, whose tile is ready at `ends`."""
    now, ends, queue = group.now, group.ends, row[KIND] - FIRST_MEMORY_UNIT
    before = group.begun[queue] - core.in_flight[queue]
    if before >= 0:
        _delay(ends, op, ends, group.transfers[queue, before], count)
    group.transfers[queue, group.begun[queue]] = op
    group.begun[queue] += 1
    for i in range(count):
        num_bytes = costs[row[COST], group.own[i]]
        requested = max(now[_REQUESTED + queue, i], ends[op, i])
        served = max(now[_SERVED + queue, i], requested) + num_bytes * core.cycles_per_byte
        passed = max(now[_PASSED + queue, i], requested) + num_bytes / core.bandwidth[queue]
        now[_REQUESTED + queue, i] = requested
        now[_SERVED + queue, i] = served
        now[_PASSED + queue, i] = passed
        ends[op, i] = max(served + now[_LATENCY + queue, i], passed + core.port_latency)
