"""When the ops of one core happen, by the rules of the engine: compiled code.

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
    RETIRED,
    WAITS,
    Orders,
)
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, Unit
from accelsim.runtime.jit import jit, jit_inner

Cycles = npt.NDArray[np.float64]

_LOAD = Unit.LOAD.value


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
"""Rows of what units do: cycles that the memory takes for a byte, and bytes that pass a queue in a
cycle beside that; cycles from the end of a compute op to that of its unit's pipeline; and transfers
under way."""
_PASSED = DONE + NUM_UNITS
_ENDED = _PASSED + NUM_UNITS
_ENDS = _ENDED + 1
"""Places of times beside those that are noted: of every queue when its last transfer has passed,
when the last load has ended; and from here on the end of each op."""


def supplied(costs: Cycles, supply: Supply) -> None:
    """Write what the memory gives each candidate."""
    for row, each in enumerate(supply[1:]):
        costs[row - SPARE_ROWS] = each


def follow(
    orders: Orders, which: Any, machine: MachineSpec, supply: Supply, costs: Cycles
) -> Cycles:
    """Return what the orders note, [places, candidates]: cycles from the first claim.

    which: the order of every candidate. costs: of ops, as `CostTable` gives them.
    """
    supplied(costs, supply)
    units = units_of(machine)
    units[RATE, FIRST_MEMORY_UNIT:] = supply.cycles_per_byte
    notes = np.zeros((orders.num_notes, len(which)))
    overlaps = machine.items_in_flight > 1
    _follow(orders.rows, orders.begins, which, units, overlaps, costs, notes, *room_for(orders))
    return notes


def room_for(orders: Orders) -> tuple[Cycles, npt.NDArray[np.int64]]:
    """Return the room for times, and for the ops of each unit, that following takes."""
    count = len(orders.rows)
    return np.empty(_ENDS + count), np.empty((NUM_UNITS, count + 1), np.int64)


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
def _follow(rows, begins, which, units, overlaps, costs, notes, times, runs):
    for column in range(len(which)):
        bounds = begins[which[column]], begins[which[column] + 1]
        follow_order(rows, bounds, units, overlaps, costs, column, notes, times, runs)


@jit_inner
def follow_order(rows, bounds, units, overlaps, costs, column, notes, times, runs):
    """Follow an order at the costs of a column, and write its notes into that column.

    overlaps: whether an item is claimed before the one before has ended. times: room for what is
    known; runs: room for the ops of each queue and, in the first place, their number.
    """
    for place in range(_ENDS):
        times[place] = 0.0
    for unit in range(FIRST_MEMORY_UNIT, NUM_UNITS):
        runs[unit, 0] = 0
    times[DONE + _LOAD], times[_PASSED + _LOAD] = costs[BEGIN, column], costs[PORT_BEGIN, column]
    for op in range(bounds[0], bounds[1]):
        unit, cost, place = rows[op, KIND], rows[op, COST], rows[op, PLACE]
        if unit == NOTE:
            notes[place, column] = times[cost]
        elif unit == CLAIM:
            claimed = times[REQUESTED + _LOAD if overlaps else RETIRED]
            times[CLAIMED] = max(times[CLAIMED], claimed)
        else:
            begin, wait = times[CLAIMED], WAITS
            while wait < WAITS + NUM_UNITS and rows[op, wait] >= 0:
                begin = max(begin, times[_ENDS + rows[op, wait]])
                wait += 1
            if unit < FIRST_MEMORY_UNIT:
                done = max(begin, times[DONE + unit]) + costs[cost, column]
                times[DONE + unit], end = done, done + units[_LATENCY, unit]
            else:
                moved_bytes, limit = costs[cost, column], int(units[_IN_FLIGHT, unit])
                number = runs[unit, 0] + 1
                if number > limit:
                    begin = max(begin, times[runs[unit, number - limit]])
                runs[unit, 0], runs[unit, number] = number, _ENDS + op - bounds[0]
                begin = max(begin, times[REQUESTED + unit])
                done = max(begin, times[DONE + unit]) + moved_bytes * units[RATE, unit]
                passed = max(begin, times[_PASSED + unit]) + moved_bytes / units[_BANDWIDTH, unit]
                times[REQUESTED + unit], times[DONE + unit], times[_PASSED + unit] = (
                    begin,
                    done,
                    passed,
                )
                # What is stored goes to the next memory, whether or not it had it before.
                port = costs[PORT_LATENCY, column]
                end = max(done + (costs[LATENCY, column] if unit == _LOAD else port), passed + port)
                if unit == _LOAD:
                    # Loads end in their order.
                    end = max(end + place * costs[LATE, column], times[_ENDED])
                    times[_ENDED] = end
            times[_ENDS + op - bounds[0]] = end
            times[RETIRED] = max(times[RETIRED], end)
