"""The compiled engine: the meaning of `reference.py`, fast enough for sweeps.

Compute ops are resolved as soon as what they wait for is. Only the events whose order between cores
matters pass through a heap: memory requests and claims of work items. The key of an event is
(time, claims before requests, core, unit) in one integer, so that ties have one answer.

All state is in arrays of records, because jitted functions pass plain arrays for free, while each
tuple of arrays costs reference counting (docs/decisions/0002-two-engines.md).
"""

from typing import Any

import numpy as np

from accelsim.engine.durations import busy_cycles, latency_cycles
from accelsim.engine.memory import (
    SUBCYCLES,
    new_memory,
    request,
    service_rate,
    service_subcycles,
)
from accelsim.engine.schedule import NO_WORK, NOT_STALLED, Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.program.ops import (
    FIRST_MEMORY_UNIT,
    NUM_UNITS,
    READS,
    SLOT_BITS,
    WRITES,
    A,
    B,
    C,
    Unit,
)
from accelsim.program.program import Program

_LOAD = Unit.LOAD.value
_NUM_QUEUES = NUM_UNITS - FIRST_MEMORY_UNIT
_MAX_ITEMS_IN_FLIGHT = 2
_SLOT_MASK = (1 << SLOT_BITS) - 1
_UNIT_BITS, _CORE_BITS = 3, 16
_CORE_MASK, _UNIT_MASK = (1 << _CORE_BITS) - 1, (1 << _UNIT_BITS) - 1
_REQUEST_BIT = 1 << (_UNIT_BITS + _CORE_BITS)
_TIME_SHIFT = _UNIT_BITS + _CORE_BITS + 1
_UNRESOLVED = -1
_NONE = -1
_WRITE = NUM_UNITS
"""Place of the last write of a slot, after the last reads by each unit."""


def _record(fields: list[tuple[Any, ...]]) -> np.dtype[Any]:
    """Return the type of records whose fields are attributes, without the compiler too."""
    return np.dtype((np.record, np.dtype(fields, align=True)))


_MACHINE = _record(
    [
        ("latency", np.int64, NUM_UNITS),
        ("in_flight", np.int64, _NUM_QUEUES),
        ("queue_rate", np.int64, _NUM_QUEUES),
        ("items_in_flight", np.int64),
        ("is_static", np.int8),
    ]
)

_OP = _record(
    [
        ("start", np.int64),
        ("end", np.int64),
        ("busy", np.int64),
        ("successor", np.int32),  # next op of the same unit and core
        ("work_item", np.int32),
        ("unit", np.int8),
        ("cause", np.int8),
    ]
)

_ITEM = _record(
    [
        ("first_op", np.int64),
        ("end_op", np.int64),
        ("phase", np.int64),
        ("core", np.int64),
        ("claimed_at", np.int64),
        ("unresolved", np.int64),  # ops whose times are not known yet
        ("retired_at", np.int64),
    ]
)

_CORE = _record(
    [
        ("head", np.int32, NUM_UNITS),
        ("tail", np.int32, NUM_UNITS),
        ("free", np.int64, NUM_UNITS),  # when a unit can start its next op
        ("is_pending", np.int8, NUM_UNITS),  # a request of this queue is in the heap
        ("is_claiming", np.int8),  # a claim is in the heap
        ("num_claimed", np.int64),
        ("recent_items", np.int64, _MAX_ITEMS_IN_FLIGHT),  # ring of the items claimed last
        ("gate", np.int64),  # last claim or load request: more work is wanted after it
        ("num_requested", np.int64, _NUM_QUEUES),
        ("port_free", np.int64, _NUM_QUEUES),  # subcycle
    ]
)

_RUN = _record(
    [
        ("heap_size", np.int64),
        ("next_item", np.int64),
        ("phase", np.int64),
        ("phase_opened_at", np.int64),
        ("retired_at", np.int64),  # latest end of any retired item
    ]
)


