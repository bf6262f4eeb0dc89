"""The compiled engine: the meaning of `reference.py`, fast enough for sweeps.

Compute ops are resolved as soon as what they wait for is. Only the events whose order between cores
matters are put into an order: memory requests and claims of work items.

All state is in one tuple of arrays of records. The arrays are borrowed, so that passing the tuple
counts no references (docs/decisions/0002-two-engines.md).
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.durations import latency_cycles, launches_of, work_of
from accelsim.engine.events import (
    CLAIM,
    add_claim,
    add_request,
    has_events,
    new_events,
    next_event,
    remove_event,
)
from accelsim.engine.hazards import (
    EDGES,
    FIRST_OF_UNIT,
    LAST_OF_UNIT,
    MEETS_OTHERS,
    NONE,
    TOUCHES,
    hazards_of,
    meet_other_items,
    units_waited_for,
)
from accelsim.engine.memory.door import borrowed_memory, ended, let_go, new_memory, respond
from accelsim.engine.memory.lone import lone_in
from accelsim.engine.memory.prefetch import prefetch
from accelsim.engine.schedule import NO_WORK, NOT_STALLED, TIMES, Schedule, record
from accelsim.engine.subcycles import SUBCYCLES, service_rate, service_subcycles
from accelsim.hardware.machine import MachineSpec
from accelsim.program.ops import (
    FIRST_MEMORY_UNIT,
    NUM_UNITS,
    WORDS,
    Unit,
)
from accelsim.program.program import Declared, Program
from accelsim.program.transfer import row_pitches, transfer_of
from accelsim.runtime.jit import borrow, jit, jit_inline, jit_inner

_LOAD = Unit.LOAD.value
UNRESOLVED = -1
"""In the place of the end of an op that is not known yet."""
_OPS_AHEAD, _CACHE_LINE_BYTES = 20, 64
"""Ops that are fetched in advance: about those between two loads. Lines are those of most machines
that run this."""


ITEM = record(
    ("first_op", np.int64),
    ("end_op", np.int64),
    ("phase", np.int64),
    ("core", np.int64),
    ("claimed_at", np.int64),
    ("unresolved", np.int64),  # ops whose times are not known yet
    ("retired_at", np.int64),
)

_UNIT = record(
    ("head", np.int64),  # next op whose times are not known yet
    ("tail", np.int64),
    ("work_item", np.int64),  # of `head`
    ("free", np.int64),  # when the unit can start its next op
    ("latency", np.int64),  # of a compute unit
    ("in_flight", np.int64),  # limit of a DMA queue
    ("rate", np.int64),  # of the port of a DMA queue, see `service_rate`
    ("num_requested", np.int64),
    ("port_free", np.int64),  # subcycle
    ("is_pending", np.int64),  # its next request is among the events
    ("blocked_by", np.int64),  # an op that `head` waits for
)

_CORE = record(
    ("is_claiming", np.int64),  # its claim is among the events
    ("num_claimed", np.int64),
    ("gate", np.int64),  # last claim or load request: more work is wanted after it
)

_RUN = record(
    ("num_cores", np.int64),
    ("items_in_flight", np.int64),
    ("is_static", np.int64),
    ("next_item", np.int64),
    ("phase", np.int64),
    ("phase_opened_at", np.int64),
    ("retired_at", np.int64),  # latest end of any retired item
    ("has_begun", np.int64),
    ("is_complete", np.int64),  # no items come after those that are there
    ("first_item", np.int64),  # of the program, those before it are over
    ("most_claimed", np.int64),  # by any core
)


class State(NamedTuple):
    """All that changes in a run but the memory, as arrays that jitted code passes for free."""

    words: Any
    """[op, word], the program"""
    kinds: Any
    """[op], the unit of each"""
    busy_cycles: Any
    """[op], how long it occupies its unit"""
    ops: Any
    """[op], records, made when their item is claimed"""
    waits: Any
    """[op, unit], the last op of each unit that an op waits for; of its own item until that is
    claimed"""
    marks: Any
    """[op], see `Hazards`"""
    steps: Any
    """[op], see `Hazards`"""
    items: Any
    """[item], records"""
    phase_left: Any
    """[phase], items that have not retired"""
    launches: Any
    """[phase], cycles from the end of the phase before"""
    cores: Any
    """[core], records"""
    units: Any
    """[core, unit], records"""
    recent: Any
    """[core, i], ring of the items claimed last"""
    touched: Any
    """[core, slot, unit], the last op of each unit that read a slot since its last write, and that
    write in the last place"""
    ends: Any
    """[core, unit, i], ring of the ends of a queue's transfers"""
    events: Any
    """See `accelsim.engine.events`"""
    run: Any
    """One record"""
    pitches: Any
    """[tensor], bytes from row to row"""


