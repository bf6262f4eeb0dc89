"""When the ops of one core happen, for all candidates at once, by the rules of the engine.

A unit runs its ops in their order; one waits for what other units did before with the tiles it
touches. Loads and stores go through queues with a limit of transfers under way, at the slower of
the rates of the queue and the memory. The core is alone here: what others take of the bandwidth is
a bound on whole items, because the waits of one are the work of another.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.costs import SPARE_ROWS
from accelsim.kernels.estimate.order import (
    CLAIM,
    CLAIMED,
    COST,
    DONE,
    KIND,
    NOTE,
    PLACE,
    REQUESTED,
    RESTART,
    RETIRED,
    WAITS,
    Orders,
)
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, Unit
from accelsim.runtime.jit import jit, jit_inline, jit_inner

Cycles = npt.NDArray[np.float64]

NOT_FOLLOWED = -1
_LOAD, _STORE = Unit.LOAD.value, Unit.STORE.value
_TOGETHER = 64
"""Candidates that are followed together: their times stay near the core that computes them."""


class Supply(NamedTuple):
    """What the memory gives one core that asks alone; others only take bandwidth from it."""

    cycles_per_byte: float
    latency_cycles: Any
    """From the memory that serves, be it the L2 or what lies behind it."""
    port_latency_cycles: Any
    """From the memory next to the core, which its queue is in step with."""
    begin_cycles: Any = 0.0
    """When it has served what other cores asked for at the same time, and before this one."""
    port_begin_cycles: Any = 0.0
    """The same of the memory next to the core, beyond what its queue takes by then."""
    late_cycles: Any = 0.0
    """By how much later loads arrive that are the first ones of what they load."""


LATENCY, PORT_LATENCY, BEGIN, PORT_BEGIN, LATE = range(-SPARE_ROWS, 0)
"""Rows of costs that say what the memory gives each candidate, see `Supply`."""
RATE, _BANDWIDTH, _LATENCY, _IN_FLIGHT = range(4)
"""Rows of what units do: cycles for a unit of cost, cost that passes in a cycle beside that, cycles
from the end of a compute op to that of its unit's pipeline, and ops under way."""
_PASSED = DONE + NUM_UNITS
_LATE = _PASSED + NUM_UNITS
_PORT = _LATE + NUM_UNITS
_ENDS = _PORT + NUM_UNITS
"""Rows of times beside those that are noted: of every unit when the last op has passed, and the
cycles to the end of an op from when it is done and from when it has passed; then the end of each
op."""


class Costs(NamedTuple):
    """Cycles or bytes of ops, and what the memory gives; arrays for compiled code."""

    units: Cycles
    """[rows above, units]"""
    is_overlapped: bool
    """Whether an item is claimed before the one before has ended."""
    matrix: Cycles
    """[costs + SPARE_ROWS, candidates]; last the rest of the supply, in the order of its fields."""

    @classmethod
    def of(cls, machine: MachineSpec, supply: Supply, matrix: Cycles) -> "Costs":
        """Return costs as `CostTable` gives them, whose spare rows are filled in."""
        for row, each in enumerate(supply[1:]):
            matrix[row - SPARE_ROWS] = each
        units = units_of(machine)
        units[RATE, FIRST_MEMORY_UNIT:] = supply.cycles_per_byte
        return cls(units, machine.items_in_flight > 1, matrix)


def follow(orders: Orders, which: Any, costs: Costs) -> Cycles:
    """Return what the orders note, [notes, candidates]: cycles from the first claim.

    which: the order of every candidate, or NOT_FOLLOWED, whose notes then mean nothing.
    """
    rows, begins, num_notes = orders
    notes = np.zeros((num_notes, len(which)))
    _follow(rows, begins, notes, which, *costs, *room_for(orders))
    return notes


def room_for(
    orders: Orders, columns: int = 0, rows: int = 0
) -> tuple[Cycles, npt.NDArray[np.int64]]:
    """Return the room for times, and for the ops of each unit, that following takes.

    columns, rows: of what else needs the room, at other times.
    """
    count = len(orders.rows)
    times = np.empty((max(rows, _ENDS + count), max(columns, _TOGETHER)))
    return times, np.empty((NUM_UNITS + 1, max(count + 1, _TOGETHER)), np.int64)


