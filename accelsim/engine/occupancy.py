"""How many bytes of the scratchpad hold something that is still needed, over the time of a run."""

import numpy as np

from accelsim.engine.schedule import Cycles, Schedule
from accelsim.jit import jit, jit_inner
from accelsim.program.ops import READS, SLOT_BITS, SLOTS_PER_WORD, WRITES

_SLOT_MASK = (1 << SLOT_BITS) - 1
_NOT_ALIVE = -1


def scratchpad_use(schedule: Schedule) -> tuple[Cycles, Cycles, Cycles]:
    """Return core, cycle and bytes in use from then on, for every change, in the order of time.

    A tile is in use from the start of the op that writes it anew to the end of its last reader.
    """
    program = schedule.program
    slot_bytes = np.zeros(program.num_slots + 1, np.int64)
    for buffer in program.buffers:
        if buffer.memory == "scratchpad":
            slot_bytes[buffer.first_slot : buffer.first_slot + buffer.slots] = buffer.slot_bytes
    core, begin, end, size = _lives(
        program.ops, schedule.op_core, schedule.start, schedule.end, slot_bytes, schedule.cores
    ).T
    core, cycle = np.concatenate([core, core]), np.concatenate([begin, end])
    change = np.concatenate([size, -size])
    # What ends in a cycle makes room for what begins in it.
    order = np.lexsort((change, cycle, core))
    core, cycle, change = core[order], cycle[order], change[order]
    # Every core ends with nothing in use, so one running sum serves all of them.
    used = np.cumsum(change)
    in_time = np.argsort(cycle, kind="stable")
    return core[in_time], cycle[in_time], used[in_time]


def scratchpad_held_peak_bytes(schedule: Schedule) -> int:
    """Return the most bytes that are in use at once on any core."""
    return int(scratchpad_use(schedule)[2].max(initial=0))


@jit
def _lives(ops, cores, start, end, slot_bytes, num_cores):
    """Rows (core, begin, end, bytes), one for every value that a slot of the scratchpad held."""
    slots = len(slot_bytes)
    begin = np.full((num_cores, slots), _NOT_ALIVE, np.int64)
    last = np.zeros((num_cores, slots), np.int64)
    lives = np.empty((SLOTS_PER_WORD * len(ops), 4), np.int64)  # each write begins at most one
    count = 0
    # Items are claimed in program order on every core, so op order is each core's order.
    for i in range(len(ops)):
        core = cores[i]
        for shift in range(0, SLOTS_PER_WORD * SLOT_BITS, SLOT_BITS):
            slot = (ops[i, WRITES] >> shift) & _SLOT_MASK
            if slot_bytes[slot] and not _has(ops[i, READS], slot):
                count = _end_life(lives, count, core, slot, begin, last, slot_bytes)
                begin[core, slot], last[core, slot] = start[i], end[i]
        for word in (READS, WRITES):
            for shift in range(0, SLOTS_PER_WORD * SLOT_BITS, SLOT_BITS):
                slot = (ops[i, word] >> shift) & _SLOT_MASK
                last[core, slot] = max(last[core, slot], end[i])
    for core in range(num_cores):
        for slot in range(slots):
            count = _end_life(lives, count, core, slot, begin, last, slot_bytes)
    return lives[:count]


@jit_inner
def _has(word, slot):
    for shift in range(0, SLOTS_PER_WORD * SLOT_BITS, SLOT_BITS):
        if (word >> shift) & _SLOT_MASK == slot:
            return True
    return False


@jit_inner
def _end_life(lives, count, core, slot, begin, last, slot_bytes):
    if begin[core, slot] == _NOT_ALIVE:
        return count
    lives[count, 0], lives[count, 1] = core, begin[core, slot]
    lives[count, 2], lives[count, 3] = last[core, slot], slot_bytes[slot]
    begin[core, slot] = _NOT_ALIVE
    return count + 1