class OfOps(NamedTuple):
    """The arrays of a state with a row for each op."""

    words: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int8]
    busy_cycles: npt.NDArray[np.int64]
    ops: np.recarray
    waits: npt.NDArray[np.int32]
    marks: npt.NDArray[np.int32]
    steps: npt.NDArray[np.int32]


def schedule(program: Program, machine: MachineSpec) -> Schedule:
    """Return when every op of `program` happens on `machine`."""
    work, items = work_of(program, machine), new_items(program)
    of_ops = rows_of_ops(program, work.busy_cycles)
    memory = new_memory(machine, program, lone=lone_in(program, machine.l2))
    state = new_state(program, machine)._replace(
        **of_ops._asdict(),
        items=items,
        phase_left=np.bincount(program.item_phase).astype(np.int64),
        launches=launches_of(program, machine),
    )
    state.run.is_complete = True
    advance(state, memory)
    has_ops = items.end_op > items.first_op
    last_end = int(items.retired_at[has_ops].max(initial=0))
    run = ended(memory, program.totals.requested, machine, last_end)
    let_go(memory)
    return Schedule(program, machine.cores, of_ops.ops, work.actions, items.core, *run)


def rows_of_ops(program: Program, busy_cycles: npt.NDArray[np.int64]) -> OfOps:
    """Return the arrays with a row for each op of a program, none of which has begun."""
    waits, marks, steps = hazards_of(program)
    return OfOps(
        words=program.ops,
        kinds=program.units,
        busy_cycles=busy_cycles,
        ops=np.recarray(program.num_ops, TIMES),
        waits=waits.copy(),
        marks=marks,
        steps=steps,
    )


def new_state(program: Declared, machine: MachineSpec) -> State:
    """Return the state of an idle machine, in which no item of a program is there yet."""
    cores, deepest = machine.cores, max(queue.in_flight for queue in machine.queues.values())
    none = np.zeros(0, np.int64)
    return State(
        words=np.zeros((0, WORDS), np.int64),
        kinds=np.zeros(0, np.int8),
        busy_cycles=none,
        ops=np.recarray(0, TIMES),
        waits=np.zeros((0, NUM_UNITS), np.int32),
        marks=np.zeros(0, np.int32),
        steps=np.zeros(0, np.int32),
        items=np.recarray(0, ITEM),
        phase_left=none,
        launches=none,
        cores=_new_cores(machine),
        units=_new_units(machine),
        recent=np.zeros((cores, machine.items_in_flight), np.int64),
        touched=np.full((cores, program.num_slots + 1, TOUCHES), NONE, np.int32),
        ends=np.zeros((cores, NUM_UNITS, deepest), np.int64),
        events=new_events(cores),
        run=_new_run(machine),
        pitches=row_pitches(program),
    )


def new_items(program: Program) -> np.recarray:
    """Return the items of a program, which nobody has claimed."""
    items = np.recarray(program.num_items, ITEM)
    items.first_op, items.end_op = program.item_start[:-1], program.item_start[1:]
    items.phase = program.item_phase
    items.core = NONE
    items.unresolved = np.diff(program.item_start)
    return items