def schedule(program: Program, machine: MachineSpec) -> Schedule:
    """Return when every op of `program` happens on `machine`."""
    ops, items, cores = _new_ops(program, machine), _new_items(program), _new_cores(machine)
    slots = program.num_slots + 1
    deepest = max(machine.load.in_flight, machine.store.in_flight)
    _run(
        program.ops,
        ops,
        np.empty((program.num_ops, NUM_UNITS), np.int32),
        items,
        np.bincount(program.item_phase).astype(np.int64),
        cores,
        np.full((machine.cores, slots, NUM_UNITS + 1), _NONE, np.int32),
        np.zeros((machine.cores, _NUM_QUEUES, deepest), np.int64),
        np.zeros(machine.cores * (_NUM_QUEUES + 1) + 1, np.int64),
        np.zeros(1, _RUN),
        _parameters(machine),
        new_memory(machine),
    )
    return Schedule(
        program, machine.cores, ops["start"], ops["end"], ops["busy"], ops["cause"], items["core"]
    )


def _new_ops(program: Program, machine: MachineSpec) -> np.ndarray:
    ops = np.zeros(program.num_ops, _OP)
    ops["end"] = _UNRESOLVED
    ops["busy"] = busy_cycles(program, machine)
    ops["successor"] = _NONE
    ops["unit"] = program.units
    return ops


def _new_items(program: Program) -> np.ndarray:
    items = np.zeros(program.num_items, _ITEM)
    items["first_op"], items["end_op"] = program.item_start[:-1], program.item_start[1:]
    items["phase"] = program.item_phase
    items["core"] = _NONE
    items["unresolved"] = np.diff(program.item_start)
    return items


def _new_cores(machine: MachineSpec) -> np.ndarray:
    cores = np.zeros(machine.cores, _CORE)
    cores["head"] = cores["tail"] = _NONE
    cores["gate"] = -1
    return cores


def _parameters(machine: MachineSpec) -> np.ndarray:
    parameters = np.zeros(1, _MACHINE)
    queues = (machine.load, machine.store)
    parameters["latency"] = latency_cycles(machine)
    parameters["in_flight"] = [queue.in_flight for queue in queues]
    parameters["queue_rate"] = [service_rate(queue.bandwidth) for queue in queues]
    parameters["items_in_flight"] = machine.items_in_flight
    parameters["is_static"] = machine.placement == "static"
    return parameters


@jit
def _run(words, ops, waits, items, phase_left, cores, touched, ends, heap, run, machine, memory):
    """Handle the events in order until none is left.

    touched: [core, slot, unit], the last op of each unit that read a slot since its last write, and
    that write in the last place. ends: [core, queue, i], ring of the ends of transfers.
    """
    state = run[0]
    _open_phases(phase_left, state)
    for core in range(len(cores)):
        _offer_claim(core, cores[core], items, heap, state, machine[0], len(cores))
    while state.heap_size > 0:
        event = heap[0]
        _pop(heap, state)
        time = event >> _TIME_SHIFT
        core = (event >> _UNIT_BITS) & _CORE_MASK
        if event & _REQUEST_BIT:
            unit = event & _UNIT_MASK
            _serve(
                time,
                unit,
                words,
                ops,
                items,
                phase_left,
                cores[core],
                ends[core],
                state,
                machine[0],
                memory,
            )
        else:
            _claim(
                time,
                core,
                words,
                ops,
                waits,
                items,
                phase_left,
                cores[core],
                touched,
                state,
                machine[0],
                len(cores),
            )
        _resolve_compute(ops, waits, items, phase_left, cores[core], state, machine[0])
        _offer_requests(core, ops, waits, items, cores[core], ends[core], heap, state, machine[0])
        if _open_phases(phase_left, state):
            for claimer in range(len(cores)):
                _offer_claim(claimer, cores[claimer], items, heap, state, machine[0], len(cores))
        else:
            _offer_claim(core, cores[core], items, heap, state, machine[0], len(cores))


