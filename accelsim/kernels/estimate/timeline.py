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
from accelsim.runtime.jit import jit, jit_inner

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
    """What compiled code needs of a machine; of both queues, loads first."""

    latency: Cycles
    """Of every unit."""
    bandwidth: Cycles
    in_flight: npt.NDArray[np.int64]
    is_overlapped: bool
    """Whether an item is claimed before the one before has ended."""
    cycles_per_byte: float
    port_latency: float


def follow(
    orders: Orders, which: Any, machine: MachineSpec, supply: Supply, costs: Sequence[Any]
) -> Cycles:
    """Return what the orders note, [notes, candidates]: cycles from the first claim.

    which: the order of every candidate. costs: cycles or bytes, a number or an array for each.
    """
    matrix, served = np.empty((len(costs), len(which))), np.empty((2, len(which)))
    for row, cost in zip(matrix, costs, strict=True):
        row[:] = cost
    served[0], served[1] = supply.latency_cycles, supply.begin_cycles
    return np.asarray(_follow(orders, which, _core(machine, supply), matrix, served))


def _core(machine: MachineSpec, supply: Supply) -> _Core:
    latency = np.zeros(NUM_UNITS)
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


class _Times(NamedTuple):
    """Of some candidates that are followed together; of both queues, loads first."""

    claimed: Cycles
    retired: Cycles
    """When everything so far has ended."""
    free: Cycles
    """Of every unit, when it is done with what it was given."""
    requested: Cycles
    served: Cycles
    """By the memory."""
    passed: Cycles
    """Through the queue."""
    latency: Cycles
    ends: Cycles
    """Of every row of the order."""
    cost: Cycles
    """Of the op at hand."""


@jit
def _follow(orders, which, core, costs, served):
    """All candidates, as many together as have the same order."""
    notes = np.empty((orders.num_notes, len(which)))
    own = np.empty(_TOGETHER, np.int64)
    for number in range(len(orders.begins) - 1):
        rows, found = orders.rows[orders.begins[number] : orders.begins[number + 1]], 0
        for candidate in range(len(which)):
            if which[candidate] == number:
                own[found] = candidate
                found += 1
            if found == _TOGETHER or (found > 0 and candidate == len(which) - 1):
                _follow_some(rows, own[:found], core, costs, served, notes)
                found = 0
    return notes


@jit_inner
def _follow_some(rows, own, core, costs, served, notes):
    """Candidates of one order."""
    times, note = _start(len(rows), own, core, served), 0
    transfers, counts = np.empty((2, len(rows)), np.int64), np.zeros(2, np.int64)
    for number in range(len(rows)):
        row, end = rows[number], times.ends[number]
        kind = row[KIND]
        if kind == CLAIM:
            times.claimed[:] = times.requested[0] if core.is_overlapped else times.retired
        elif kind > CLAIM:
            noted = _noted(row, times)
            for i in range(len(own)):
                notes[note, own[i]] = noted[i]
            note += 1
        else:
            for i in range(len(own)):
                times.cost[i] = costs[row[COST], own[i]]
            _await_tiles(row, end, times)
            if kind < FIRST_MEMORY_UNIT:
                _compute(times.free[kind], end, times.cost, core.latency[kind])
            else:
                queue = kind - FIRST_MEMORY_UNIT
                before = counts[queue] - core.in_flight[queue]
                if before >= 0:
                    _delay(end, times.ends[transfers[queue, before]])
                transfers[queue, counts[queue]] = number
                counts[queue] += 1
                _transfer(queue, end, times, core)
            _delay(times.retired, end)


@jit_inner
def _start(num_rows, own, core, served):
    count = len(own)
    queues, ends = np.zeros((4, 2, count)), np.empty((num_rows, count))
    units = np.zeros((NUM_UNITS + 3, count))
    for i in range(count):
        queues[1, 0, i], queues[3, 0, i] = served[1, own[i]], served[0, own[i]]
        # What is stored goes to the next memory, whether or not it had it before.
        queues[3, 1, i] = core.port_latency
    return _Times(
        units[0], units[1], units[3:], queues[0], queues[1], queues[2], queues[3], ends, units[2]
    )


@jit_inner
def _noted(row, times):
    if row[KIND] == NOTE_FREE:
        return times.free[row[COST]]
    return times.requested[0] if row[KIND] == NOTE_REQUEST else times.retired


@jit_inner
def _await_tiles(row, end, times):
    """When other units have done what an op waits for."""
    end[:] = times.claimed
    for unit in range(NUM_UNITS):
        if row[WAITS + unit] >= 0:
            _delay(end, times.ends[row[WAITS + unit]])


@jit_inner
def _delay(end, other):
    """The later of both."""
    for i in range(len(end)):
        end[i] = end[i] if end[i] > other[i] else other[i]


@jit_inner
def _compute(free, end, cost, latency):
    for i in range(len(end)):
        free[i] = (free[i] if free[i] > end[i] else end[i]) + cost[i]
        end[i] = free[i] + latency


@jit_inner
def _transfer(queue, end, times, core):
    """A transfer that may be requested at `end`."""
    requested, served, passed = times.requested[queue], times.served[queue], times.passed[queue]
    for i in range(len(end)):
        requested[i] = max(requested[i], end[i])
        served[i] = max(served[i], requested[i]) + times.cost[i] * core.cycles_per_byte
        passed[i] = max(passed[i], requested[i]) + times.cost[i] / core.bandwidth[queue]
        arrival = served[i] + times.latency[queue, i]
        end[i] = max(arrival, passed[i] + core.port_latency)