def _new_cores(machine: MachineSpec) -> np.recarray:
    cores = np.zeros(machine.cores, _CORE).view(np.recarray)
    cores.gate = -1
    return cores


def _new_units(machine: MachineSpec) -> np.recarray:
    units = np.zeros((machine.cores, NUM_UNITS), _UNIT).view(np.recarray)
    units.head = units.tail = units.blocked_by = NONE
    units.latency = latency_cycles(machine)
    for unit, queue in machine.queues.items():
        units.in_flight[:, unit] = queue.in_flight
        units.rate[:, unit] = service_rate(queue.bandwidth)
    return units


def _new_run(machine: MachineSpec) -> np.recarray:
    run = np.zeros(1, _RUN).view(np.recarray)
    run.num_cores = machine.cores
    run.items_in_flight = machine.items_in_flight
    run.is_static = machine.placement == "static"
    return run


@jit
def advance(state, memory):
    """Handle the events in order until none is left, or one could ask for an item that is not
    there yet."""
    s, memory = borrow(state), borrowed_memory(memory)
    begin(s)
    while has_next(s):
        handle_next(s, memory)


@jit_inline
def begin(s):
    """Let the cores claim their first items, unless they have done so or none is there yet."""
    run = s.run[0]
    if not run.has_begun and not _lacks_items(s.items, run):
        run.has_begun = True
        if s.launches.size > 0:
            run.phase_opened_at = s.launches[0]
        _open_phases(s)
        for core in range(run.num_cores):
            _offer_claim(core, s)


@jit_inline
def has_next(s):
    """Whether there is an event, and all items are there that it could ask for."""
    return has_events(s.events) and not _lacks_items(s.items, s.run[0])


@jit_inline
def handle_next(s, memory):
    """Handle the next event and all that follows from it at once."""
    run = s.run[0]
    time, core, unit = next_event(s.events)
    remove_event(s.events, core, unit)
    if unit != CLAIM:
        _serve(time, core, unit, s, memory)
        if unit == _LOAD:
            s.cores[core].gate = time
    else:
        _claim(time, core, s)
    _resolve_compute(core, s)
    _offer_requests(core, s)
    if _open_phases(s):
        for claimer in range(run.num_cores):
            _offer_claim(claimer, s)
    else:
        _offer_claim(core, s)
    _fetch_ahead(core, s)


