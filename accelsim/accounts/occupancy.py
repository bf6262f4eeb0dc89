"""How many bytes of the scratchpad hold something that is still needed, over the time of a run."""

from typing import Any

import numpy as np

from accelsim.engine.schedule import Cycles, Schedule
from accelsim.program.ops import (
    LATER_SLOTS,
    READS,
    SLOT_BITS,
    SLOT_MASK,
    SLOTS_PER_WORD,
    WRITES,
)
from accelsim.runtime.jit import jit, jit_inner

_NOT_ALIVE = -1
_DIGIT_BITS = 14  # two digits for most runs, with places that a core's cache holds
_DIGIT_MASK = (1 << _DIGIT_BITS) - 1


def scratchpad_use(schedule: Schedule) -> tuple[Cycles, Cycles, Cycles]:
    """Return core, cycle and bytes in use from then on, for every change, in the order of time.

    A tile is in use from the start of the op that writes it anew to the end of its last reader.
    """
    core, cycle, used = _use_by_core(schedule)
    in_time = np.argsort(cycle, kind="stable")
    return core[in_time], cycle[in_time], used[in_time]


def scratchpad_held_peak_bytes(schedule: Schedule) -> int:
    """Return the most bytes that are in use at once on any core."""
    _, changes = _changes(*_arguments(schedule))
    return int(_highest_sum(changes))


def _use_by_core(schedule: Schedule) -> tuple[Cycles, Cycles, Cycles]:
    """Return what `scratchpad_use` returns, but one core after the other."""
    *ops, span = _arguments(schedule)
    moments, changes = _changes(*ops, span)
    core, half_cycle = np.divmod(moments, span)
    # Every core ends with nothing in use, so one running sum serves all of them.
    return core, half_cycle // 2, np.cumsum(changes)


def _arguments(schedule: Schedule) -> tuple[Any, ...]:
    """Return what `_changes` takes."""
    program = schedule.program
    slot_bytes = np.zeros(program.num_slots + 1, np.int64)
    for buffer in program.buffers:
        if buffer.memory == "scratchpad":
            slot_bytes[buffer.first_slot : buffer.first_slot + buffer.slots] = buffer.slot_bytes
    item_ops = (program.item_start, schedule.core, schedule.cores)
    span = 2 * schedule.cycles + 2
    return program.ops, item_ops, schedule.start, schedule.end, slot_bytes, span


@jit
def _highest_sum(changes):
    total, highest = 0, 0
    for change in changes:
        total += change
        highest = max(highest, total)
    return highest


@jit
def _changes(ops, item_ops, start, end, slot_bytes, span):
    """Moments at which a core uses more bytes of its scratchpad or fewer, in order, and how many.

    A moment is core x span + 2 cycle, and 1 more where use begins: what ends in a cycle makes room
    for what begins in it. item_ops: first op of every item, its core, and how many cores there are.
    """
    lives = _lives(ops, item_ops, start, end, slot_bytes)
    moments, changes = np.empty(2 * len(lives), np.int64), np.empty(2 * len(lives), np.int64)
    for i in range(len(lives)):
        core, begin, last, size = lives[i]
        moments[2 * i], changes[2 * i] = core * span + 2 * begin + 1, size
        moments[2 * i + 1], changes[2 * i + 1] = core * span + 2 * last, -size
    return _in_order(moments, changes)


@jit_inner
def _in_order(keys, values):
    """Keys and values, sorted digit by digit: to compare keys takes thrice as long."""
    sorted_keys, sorted_values = np.empty_like(keys), np.empty_like(values)
    largest, shift = 0, 0
    for key in keys:
        largest = max(largest, key)
    while largest >> shift:
        places = np.zeros((1 << _DIGIT_BITS) + 1, np.int64)
        for key in keys:
            places[((key >> shift) & _DIGIT_MASK) + 1] += 1
        places = np.cumsum(places)
        for i in range(len(keys)):
            digit = (keys[i] >> shift) & _DIGIT_MASK
            sorted_keys[places[digit]], sorted_values[places[digit]] = keys[i], values[i]
            places[digit] += 1
        keys, sorted_keys = sorted_keys, keys
        values, sorted_values = sorted_values, values
        shift += _DIGIT_BITS
    return keys, values


@jit_inner
def _lives(ops, item_ops, start, end, slot_bytes):
    """Rows (core, begin, end, bytes), one for every value that a slot of the scratchpad held."""
    item_start, item_core, num_cores = item_ops
    slots = len(slot_bytes)
    begin = np.full((num_cores, slots), _NOT_ALIVE, np.int64)
    last = np.zeros((num_cores, slots), np.int64)
    lives = np.empty((SLOTS_PER_WORD * len(ops), 4), np.int64)  # each write begins at most one
    count = 0
    # Items are claimed in program order on every core, so op order is each core's order.
    for item in range(len(item_core)):
        core = item_core[item]
        for i in range(item_start[item], item_start[item + 1]):
            reads, writes = ops[i, READS], ops[i, WRITES]
            while writes:
                slot = writes & SLOT_MASK
                if slot_bytes[slot] and not _has(reads, slot):
                    count = _end_life(lives, count, core, slot, begin, last, slot_bytes)
                    begin[core, slot], last[core, slot] = start[i], end[i]
                last[core, slot] = max(last[core, slot], end[i])
                writes = (writes >> SLOT_BITS) & LATER_SLOTS
            while reads:
                slot = reads & SLOT_MASK
                last[core, slot] = max(last[core, slot], end[i])
                reads = (reads >> SLOT_BITS) & LATER_SLOTS
    for core in range(num_cores):
        for slot in range(slots):
            count = _end_life(lives, count, core, slot, begin, last, slot_bytes)
    return lives[:count]


@jit_inner
def _has(word, slot):
    while word:
        if word & SLOT_MASK == slot:
            return True
        word = (word >> SLOT_BITS) & LATER_SLOTS
    return False


@jit_inner
def _end_life(lives, count, core, slot, begin, last, slot_bytes):
    if begin[core, slot] == _NOT_ALIVE:
        return count
    lives[count, 0], lives[count, 1] = core, begin[core, slot]
    lives[count, 2], lives[count, 3] = last[core, slot], slot_bytes[slot]
    begin[core, slot] = _NOT_ALIVE
    return count + 1
