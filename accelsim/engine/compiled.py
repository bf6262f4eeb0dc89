"""The compiled engine: the meaning of `reference.py`, fast enough for sweeps.

Compute ops are resolved as soon as what they wait for is. Only the events whose order between cores
matters pass through a heap: memory requests and claims of work items. The key of an event is
(time, claims before requests, core, unit) in one integer, so that ties have one answer.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.durations import busy_cycles, latency_cycles
from accelsim.engine.memory import SUBCYCLES, Memory, new_memory, request
from accelsim.engine.memory import service_rate, service_subcycles
from accelsim.engine.schedule import NO_WORK, NOT_STALLED, Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit
from accelsim.program.ops import (
    FIRST_MEMORY_UNIT,
    NUM_UNITS,
    READS,
    SLOT_BITS,
    SLOTS_PER_WORD,
    WRITES,
    A,
    B,
    C,
    Unit,
)
from accelsim.program.program import Program

Ints = npt.NDArray[np.int64]

_LOAD = Unit.LOAD.value
_NUM_QUEUES = NUM_UNITS - FIRST_MEMORY_UNIT
_SLOT_MASK = (1 << SLOT_BITS) - 1
_UNIT_BITS, _CORE_BITS = 3, 16
_CORE_MASK, _UNIT_MASK = (1 << _CORE_BITS) - 1, (1 << _UNIT_BITS) - 1
_REQUEST_BIT = 1 << (_UNIT_BITS + _CORE_BITS)
_TIME_SHIFT = _UNIT_BITS + _CORE_BITS + 1
_UNRESOLVED = -1
_HEAP_SIZE, _NEXT_ITEM, _PHASE, _PHASE_OPENED_AT, _RETIRED_AT = range(5)


class _Work(NamedTuple):
    """What is to be done; never changes."""

    ops: Ints
    units: Ints
    busy: Ints
    latency: Ints
    item_start: Ints
    item_phase: Ints


class _Ops(NamedTuple):
    """What is known about every op."""

    start: Ints
    end: Ints
    cause: npt.NDArray[np.int8]
    waits: npt.NDArray[np.int32]
    """[op, unit]: last op on that unit to wait for, or -1."""
    successor: npt.NDArray[np.int32]
    """Next op of the same unit and core, or -1."""
    item: npt.NDArray[np.int32]


class _Items(NamedTuple):
    """What is known about every work item, and the work left in every phase."""

    core: Ints
    claimed_at: Ints
    unresolved: Ints
    retired_at: Ints
    phase_left: Ints


class _Cores(NamedTuple):
    """State of every core: its queues, the tiles its ops touched last, and its claims."""

    head: npt.NDArray[np.int32]
    tail: npt.NDArray[np.int32]
    free: Ints
    is_pending: npt.NDArray[np.bool_]
    is_claiming: npt.NDArray[np.bool_]
    num_claimed: Ints
    recent_items: Ints
    """[core, i]: a ring of the items a core claimed last, as many as it may hold."""
    gate: Ints
    """Cycle of the last claim or load request: a core looks for more work after it."""
    writer: npt.NDArray[np.int32]
    readers: npt.NDArray[np.int32]


class _Queues(NamedTuple):
    """DMA queues [core, queue]: the ends of outstanding transfers as a ring, and the port."""

    in_flight: Ints
    rate: Ints
    ends: Ints
    num_requested: Ints
    port_free: Ints


class _State(NamedTuple):
    """Everything the engine knows."""

    work: _Work
    ops: _Ops
    items: _Items
    cores: _Cores
    queues: _Queues
    memory: Memory
    heap: Ints
    scalars: Ints
    is_static: bool


def schedule(program: Program, machine: MachineSpec) -> Schedule:
    """Return when every op of `program` happens on `machine`."""
    state = _new_state(program, machine)
    if program.num_items:
        _run(state)
    ops = state.ops
    return Schedule(
        program, machine.cores, ops.start, ops.end, state.work.busy, ops.cause, state.items.core
    )


def _new_state(program: Program, machine: MachineSpec) -> _State:
    cores, items, ops = machine.cores, program.num_items, program.num_ops
    queues = (machine.load, machine.store)
    deepest = max(queue.in_flight for queue in queues)
    slots = program.num_slots + 1
    return _State(
        work=_Work(
            program.ops,
            program.units,
            busy_cycles(program, machine),
            latency_cycles(machine),
            program.item_start,
            program.item_phase,
        ),
        ops=_Ops(
            start=np.zeros(ops, np.int64),
            end=np.full(ops, _UNRESOLVED, np.int64),
            cause=np.full(ops, NOT_STALLED, np.int8),
            waits=np.empty((ops, NUM_UNITS), np.int32),
            successor=np.full(ops, -1, np.int32),
            item=np.empty(ops, np.int32),
        ),
        items=_Items(
            core=np.full(items, -1, np.int64),
            claimed_at=np.zeros(items, np.int64),
            unresolved=np.diff(program.item_start),
            retired_at=np.zeros(items, np.int64),
            phase_left=np.bincount(program.item_phase).astype(np.int64),
        ),
        cores=_Cores(
            head=np.full((cores, NUM_UNITS), -1, np.int32),
            tail=np.full((cores, NUM_UNITS), -1, np.int32),
            free=np.zeros((cores, NUM_UNITS), np.int64),
            is_pending=np.zeros((cores, NUM_UNITS), np.bool_),
            is_claiming=np.zeros(cores, np.bool_),
            num_claimed=np.zeros(cores, np.int64),
            recent_items=np.zeros((cores, machine.items_in_flight), np.int64),
            gate=np.full(cores, -1, np.int64),
            writer=np.full((cores, slots), -1, np.int32),
            readers=np.full((cores, slots, NUM_UNITS), -1, np.int32),
        ),
        queues=_Queues(
            in_flight=np.array([queue.in_flight for queue in queues], np.int64),
            rate=np.array([service_rate(queue.bandwidth) for queue in queues], np.int64),
            ends=np.zeros((cores, _NUM_QUEUES, deepest), np.int64),
            num_requested=np.zeros((cores, _NUM_QUEUES), np.int64),
            port_free=np.zeros((cores, _NUM_QUEUES), np.int64),
        ),
        memory=new_memory(machine),
        heap=np.empty(cores * (_NUM_QUEUES + 1) + 1, np.int64),
        scalars=np.zeros(5, np.int64),
        is_static=machine.placement == "static",
    )


@jit
def _run(state):
    """Handle the events in order until none is left."""
    _open_phases(state)
    for core in range(len(state.cores.gate)):
        _offer_claim(state, core)
    heap = state.heap
    while state.scalars[_HEAP_SIZE] > 0:
        event = heap[0]
        _pop(heap, state.scalars)
        time = event >> _TIME_SHIFT
        core = (event >> _UNIT_BITS) & _CORE_MASK
        if event & _REQUEST_BIT:
            _serve(state, time, core, event & _UNIT_MASK)
        else:
            _claim(state, time, core)
        _resolve_compute(state, core)
        _offer_requests(state, core)
        _offer_claims(state, core)


@jit
def _push(heap, scalars, key):
    at = scalars[_HEAP_SIZE]
    scalars[_HEAP_SIZE] = at + 1
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent] <= key:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = key


@jit
def _pop(heap, scalars):
    """Remove the smallest key, which the caller has read from heap[0]."""
    size = scalars[_HEAP_SIZE] - 1
    scalars[_HEAP_SIZE] = size
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


@jit
def _claim(state, time, core):
    """Give the next work item to a core, if one is left, and queue its ops."""
    work, ops, items, cores = state.work, state.ops, state.items, state.cores
    cores.is_claiming[core] = False
    item = _next_item(state, core)
    if not _is_open(state, item):
        return
    state.scalars[_NEXT_ITEM] += 1
    items.core[item] = core
    items.claimed_at[item] = time
    items.retired_at[item] = time
    count = cores.num_claimed[core]
    cores.recent_items[core, count % cores.recent_items.shape[1]] = item
    cores.num_claimed[core] = count + 1
    cores.gate[core] = time
    for op in range(work.item_start[item], work.item_start[item + 1]):
        unit = work.units[op]
        ops.item[op] = item
        _link(op, unit, work.ops, work.units, ops.waits, cores.writer[core], cores.readers[core])
        if cores.head[core, unit] < 0:
            cores.head[core, unit] = op
        else:
            ops.successor[cores.tail[core, unit]] = op
        cores.tail[core, unit] = op
    if items.unresolved[item] == 0:
        _retire(state, item)


@jit
def _next_item(state, core):
    if state.is_static:
        return state.cores.num_claimed[core] * len(state.cores.num_claimed) + core
    return state.scalars[_NEXT_ITEM]


@jit
def _is_open(state, item):
    phases = state.work.item_phase
    return item < len(phases) and phases[item] == state.scalars[_PHASE]


@jit
def _link(op, unit, ops, units, waits, writer, readers):
    """Find what `op` waits for: for each other unit, the last op that touched its tiles before."""
    for other in range(NUM_UNITS):
        waits[op, other] = -1
    word = ops[op, READS]
    while word:
        slot = word & _SLOT_MASK
        word >>= SLOT_BITS
        last = writer[slot]
        if last >= 0:
            waits[op, units[last]] = max(waits[op, units[last]], last)
        readers[slot, unit] = op
    word = ops[op, WRITES]
    while word:
        slot = word & _SLOT_MASK
        word >>= SLOT_BITS
        last = writer[slot]
        if last >= 0:
            waits[op, units[last]] = max(waits[op, units[last]], last)
        for other in range(NUM_UNITS):
            waits[op, other] = max(waits[op, other], readers[slot, other])
            readers[slot, other] = -1
        writer[slot] = op
    # A unit runs its own ops in order and forwards results, so it never waits for itself.
    waits[op, unit] = -1


@jit
def _ready(op, waits, end, ready):
    """Return when `op` may start, not before `ready`, and which unit it waited for last."""
    cause = NOT_STALLED
    for other in range(NUM_UNITS):
        last = waits[op, other]
        if last >= 0:
            if end[last] == _UNRESOLVED:
                return _UNRESOLVED, cause
            if end[last] > ready:
                ready = end[last]
                cause = other
    return ready, cause


@jit
def _resolve_compute(state, core):
    """Fix the times of all compute ops of a core whose inputs are known by now."""
    progress = True
    while progress:
        progress = False
        for unit in range(FIRST_MEMORY_UNIT):
            if state.cores.head[core, unit] >= 0 and _resolve_unit(state, core, unit):
                progress = True


@jit
def _resolve_unit(state, core, unit):
    work, ops, items, cores = state.work, state.ops, state.items, state.cores
    first = op = cores.head[core, unit]
    free = cores.free[core, unit]
    while op >= 0:
        item = ops.item[op]
        claimed_at = items.claimed_at[item]
        ready, cause = _ready(op, ops.waits, ops.end, max(free, claimed_at))
        if ready == _UNRESOLVED:
            break
        if cause == NOT_STALLED and claimed_at > free:
            cause = NO_WORK
        ops.cause[op] = cause
        ops.start[op] = ready
        free = ready + work.busy[op]
        _resolved(state, op, free + work.latency[unit])
        op = ops.successor[op]
    cores.free[core, unit] = free
    cores.head[core, unit] = op
    return op != first


@jit
def _resolved(state, op, end):
    items = state.items
    item = state.ops.item[op]
    state.ops.end[op] = end
    items.retired_at[item] = max(items.retired_at[item], end)
    items.unresolved[item] -= 1
    if items.unresolved[item] == 0:
        _retire(state, item)


@jit
def _retire(state, item):
    retired_at = state.items.retired_at[item]
    state.items.phase_left[state.work.item_phase[item]] -= 1
    state.scalars[_RETIRED_AT] = max(state.scalars[_RETIRED_AT], retired_at)


@jit
def _offer_requests(state, core):
    """Put the next transfer of each DMA queue into the heap once its time is known."""
    ops, cores, queues = state.ops, state.cores, state.queues
    for unit in range(FIRST_MEMORY_UNIT, NUM_UNITS):
        op = cores.head[core, unit]
        if op < 0 or cores.is_pending[core, unit]:
            continue
        queue = unit - FIRST_MEMORY_UNIT
        ready = max(cores.free[core, unit], state.items.claimed_at[ops.item[op]])
        count, limit = queues.num_requested[core, queue], queues.in_flight[queue]
        if count >= limit:
            ready = max(ready, queues.ends[core, queue, count % limit])
        ready, _ = _ready(op, ops.waits, ops.end, ready)
        if ready != _UNRESOLVED:
            cores.is_pending[core, unit] = True
            event = (ready << _TIME_SHIFT) | _REQUEST_BIT | (core << _UNIT_BITS) | unit
            _push(state.heap, state.scalars, event)


@jit
def _serve(state, time, core, unit):
    """Hand the next transfer of a queue to the memory."""
    ops, cores, queues = state.ops, state.cores, state.queues
    queue = unit - FIRST_MEMORY_UNIT
    op = cores.head[core, unit]
    num_bytes = state.work.ops[op, B] * state.work.ops[op, C]
    done = request(state.memory, time, state.work.ops[op, A], num_bytes)
    # The port of the queue works while the memory does; a queue retires in order.
    port = max(queues.port_free[core, queue], time * SUBCYCLES)
    port += service_subcycles(num_bytes, queues.rate[queue])
    queues.port_free[core, queue] = port
    done = max(done, (port + SUBCYCLES - 1) // SUBCYCLES + state.memory.latency_cycles)
    count, limit = queues.num_requested[core, queue], queues.in_flight[queue]
    if count > 0:
        done = max(done, queues.ends[core, queue, (count - 1) % limit])
    queues.ends[core, queue, count % limit] = done
    queues.num_requested[core, queue] = count + 1
    ops.start[op] = time
    _resolved(state, op, done)
    cores.free[core, unit] = time
    cores.is_pending[core, unit] = False
    cores.head[core, unit] = ops.successor[op]
    if unit == _LOAD:
        cores.gate[core] = time


@jit
def _offer_claims(state, core):
    """Let a core that can take more work ask for it; when a phase has ended, let every core ask."""
    if _open_phases(state):
        for claimer in range(len(state.cores.gate)):
            _offer_claim(state, claimer)
    else:
        _offer_claim(state, core)


@jit
def _open_phases(state):
    """Move on to the first phase with work left; return whether that is a new one."""
    left, scalars = state.items.phase_left, state.scalars
    before = scalars[_PHASE]
    while scalars[_PHASE] < len(left) and left[scalars[_PHASE]] == 0:
        scalars[_PHASE] += 1
        scalars[_PHASE_OPENED_AT] = scalars[_RETIRED_AT]
    return scalars[_PHASE] != before


@jit
def _offer_claim(state, core):
    items, cores = state.items, state.cores
    if cores.is_claiming[core] or cores.head[core, _LOAD] >= 0:
        return
    if not _is_open(state, _next_item(state, core)):
        return
    ready = max(cores.gate[core] + 1, state.scalars[_PHASE_OPENED_AT])
    count, limit = cores.num_claimed[core], cores.recent_items.shape[1]
    if count >= limit:
        oldest = cores.recent_items[core, count % limit]
        if items.unresolved[oldest] > 0:
            return
        ready = max(ready, items.retired_at[oldest])
    cores.is_claiming[core] = True
    _push(state.heap, state.scalars, (ready << _TIME_SHIFT) | (core << _UNIT_BITS))