@jit_inline
def _fetch_ahead(core, s):
    """Let the processor that runs this fetch what is read of the next ops of a core.

    Those around its next load follow from its next event, before which come those of other cores.
    """
    head = s.units[core, _LOAD].head
    if head >= 0:
        for place in range(0, _OPS_AHEAD * NUM_UNITS, _CACHE_LINE_BYTES // 4):
            prefetch(s.waits, head * NUM_UNITS + place)
        for place in range(_CACHE_LINE_BYTES // 16, _OPS_AHEAD, _CACHE_LINE_BYTES // 8):
            prefetch(s.busy_cycles, head + place)
        prefetch(s.marks, head + _OPS_AHEAD // 2)
        prefetch(s.steps, head + _OPS_AHEAD // 2)


@jit_inner
def _lacks_items(items, run):
    """Whether the next event could ask for an item that is not there yet."""
    if run.is_complete:
        return False
    last = run.next_item + 1
    if run.is_static:
        # A core claims at most one item, and then asks for the one after it.
        last = (run.most_claimed + 2) * run.num_cores - 1 - run.first_item
    return last >= len(items)


@jit_inner
def _next_item(core, cores, run):
    if run.is_static:
        return cores[core].num_claimed * run.num_cores + core - run.first_item
    return run.next_item


@jit_inner
def _is_open(item, items, run):
    return item < len(items) and items[item].phase == run.phase


@jit_inline
def _claim(time, core, s):
    """Give the next work item to a core, if one is left, and queue its ops."""
    own, run = s.cores[core], s.run[0]
    own.is_claiming = False
    index = _next_item(core, s.cores, run)
    # Another core may have taken the last item of the phase for which this claim was made.
    if time < run.phase_opened_at or not _is_open(index, s.items, run):
        return
    item = s.items[index]
    run.next_item += 1
    item.core = core
    item.claimed_at = time
    item.retired_at = time
    s.recent[core, own.num_claimed % run.items_in_flight] = index
    own.num_claimed += 1
    run.most_claimed = max(run.most_claimed, own.num_claimed)
    own.gate = time
    for op in range(item.first_op, item.end_op):
        marks = np.int64(s.marks[op])
        if marks & MEETS_OTHERS:
            if marks & EDGES:
                meet_other_items(op, core, marks, s.words, s.kinds, s.waits, s.touched)
            _queue(op, index, marks, s.units[core, s.kinds[op]], s.ops)
    if item.unresolved == 0:
        _retire(item, s.phase_left, run)


@jit_inner
def _queue(op, item, marks, unit, ops):
    """Put the ops of an item behind those of a unit, if `op` is the first or last of them."""
    if marks & FIRST_OF_UNIT:
        ops[op].work_item = item
        if unit.head < 0:
            unit.head, unit.work_item = op, item
        else:
            ops[unit.tail].successor = op
    if marks & LAST_OF_UNIT:
        ops[op].successor = NONE
        unit.tail = op


@jit_inner
def _next_op(index, unit, steps, ops):
    """Return the op of a unit after one, whose item the unit takes up; NONE if none is claimed."""
    step = np.int64(steps[index])
    if step > 0:
        return index + step
    following = np.int64(ops[index].successor)
    if following >= 0:
        unit.work_item = ops[following].work_item
    return following


@jit_inline
def _ready(index, core, s, ready):
    """Return when an op may start, not before `ready`, and which unit it waited for last.

    While the end of an op that it waits for is not known: UNRESOLVED, and that op.
    """
    cause, unit, left = np.int64(NOT_STALLED), 0, units_waited_for(np.int64(s.marks[index]))
    while left:
        other = np.int64(s.waits[index, unit])
        if left & 1 and other >= 0:
            if _is_open_op(other, s.units[core, unit]):
                return np.int64(UNRESOLVED), other
            end = s.ops[other].end
            if end > ready:
                ready = end
                cause = np.int64(unit)
        left >>= 1
        unit += 1
    return ready, cause


@jit_inline
def _is_open_op(op, unit):
    """Whether the times of an op are not known yet, which a unit fixes in their order."""
    return 0 <= unit.head <= op


@jit_inline
def _is_blocked(unit, core, s):
    """Whether a unit has nothing to do, or its next op waits for one whose end is not known."""
    if unit.head < 0:
        return True
    other = unit.blocked_by
    return other >= 0 and _is_open_op(other, s.units[core, s.kinds[other]])


@jit_inline
def _resolve_compute(core, s):
    """Fix the times of all compute ops of a core whose inputs are known by now."""
    progress = True
    while progress:
        progress = False
        for unit in range(FIRST_MEMORY_UNIT):
            if not _is_blocked(s.units[core, unit], core, s):
                progress |= _resolve_unit(core, unit, s)


@jit_inline
def _resolve_unit(core, number, s):
    """Fix the times of the next ops of one unit; return whether there was any."""
    unit, run = s.units[core, number], s.run[0]
    first = index = unit.head
    free, latency = unit.free, unit.latency
    blocked_by = np.int64(NONE)
    while index >= 0:
        item = s.items[unit.work_item]
        ready, cause = _ready(index, core, s, max(free, item.claimed_at))
        if ready == UNRESOLVED:
            blocked_by = cause
            break
        if cause == NOT_STALLED and item.claimed_at > free:
            cause = np.int64(NO_WORK)
        op = s.ops[index]
        op.start, op.busy, op.cause = ready, s.busy_cycles[index], cause
        op.unit, op.work_item = number, unit.work_item
        free = ready + s.busy_cycles[index]
        _resolved(op, free + latency, item, s.phase_left, run)
        index = _next_op(index, unit, s.steps, s.ops)
    unit.free = free
    unit.head = index
    unit.blocked_by = blocked_by
    return index != first


@jit_inner
def _resolved(op, end, item, phase_left, run):
    op.end = end
    item.retired_at = max(item.retired_at, end)
    item.unresolved -= 1
    if item.unresolved == 0:
        _retire(item, phase_left, run)


@jit_inner
def _retire(item, phase_left, run):
    phase_left[item.phase] -= 1
    run.retired_at = max(run.retired_at, item.retired_at)


@jit_inline
def _offer_requests(core, s):
    """Put the next transfer of each DMA queue among the events once its time is known."""
    for unit in range(FIRST_MEMORY_UNIT, NUM_UNITS):
        queue = s.units[core, unit]
        if queue.is_pending or _is_blocked(queue, core, s):
            continue
        ready = max(queue.free, s.items[queue.work_item].claimed_at)
        if queue.num_requested >= queue.in_flight:
            oldest = queue.num_requested % queue.in_flight
            ready = max(ready, s.ends[core, unit, oldest])
        ready, queue.blocked_by = _ready(queue.head, core, s, ready)
        if ready != UNRESOLVED:
            queue.blocked_by = NONE
            queue.is_pending = True
            prefetch(s.words, queue.head * WORDS)
            add_request(s.events, ready, core, unit)


@jit_inline
def _serve(time, core, unit, s, memory):
    """Hand the next transfer of a queue to the memory."""
    queue = s.units[core, unit]
    op, transfer = s.ops[queue.head], transfer_of(s.words, queue.head, s.pitches)
    num_bytes = transfer.rows * transfer.row_bytes
    done = respond(memory, time, transfer)
    # The port of the queue works while the memory does; a queue retires in order.
    port = max(queue.port_free, time * SUBCYCLES) + service_subcycles(num_bytes, queue.rate)
    queue.port_free = port
    done = max(done, (port + SUBCYCLES - 1) // SUBCYCLES + memory.latency_cycles)
    count, limit = queue.num_requested, queue.in_flight
    if count > 0:
        done = max(done, s.ends[core, unit, (count - 1) % limit])
    s.ends[core, unit, count % limit] = done
    queue.num_requested = count + 1
    op.start, op.busy, op.cause = time, 0, NOT_STALLED
    op.unit, op.work_item = unit, queue.work_item
    _resolved(op, done, s.items[queue.work_item], s.phase_left, s.run[0])
    queue.free = time
    queue.is_pending = False
    queue.head = _next_op(queue.head, queue, s.steps, s.ops)


@jit_inline
def _open_phases(s):
    """Move on to the first phase with work left; return whether that is a new one."""
    run, phase_left = s.run[0], s.phase_left
    before = run.phase
    while run.phase < len(phase_left) and phase_left[run.phase] == 0:
        run.phase += 1
        if run.phase < len(phase_left):
            run.phase_opened_at = run.retired_at + s.launches[run.phase]
    return run.phase != before


@jit_inline
def _offer_claim(core, s):
    """Put a claim among the events if a core can take another item, for the cycle it can do so."""
    own, run = s.cores[core], s.run[0]
    if own.is_claiming or s.units[core, _LOAD].head >= 0:
        return
    if not _is_open(_next_item(core, s.cores, run), s.items, run):
        return
    ready = max(own.gate + 1, run.phase_opened_at)
    oldest = s.recent[core, own.num_claimed % run.items_in_flight]
    # What is not there any more is over.
    if own.num_claimed >= run.items_in_flight and oldest >= 0:
        if s.items[oldest].unresolved > 0:
            return
        ready = max(ready, s.items[oldest].retired_at)
    own.is_claiming = True
    add_claim(s.events, ready, core)