def units_of(machine: MachineSpec) -> Cycles:
    """Return what all units do. A compute unit is a queue where nothing passes beside the work.

    The rate of the memory is that of one byte a cycle.
    """
    units = np.zeros((4, NUM_UNITS))
    units[RATE], units[_BANDWIDTH], units[_IN_FLIGHT] = 1.0, np.inf, np.inf
    units[_LATENCY, Unit.CUBE] = machine.cube.latency_cycles if machine.cube else 0
    pipeline = machine.int_mac.pipeline_depth_cycles if machine.int_mac else 0
    units[_LATENCY, Unit.INT_MAC] = pipeline
    units[_LATENCY, Unit.VECTOR] = machine.vector.pipeline_depth_cycles
    for unit, queue in ((Unit.LOAD, machine.load), (Unit.STORE, machine.store)):
        units[_BANDWIDTH, unit], units[_IN_FLIGHT, unit] = queue.bandwidth, queue.in_flight
    return units


@jit
def _follow(rows, begins, notes, which, units, is_overlapped, costs, times, runs):
    """As `follow_all`, called from Python."""
    follow_all(rows, begins, notes, which, units, is_overlapped, costs, times, runs)


@jit_inner
def follow_all(rows, begins, notes, which, units, is_overlapped, costs, times, runs):
    """All candidates, as many together as have the same order.

    costs: also what the memory gives each of them. times: room for what is known, [times,
    _TOGETHER]. runs: room for the ops of each unit and their number.
    """
    own, count = runs[-1], 0
    for order in range(len(begins) - 1):
        for candidate in range(len(which)):
            if which[candidate] == order:
                own[count] = candidate
                count += 1
            if count == _TOGETHER or (count > 0 and candidate == len(which) - 1):
                _restart(count, units, costs, times, runs)
                bounds = begins[order], begins[order + 1]
                _run(rows, bounds, notes, count, units, is_overlapped, costs, times, runs)
                count = 0


@jit_inner
def _restart(count, units, costs, times, runs):
    """A core that has done nothing so far."""
    for unit in range(NUM_UNITS):
        runs[unit, 0] = 0
    for i in range(count):
        for row in range(_ENDS):
            times[row, i] = 0.0
        for unit in range(NUM_UNITS):
            times[_LATE + unit, i] = units[_LATENCY, unit]
        column = runs[-1, i]
        port = costs[PORT_LATENCY, column]
        times[DONE + _LOAD, i], times[_LATE + _LOAD, i] = costs[BEGIN, column], costs[LATENCY, column]
        times[_PASSED + _LOAD, i] = costs[PORT_BEGIN, column]
        # What is stored goes to the next memory, whether or not it had it before.
        times[_PORT + _LOAD, i] = times[_LATE + _STORE, i] = times[_PORT + _STORE, i] = port


@jit_inline
def _run(rows, bounds, notes, count, units, is_overlapped, costs, times, runs):
    """The ops of an order, at the costs of some candidates."""
    own = runs[-1]
    for op in range(bounds[0], bounds[1]):
        unit, cost, end = rows[op, KIND], rows[op, COST], _ENDS + op - bounds[0]
        if unit == NOTE:
            for i in range(count):
                notes[rows[op, PLACE], own[i]] = times[cost, i]
        elif unit == RESTART:
            _restart(count, units, costs, times, runs)
        elif unit == CLAIM:
            _delay(times, CLAIMED, REQUESTED + _LOAD if is_overlapped else RETIRED, count)
        else:
            for i in range(count):
                times[end, i] = times[CLAIMED, i]
            for other in range(NUM_UNITS):
                if rows[op, WAITS + other] >= 0:
                    _delay(times, end, _ENDS + rows[op, WAITS + other], count)
            number = runs[unit, 0] + 1
            runs[unit, 0], runs[unit, number] = number, end
            if number > units[_IN_FLIGHT, unit]:
                _delay(times, end, runs[unit, number - int(units[_IN_FLIGHT, unit])], count)
            for i in range(count):
                work = costs[cost, own[i]]
                requested = max(times[REQUESTED + unit, i], times[end, i])
                done = max(times[DONE + unit, i], requested) + work * units[RATE, unit]
                passed = max(times[_PASSED + unit, i], requested) + work / units[_BANDWIDTH, unit]
                times[REQUESTED + unit, i] = requested
                times[DONE + unit, i] = done
                times[_PASSED + unit, i] = passed
                times[end, i] = max(done + times[_LATE + unit, i], passed + times[_PORT + unit, i])
            if unit == _LOAD and rows[op, PLACE] == 1:
                for i in range(count):
                    times[end, i] += costs[LATE, own[i]]
            # Ops of a unit end in their order.
            if unit == _LOAD and number > 1:
                _delay(times, end, runs[unit, number - 1], count)
            _delay(times, RETIRED, end, count)


@jit_inline
def _delay(times, row, other, count):
    """The later of two times."""
    for i in range(count):
        times[row, i] = max(times[row, i], times[other, i])
