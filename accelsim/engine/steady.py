"""Loops whose periods are left out: find when a run repeats itself, and what is left out then.

An item of a long program may hold only some periods of its loop, and a number of those left out.
Its core goes through the periods that are there, and back by whole ones where they end, as long as
some are due. Where the state of all cores and of the memory is, relative to the clock, what it was
a period of all loops ago, all that comes next would be the same again: as many periods are taken as
done at once as are due on every core. Time in the state does not move then: all its cycles are
those of a shorter run (docs/decisions/0054-loops-that-repeat.md).
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.engine.compiled import (
    State,
    begin,
    handle_next,
    has_next,
)
from accelsim.engine.events import next_event, note_requests
from accelsim.engine.hazards import NONE
from accelsim.engine.memory.door import Memory, borrowed_memory
from accelsim.engine.schedule import TIMES, record
from accelsim.engine.subcycles import SUBCYCLES
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS, WORDS, A, B, C, Unit
from accelsim.runtime.jit import borrow, jit, jit_inline, jit_inner

_LOAD = Unit.LOAD.value
_UNKNOWN, _ALIKE, _UNLIKE = range(3)
_AHEAD, _BEHIND = 3, 4
"""Periods between the end of a loop and the load from which on its core goes back, and between the
begin and where it goes back to: an op waits for none that lies more than one period behind it."""
PERIODS = 12
"""Periods of a loop that are recorded."""
_SKIPS, _LOGGED = 1 << 8, 1 << 17

LOOP = record(
    ("first_op", np.int64),
    ("end_op", np.int64),  # of the periods that are there
    ("period", np.int64),  # ops
    ("due", np.int64),  # periods left out that are not done yet
    ("kind", np.int64),  # whether the periods are really alike
    ("units", np.int64),  # bits of those that have ops in it
    ("first_load", np.int64),  # place in a period
    ("before_end", np.int64),  # latest end of the ops of the item before the loop
    ("logged_to", np.int64),  # op up to which times are in the log
    ("known_from", np.int64),  # op from which on times are those of the present
)
_CONTROL = record(
    ("span_bytes", np.int64),  # addresses so far apart are on the same channel
    ("reference", np.int64),  # core whose loads are counted
    ("others", np.int64),  # loads that begin periods of other cores since
    ("is_lost", np.int64),  # a core has left its loop with periods due
    ("is_full", np.int64),  # the log is
    ("num_logged", np.int64),
    ("num_skips", np.int64),
    ("skipped_cycles", np.int64),
)
_MARK = record(
    ("is_set", np.int64),
    ("time", np.int64),
    ("next_item", np.int64),
    ("phase", np.int64),
)
_CORE_MARK = record(("num_claimed", np.int64), ("gate", np.int64), ("is_claiming", np.int64))
_UNIT_MARK = record(
    ("head", np.int64),
    ("free", np.int64),
    ("port_free", np.int64),
    ("num_requested", np.int64),
    ("is_pending", np.int64),
    ("event_at", np.int64),
)
_SKIP = record(("time", np.int64), ("cycles", np.int64))


class Steady(NamedTuple):
    """What is known of loops, and of the state a period ago."""

    loops: Any
    """[item], records; `due` is 0 where nothing was left out"""
    control: Any
    """One record"""
    mark: Any
    """One record of the state a period of the reference ago"""
    cores: Any
    """[core], the same"""
    units: Any
    """[core, unit], the same"""
    ends: Any
    """[core, unit, i], the same"""
    channels: Any
    """[channel], the same"""
    event_at: Any
    """[core, unit], cycles of the requests that are due; room"""
    log: Any
    """[i], times of ops that are done and whose places were used again"""
    log_op: Any
    """[i], op in whose place that was"""
    log_item: Any
    """[i]"""
    skips: Any
    """[skip], when, and how many cycles were left out"""
    rests: Any
    """[skip, core, unit], whether a unit did nothing in them"""
    busy: Any
    """[core, unit], cycles of the periods that were left out; see `Accounts`"""
    stalls: Any
    """[unit, cause], the same"""
    moved: Any
    """[core, unit], the same"""


def new_steady(state: State, memory: Memory) -> Steady:
    """Return what is known before the first event; the memory is flat, without an L2."""
    device: Any = memory.hbm.device
    cores, channels = len(state.cores), len(device.channel_free)
    control = np.zeros(1, _CONTROL).view(np.recarray)
    # Where there is one channel it takes all bytes, wherever they begin.
    control.span_bytes = device.interleave_bytes * channels if channels > 1 else 1
    return Steady(
        loops=np.recarray(0, LOOP),
        control=control,
        mark=np.zeros(1, _MARK).view(np.recarray),
        cores=np.zeros(cores, _CORE_MARK).view(np.recarray),
        units=np.zeros((cores, NUM_UNITS), _UNIT_MARK).view(np.recarray),
        ends=np.zeros_like(state.ends),
        channels=np.zeros(channels, np.int64),
        event_at=np.zeros((cores, NUM_UNITS), np.int64),
        log=np.recarray(_LOGGED, TIMES),
        log_op=np.zeros(_LOGGED, np.int64),
        log_item=np.zeros(_LOGGED, np.int64),
        skips=np.zeros(_SKIPS, _SKIP).view(np.recarray),
        rests=np.zeros((_SKIPS, cores, NUM_UNITS), np.bool_),
        busy=np.zeros((cores, NUM_UNITS), np.int64),
        stalls=np.zeros((NUM_UNITS, NUM_UNITS + 1), np.int64),
        moved=np.zeros((cores, NUM_UNITS), np.int64),
    )


def with_room(steady: Steady) -> Steady:
    """Return the same with room for more skips and a longer log."""
    steady.control.is_full = False
    names = ("log", "log_op", "log_item", "skips", "rests")
    return steady._replace(**{name: _doubled(getattr(steady, name)) for name in names})


def _doubled(rows: Any) -> Any:
    longer = np.zeros((2 * len(rows), *rows.shape[1:]), rows.dtype)
    longer[: len(rows)] = rows
    return longer.view(np.recarray) if rows.dtype.names else longer


@jit
def advance_steadily(state, memory, steady):
    """Handle the events as `advance` does; return whether that is done, or room is lacking first.

    Not in order is what follows a core that has left its loop with periods due: `is_lost`.
    """
    s, memory, y = borrow(state), borrowed_memory(memory), borrow(steady)
    control = y.control[0]
    begin(s)
    while has_next(s) and not control.is_lost:
        if control.is_full or control.num_skips == len(y.skips):
            return False
        time, core, unit = next_event(s.events)
        op = s.units[core, unit].head if unit == _LOAD else np.int64(NONE)
        handle_next(s, memory)
        if op >= 0 and y.loops[s.ops[op].work_item].due > 0:
            _after_load(time, core, op, s, memory.hbm.device.channel_free, y)
    return True


@jit_inline
def _after_load(time, core, op, s, channel_free, y):
    """Go back in the loop of a core if need be, and skip periods where the state repeats."""
    control, item = y.control[0], s.ops[op].work_item
    loop = y.loops[item]
    if op < loop.first_op:
        return
    if loop.kind == _UNKNOWN:
        _learn(loop, s, control.span_bytes)
    if loop.kind == _UNLIKE or op >= loop.end_op:
        control.is_lost = True
        return
    place = (op - loop.first_op) % loop.period
    if op >= loop.end_op - _AHEAD * loop.period:
        _go_back(core, item, loop, s, y)
    if place != loop.first_load:
        return
    if core != control.reference:
        control.others += 1
        if control.others <= 2 * len(s.cores):
            return
        control.reference = core
        y.mark[0].is_set = False
    control.others = 0
    most = _most_periods(s, y)
    if most == 0:
        y.mark[0].is_set = False
        return
    note_requests(s.events, y.event_at)
    if y.mark[0].is_set and _has_repeated(time, s, channel_free, y):
        _skip(time, most, s, y)
    _set_mark(time, s, channel_free, y)


@jit_inner
def _learn(loop, s, span_bytes):
    """Find out which units work in a loop, and whether its ops wait alike in every period."""
    period, kind = loop.period, _ALIKE
    loop.first_load = NONE
    for op in range(loop.first_op, loop.end_op):
        unit = np.int64(s.kinds[op])
        loop.units |= 1 << unit
        if unit == _LOAD and loop.first_load < 0:
            loop.first_load = op - loop.first_op
        if op < loop.first_op + period:
            continue
        if unit >= FIRST_MEMORY_UNIT:
            num_bytes = s.words[op, B] * s.words[op, C]
            step = s.words[op, A] - s.words[op - period, A]
            # Else a period finds its transfers begin on other channels than the one before.
            if num_bytes % span_bytes != 0 and step % span_bytes != 0:
                kind = _UNLIKE
        for other in range(NUM_UNITS):
            waits, before = s.waits[op, other], s.waits[op - period, other]
            is_near = waits >= op - period and (waits - before == period)
            # What lies before the loop is over when it matters, see `_has_repeated`.
            is_over = waits < loop.first_op and waits == before
            if not (is_near or is_over) and op >= loop.first_op + 2 * period:
                kind = _UNLIKE
    loop.kind = kind


@jit_inner
def _most_periods(s, y):
    """Return how many periods are due on every core that has work."""
    most = np.int64(1) << 60
    for core in range(len(s.cores)):
        item = _last_item(core, s)
        if item >= 0 and s.items[item].unresolved > 0:
            most = min(most, y.loops[item].due)
    return most


@jit_inner
def _last_item(core, s):
    """Return the item that a core has claimed last; NONE if it is not there any more."""
    count, in_flight = s.cores[core].num_claimed, s.run[0].items_in_flight
    return s.recent[core, (count - 1) % in_flight] if count > 0 else np.int64(NONE)


@jit_inner
def _go_back(core, item, loop, s, y):
    """Use the places of periods that are over again for periods that are due."""
    control, period = y.control[0], loop.period
    low, high = loop.end_op, np.int64(0)
    for unit in range(NUM_UNITS):
        if loop.units >> unit & 1:
            head = s.units[core, unit].head
            low, high = min(low, head), max(high, head)
    if low < 0 or high > loop.end_op:
        control.is_lost = True
        return
    back = min((low - loop.first_op) // period - _BEHIND, loop.due) * period
    if back <= 0:
        return
    if not _log(item, loop, low, s, y):
        return
    for op in range(max(low - 3 * period, loop.first_op), high):
        unit = s.kinds[op]
        own, times = s.ops[op - back], s.ops[op]
        if op < s.units[core, unit].head:
            own.start, own.end, own.cause = times.start, times.end, times.cause
    for unit in range(NUM_UNITS):
        if loop.units >> unit & 1:
            s.units[core, unit].head -= back
            s.units[core, unit].blocked_by = NONE
            y.units[core, unit].head -= back
    s.items[item].unresolved += back
    loop.due -= back // period
    loop.logged_to = low - back
    loop.known_from = max(low - 3 * period, loop.first_op) - back


@jit_inner
def _log(item, loop, low, s, y):
    """Keep the times of all ops of an item before `low`; return whether there is room."""
    control = y.control[0]
    at = control.num_logged
    if at + low - loop.logged_to > len(y.log_op):
        control.is_full = True
        return False
    for op in range(loop.logged_to, low):
        own, times = y.log[at], s.ops[op]
        own.start, own.end, own.busy = times.start, times.end, times.busy
        own.unit, own.cause = times.unit, times.cause
        y.log_op[at], y.log_item[at] = op, item
        at += 1
    control.num_logged = at
    return True


@jit_inner
def _set_mark(time, s, channel_free, y):
    """Remember the state."""
    mark, run = y.mark[0], s.run[0]
    mark.is_set, mark.time = True, time
    mark.next_item, mark.phase = run.next_item, run.phase
    y.channels[:] = channel_free
    for core in range(len(s.cores)):
        own = y.cores[core]
        own.num_claimed, own.gate = s.cores[core].num_claimed, s.cores[core].gate
        own.is_claiming = s.cores[core].is_claiming
        for unit in range(NUM_UNITS):
            queue, old = s.units[core, unit], y.units[core, unit]
            old.head, old.free, old.port_free = queue.head, queue.free, queue.port_free
            old.num_requested, old.is_pending = queue.num_requested, queue.is_pending
            old.event_at = y.event_at[core, unit]
            for i in range(s.ends.shape[2]):
                y.ends[core, unit, i] = s.ends[core, unit, i]


@jit_inner
def _is_later(now, before, time, cycles):
    """Whether a moment is `cycles` after the one before, or both were over by then."""
    return now - before == cycles or (before <= time and now <= time + cycles)


@jit_inner
def _has_repeated(time, s, channel_free, y):
    """Whether the state relative to the clock is what it was at the mark, loops a period on."""
    mark, run = y.mark[0], s.run[0]
    cycles = time - mark.time
    if run.next_item != mark.next_item or run.phase != mark.phase:
        return False
    if run.phase_opened_at > mark.time:
        return False
    for channel in range(len(channel_free)):
        before, now = y.channels[channel], channel_free[channel]
        if not _is_later(now, before, mark.time * SUBCYCLES, cycles * SUBCYCLES):
            return False
    has_repeated = True
    for core in range(len(s.cores)):
        has_repeated = has_repeated and _core_has_repeated(core, cycles, s, y)
    return has_repeated


@jit_inner
def _core_has_repeated(core, cycles, s, y):
    own, old, last = s.cores[core], y.cores[core], _last_item(core, s)
    if own.is_claiming or old.is_claiming or own.num_claimed != old.num_claimed:
        return False
    works = last >= 0 and s.items[last].unresolved > 0
    if not _has_ended_others(core, last if works else np.int64(NONE), s, y):
        return False
    if works:
        loop = y.loops[last]
        has_moved = own.gate - old.gate == cycles and loop.kind == _ALIKE
        return has_moved and _loop_has_repeated(core, last, loop, cycles, s, y)
    for unit in range(NUM_UNITS):
        if not _rests(core, unit, NONE, s, y):
            return False
    return own.gate == old.gate and own.gate <= y.mark[0].time


@jit_inner
def _has_ended_others(core, last, s, y):
    """Whether all items that a core claimed lately had ended at the mark, but for the last one."""
    for i in range(min(s.run[0].items_in_flight, s.cores[core].num_claimed)):
        item = s.recent[core, i]
        if item >= 0 and item != last:
            own = s.items[item]
            if own.unresolved > 0 or own.retired_at > y.mark[0].time:
                return False
    return True


@jit_inner
def _loop_has_repeated(core, item, loop, cycles, s, y):
    """Whether a core is where it was in its loop at the mark, a period on."""
    low, high = loop.end_op, np.int64(0)
    for unit in range(NUM_UNITS):
        if loop.units >> unit & 1:
            if not _unit_has_repeated(core, unit, loop, cycles, s, y):
                return False
            head = y.units[core, unit].head
            low, high = min(low, head), max(high, head)
        elif not _rests(core, unit, loop.end_op, s, y):
            return False
    low -= loop.period
    if low < max(loop.first_op, loop.known_from):
        return False
    if loop.before_end < 0:
        loop.before_end = 0
        for op in range(s.items[item].first_op, loop.first_op):
            loop.before_end = max(loop.before_end, s.ops[op].end)
    if loop.before_end > y.mark[0].time:
        return False
    return _ops_have_repeated(core, low, high, loop.period, cycles, s, y)


@jit_inner
def _ops_have_repeated(core, low, high, period, cycles, s, y):
    """Whether what later ops could wait for has ended a period later, relative to the clock."""
    for op in range(low, high):
        if op < y.units[core, s.kinds[op]].head:
            before, now = s.ops[op].end, s.ops[op + period].end
            if not _is_later(now, before, y.mark[0].time, cycles):
                return False
    return True


@jit_inner
def _rests(core, unit, end_op, s, y):
    """Whether a unit of a core has done nothing since the mark, and nothing of it was left then.

    end_op: its next op comes after the loop; NONE: there is none.
    """
    queue, old, start = s.units[core, unit], y.units[core, unit], y.mark[0].time
    if queue.head != old.head or queue.is_pending or old.is_pending:
        return False
    if queue.head >= 0 and (end_op == NONE or queue.head < end_op):
        return False
    if queue.free != old.free or queue.free > start or queue.num_requested != old.num_requested:
        return False
    for i in range(queue.in_flight):
        if s.ends[core, unit, i] > start:
            return False
    return queue.port_free <= start * SUBCYCLES


@jit_inner
def _unit_has_repeated(core, unit, loop, cycles, s, y):
    """Whether a unit is where it was at the mark, a period on."""
    queue, old, start = s.units[core, unit], y.units[core, unit], y.mark[0].time
    if queue.head - old.head != loop.period or queue.free - old.free != cycles:
        return False
    if old.head < loop.first_op or queue.head >= loop.end_op:
        return False
    if unit < FIRST_MEMORY_UNIT:
        return True
    if queue.is_pending != old.is_pending or old.num_requested < queue.in_flight:
        return False
    if queue.is_pending and y.event_at[core, unit] - old.event_at != cycles:
        return False
    if not _is_later(queue.port_free, old.port_free, start * SUBCYCLES, cycles * SUBCYCLES):
        return False
    for i in range(queue.in_flight):
        now = s.ends[core, unit, (queue.num_requested + i) % queue.in_flight]
        before = y.ends[core, unit, (old.num_requested + i) % queue.in_flight]
        if not _is_later(now, before, start, cycles):
            return False
    return True


@jit_inner
def _skip(time, periods, s, y):
    """Take so many periods of all loops as done: add them up, and let time stand still."""
    control, cycles = y.control[0], time - y.mark[0].time
    for core in range(len(s.cores)):
        for unit in range(NUM_UNITS):
            y.rests[control.num_skips, core, unit] = (
                s.units[core, unit].head == y.units[core, unit].head
            )
        item = _last_item(core, s)
        if item >= 0 and s.items[item].unresolved > 0:
            y.loops[item].due -= periods
            _add_period(core, y.loops[item], periods, s, y)
    skip = y.skips[control.num_skips]
    skip.time, skip.cycles = time, periods * cycles
    control.num_skips += 1
    control.skipped_cycles += periods * cycles


@jit_inner
def _add_period(core, loop, periods, s, y):
    """Add what the last period of a core took, so many times."""
    for unit in range(NUM_UNITS):
        if not loop.units >> unit & 1:
            continue
        head, free = s.units[core, unit].head, np.int64(0)
        for op in range(y.units[core, unit].head - loop.period, head):
            times = s.ops[op]
            if s.kinds[op] != unit:
                continue
            is_new = op >= head - loop.period
            if unit >= FIRST_MEMORY_UNIT:
                if is_new:
                    y.busy[core, unit] += periods * (times.end - max(times.start, free))
                    y.moved[core, unit] += periods * s.words[op, B] * s.words[op, C]
                free = times.end
            else:
                if is_new:
                    y.busy[core, unit] += periods * times.busy
                    if times.cause >= 0:
                        y.stalls[unit, times.cause] += periods * (times.start - free)
                free = times.start + times.busy


@jit
def unrolled(state, steady, count, starts, words, ops, rested):
    """Write words and times of all ops that the first items have done, and where items begin.

    What was logged of them is forgotten. rested: [core, unit], skips that are accounted of each
    unit; what units waited for longer than the shorter run says is added to the stalls.
    """
    s, y = borrow(state), borrow(steady)
    starts, words, ops, rested = borrow(starts), borrow(words), borrow(ops), borrow(rested)
    _begin_items(count, starts, s.items, y)
    _place_logged(count, starts, words, ops, s.words, y)
    # Each start has moved on to where the ops that are there follow.
    for item in range(count):
        at = starts[item]
        for op in range(y.loops[item].logged_to, s.items[item].end_op):
            _copy(op, s.ops[op], at, s.words, words, ops)
            at += 1
        starts[item] = at
    starts[count] = starts[count - 1] if count > 0 else 0
    for item in range(count - 1, 0, -1):
        starts[item] = starts[item - 1]
    starts[0] = 0
    if y.control[0].num_skips > 0:
        for item in range(count):
            for op in range(starts[item], starts[item + 1]):
                _add_rest(s.items[item].core, ops[op], rested, y)


@jit_inner
def _begin_items(count, starts, items, y):
    """Find where the ops begin that each of the first items has done."""
    for item in range(count):
        starts[item] = items[item].end_op - y.loops[item].logged_to
    for i in range(y.control[0].num_logged):
        if y.log_item[i] < count:
            starts[y.log_item[i]] += 1
    at = 0
    for item in range(count):
        own = starts[item]
        starts[item] = at
        at += own


@jit_inner
def _place_logged(count, starts, to_words, to_ops, words, y):
    """Move what was logged of the first items to where they begin, and on from there."""
    left = 0
    for i in range(y.control[0].num_logged):
        item, op, times = y.log_item[i], y.log_op[i], y.log[i]
        if item < count:
            _copy(op, times, starts[item], words, to_words, to_ops)
            starts[item] += 1
        else:
            own = y.log[left]
            own.start, own.end, own.busy = times.start, times.end, times.busy
            own.unit, own.cause = times.unit, times.cause
            y.log_item[left], y.log_op[left] = item, op
            left += 1
    y.control[0].num_logged = left


@jit_inline
def _copy(op, times, at, words, to_words, to_ops):
    for word in range(WORDS):
        to_words[at, word] = words[op, word]
    own = to_ops[at]
    own.start, own.end, own.busy = times.start, times.end, times.busy
    own.unit, own.cause = times.unit, times.cause


@jit_inline
def _add_rest(core, times, rested, y):
    """Add the cycles left out before an op while its unit waited for it."""
    if times.unit < FIRST_MEMORY_UNIT:
        skip = rested[core, times.unit]
        while skip < y.control[0].num_skips and y.skips[skip].time <= times.start:
            if y.rests[skip, core, times.unit] and times.cause >= 0:
                y.stalls[times.unit, times.cause] += y.skips[skip].cycles
            skip += 1
        rested[core, times.unit] = skip