@jit_inner
def _push(heap, state, key):
    at = state.heap_size
    state.heap_size = at + 1
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent] <= key:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = key


@jit_inner
def _pop(heap, state):
    """Remove the smallest key, which the caller has read from heap[0]."""
    size = state.heap_size - 1
    state.heap_size = size
    key = heap[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = key


@jit_inner
def _next_item(core, own, state, machine, num_cores):
    if machine.is_static:
        return own.num_claimed * num_cores + core
    return state.next_item


@jit_inner
def _is_open(item, items, state):
    return item < len(items) and items[item].phase == state.phase


@jit_inner
def _claim(
    time, core, words, ops, waits, items, phase_left, own, touched, state, machine, num_cores
):
    """Give the next work item to a core, if one is left, and queue its ops."""
    own.is_claiming = 0
    index = _next_item(core, own, state, machine, num_cores)
    # Another core may have taken the last item of the phase for which this claim was made.
    if time < state.phase_opened_at or not _is_open(index, items, state):
        return
    item = items[index]
    state.next_item += 1
    item.core = core
    item.claimed_at = time
    item.retired_at = time
    own.recent_items[own.num_claimed % machine.items_in_flight] = index
    own.num_claimed += 1
    own.gate = time
    for op in range(item.first_op, item.end_op):
        ops[op].work_item = index
        _link(op, words, ops, waits, core, touched)
        unit = ops[op].unit
        if own.head[unit] < 0:
            own.head[unit] = op
        else:
            ops[own.tail[unit]].successor = op
        own.tail[unit] = op
    if item.unresolved == 0:
        _retire(item, phase_left, state)


@jit_inner
def _wait_for(other, op, ops, waits):
    if other >= 0:
        unit = ops[other].unit
        waits[op, unit] = max(waits[op, unit], other)


@jit_inner
def _link(op, words, ops, waits, core, touched):
    """Find what `op` waits for: for each other unit, the last op that touched its tiles before."""
    unit = ops[op].unit
    for other in range(NUM_UNITS):
        waits[op, other] = _NONE
    word = words[op, READS]
    while word:
        slot = word & _SLOT_MASK
        word >>= SLOT_BITS
        _wait_for(touched[core, slot, _WRITE], op, ops, waits)
        touched[core, slot, unit] = op
    word = words[op, WRITES]
    while word:
        slot = word & _SLOT_MASK
        word >>= SLOT_BITS
        for other in range(NUM_UNITS + 1):
            _wait_for(touched[core, slot, other], op, ops, waits)
            touched[core, slot, other] = _NONE
        touched[core, slot, _WRITE] = op
    # A unit runs its own ops in order and forwards results, so it never waits for itself.
    waits[op, unit] = _NONE


@jit_inner
def _ready(op, ops, waits, ready):
    """Return when an op may start, not before `ready`, and which unit it waited for last."""
    cause = NOT_STALLED
    for unit in range(NUM_UNITS):
        other = waits[op, unit]
        if other >= 0:
            end = ops[other].end
            if end == _UNRESOLVED:
                return np.int64(_UNRESOLVED), cause
            if end > ready:
                ready = end
                cause = unit
    return ready, cause


@jit_inner
def _resolve_compute(ops, waits, items, phase_left, own, state, machine):
    """Fix the times of all compute ops of a core whose inputs are known by now."""
    progress = True
    while progress:
        progress = False
        for unit in range(FIRST_MEMORY_UNIT):
            if own.head[unit] >= 0:
                progress |= _resolve_unit(unit, ops, waits, items, phase_left, own, state, machine)


@jit_inner
def _resolve_unit(unit, ops, waits, items, phase_left, own, state, machine):
    """Fix the times of the next ops of one unit; return whether there was any."""
    first = index = own.head[unit]
    free = own.free[unit]
    while index >= 0:
        op = ops[index]
        item = items[op.work_item]
        ready, cause = _ready(index, ops, waits, max(free, item.claimed_at))
        if ready == _UNRESOLVED:
            break
        if cause == NOT_STALLED and item.claimed_at > free:
            cause = NO_WORK
        op.cause = cause
        op.start = ready
        free = ready + op.busy
        _resolved(op, free + machine.latency[unit], item, phase_left, state)
        index = op.successor
    own.free[unit] = free
    own.head[unit] = index
    return index != first


@jit_inner
def _resolved(op, end, item, phase_left, state):
    op.end = end
    item.retired_at = max(item.retired_at, end)
    item.unresolved -= 1
    if item.unresolved == 0:
        _retire(item, phase_left, state)


@jit_inner
def _retire(item, phase_left, state):
    phase_left[item.phase] -= 1
    state.retired_at = max(state.retired_at, item.retired_at)


@jit_inner
def _offer_requests(core, ops, waits, items, own, ends, heap, state, machine):
    """Put the next transfer of each DMA queue into the heap once its time is known."""
    for unit in range(FIRST_MEMORY_UNIT, NUM_UNITS):
        index = own.head[unit]
        if index < 0 or own.is_pending[unit]:
            continue
        queue = unit - FIRST_MEMORY_UNIT
        ready = max(own.free[unit], items[ops[index].work_item].claimed_at)
        count, limit = own.num_requested[queue], machine.in_flight[queue]
        if count >= limit:
            ready = max(ready, ends[queue, count % limit])
        ready, _ = _ready(index, ops, waits, ready)
        if ready != _UNRESOLVED:
            own.is_pending[unit] = 1
            key = (ready << _TIME_SHIFT) | _REQUEST_BIT | (core << _UNIT_BITS) | unit
            _push(heap, state, key)


@jit_inner
def _serve(time, unit, words, ops, items, phase_left, own, ends, state, machine, memory):
    """Hand the next transfer of a queue to the memory."""
    queue = unit - FIRST_MEMORY_UNIT
    index = own.head[unit]
    op = ops[index]
    num_bytes = words[index, B] * words[index, C]
    done = request(memory, time, words[index, A], num_bytes)
    # The port of the queue works while the memory does; a queue retires in order.
    port = max(own.port_free[queue], time * SUBCYCLES)
    port += service_subcycles(num_bytes, machine.queue_rate[queue])
    own.port_free[queue] = port
    done = max(done, (port + SUBCYCLES - 1) // SUBCYCLES + memory.latency_cycles)
    count, limit = own.num_requested[queue], machine.in_flight[queue]
    if count > 0:
        done = max(done, ends[queue, (count - 1) % limit])
    ends[queue, count % limit] = done
    own.num_requested[queue] = count + 1
    op.cause = NOT_STALLED
    op.start = time
    _resolved(op, done, items[op.work_item], phase_left, state)
    own.free[unit] = time
    own.is_pending[unit] = 0
    own.head[unit] = op.successor
    if unit == _LOAD:
        own.gate = time


@jit_inner
def _open_phases(phase_left, state):
    """Move on to the first phase with work left; return whether that is a new one."""
    before = state.phase
    while state.phase < len(phase_left) and phase_left[state.phase] == 0:
        state.phase += 1
        state.phase_opened_at = state.retired_at
    return state.phase != before


@jit_inner
def _offer_claim(core, own, items, heap, state, machine, num_cores):
    """Put a claim into the heap if a core can take another item, for the cycle it can do so."""
    if own.is_claiming or own.head[_LOAD] >= 0:
        return
    if not _is_open(_next_item(core, own, state, machine, num_cores), items, state):
        return
    ready = max(own.gate + 1, state.phase_opened_at)
    if own.num_claimed >= machine.items_in_flight:
        oldest = items[own.recent_items[own.num_claimed % machine.items_in_flight]]
        if oldest.unresolved > 0:
            return
        ready = max(ready, oldest.retired_at)
    own.is_claiming = 1
    _push(heap, state, (ready << _TIME_SHIFT) | (core << _UNIT_BITS))
