"""How many bytes of a core's scratchpad hold something that is still needed.

A tile is in use from the start of the op that writes it anew to the end of its last reader.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import LATER_SLOTS, SLOT_BITS, SLOT_MASK, SLOTS_PER_WORD
from accelsim.program.program import Declared
from accelsim.runtime.jit import jit_inline, jit_inner

_NEVER = -1
_START, _MOST = range(2)
"""Of a cell of time: what is in use at its begin, and the most that could be within it."""
_NUMBER = _MOST
"""In the place of the most: which of the cells it is that are cut again."""
_LEFT_OUT = -1


class Holding(NamedTuple):
    """The slots of one core while its ops go by in their order, and the changes found."""

    slot_bytes: Any
    """[slot], 0 where it is in another memory"""
    begin: Any
    """[slot], start of the use of what it holds"""
    last: Any
    """[slot], latest end of an op that touched it"""
    moments: Any
    """[change], 2 cycle, and 1 more where use begins: what ends makes room for what begins"""
    changes: Any
    """[change], bytes that come in use at that moment, or less than 0"""
    count: Any
    """Changes found, one number"""
    cells: Any
    """[cell, 2], room for what is known of cells of time"""
    starts: Any
    """[cell], room for what is in use where those begin that are cut again"""


def new_holding(program: Declared, num_ops: int, more: int = 0) -> Holding:
    """Return the empty slots of a core, with room for the changes of so many ops, and more."""
    slot_bytes = _slot_bytes(program)
    begin = np.full(len(slot_bytes), _NEVER)
    most = 2 * SLOTS_PER_WORD * num_ops + more  # Each write begins one use at most.
    return Holding(
        slot_bytes=slot_bytes,
        begin=begin,
        last=begin.copy(),
        moments=np.empty(most, np.int64),
        changes=np.empty(most, np.int64),
        count=np.zeros(1, np.int64),
        # Two cells for each change that adds, of which there may be no others.
        cells=np.empty((2 * most, 2), np.int64),
        starts=np.empty(most + 1, np.int64),
    )


def _slot_bytes(program: Declared) -> npt.NDArray[np.int64]:
    slot_bytes = np.zeros(program.num_slots + 1, np.int64)
    for buffer in program.buffers:
        if buffer.memory == "scratchpad":
            slot_bytes[buffer.first_slot : buffer.first_slot + buffer.slots] = buffer.slot_bytes
    return slot_bytes


@jit_inline
def touch(reads, writes, start, end, holding):
    """Note what an op does to the slots of its core."""
    word = writes
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        if holding.slot_bytes[slot] and not _has(reads, slot):
            # A use that ends as the next one begins leaves nothing free in between.
            if holding.begin[slot] == _NEVER or holding.last[slot] != start:
                _end_use(slot, holding)
                holding.begin[slot] = start
            holding.last[slot] = end
        holding.last[slot] = max(holding.last[slot], end)
    word = reads
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        holding.last[slot] = max(holding.last[slot], end)


@jit_inline
def end_all_uses(holding):
    """Note that nothing is needed once all ops of a core have gone by."""
    for slot in range(holding.slot_bytes.size):
        _end_use(slot, holding)
        holding.last[slot] = _NEVER


@jit_inline
def note_change(moment, change, holding):
    """Note that `change` bytes come in use at a moment."""
    at = holding.count[0]
    holding.moments[at], holding.changes[at] = moment, change
    holding.count[0] = at + 1


@jit_inline
def _has(word, slot):
    while word:
        if word & SLOT_MASK == slot:
            return True
        word = (word >> SLOT_BITS) & LATER_SLOTS
    return False


@jit_inline
def _end_use(slot, holding):
    if holding.begin[slot] != _NEVER:
        size = holding.slot_bytes[slot]
        note_change(2 * holding.begin[slot] + 1, size, holding)
        note_change(2 * holding.last[slot], -size, holding)
        holding.begin[slot] = _NEVER


@jit_inner
def highest_use(holding, highest):
    """Return the most bytes in use after any change that was found, if that is above `highest`.

    Time is cut into cells, about as many as changes. Only in cells that could exceed what is in use
    between any two of them does the order of the changes matter. These are cut again, down to
    single moments. The changes are used up.
    """
    moments, changes, cells, starts = (
        holding.moments,
        holding.changes,
        holding.cells,
        holding.starts,
    )
    count, kept, shift = holding.count[0], 1, _bits_of_latest(holding)
    holding.count[0] = 0
    highest = max(highest, 0)
    if count > 0:
        starts[0] = 0  # One cell, which begins with nothing in use.
    while count > 0:
        bits = 1
        while bits < shift and kept << (bits + 1) <= count:
            bits += 1
        shift -= bits
        highest = _sum_up(count, kept, bits, shift, holding, highest)
        num_cells, kept = kept << bits, 0
        for cell in range(num_cells):
            number = _LEFT_OUT
            if cells[cell, _MOST] > highest:
                starts[kept], number = cells[cell, _START], kept
                kept += 1
            cells[cell, _NUMBER] = number
        left, mask = 0, (1 << shift) - 1
        for i in range(count):
            number = cells[moments[i] >> shift, _NUMBER]
            if number != _LEFT_OUT:
                moments[left], changes[left] = number << shift | moments[i] & mask, changes[i]
                left += 1
        count = left
    return highest


@jit_inner
def _sum_up(count, kept, bits, shift, holding, highest):
    """Find what is in use where cells begin, and the most that could be within them.

    Returns the most in use between two cells.
    """
    moments, changes, cells, starts = (
        holding.moments,
        holding.changes,
        holding.cells,
        holding.starts,
    )
    for cell in range(kept << bits):
        cells[cell, _START] = cells[cell, _MOST] = 0
    for i in range(count):
        cell = moments[i] >> shift
        cells[cell, _START] += changes[i]
        cells[cell, _MOST] += max(changes[i], 0)
    for first in range(kept):
        in_use = starts[first]
        for cell in range(first << bits, (first + 1) << bits):
            net = cells[cell, _START]
            cells[cell, _START] = in_use
            cells[cell, _MOST] += in_use
            in_use += net
            highest = max(highest, in_use)
    return highest


@jit_inner
def _bits_of_latest(holding):
    latest, bits = 0, 1
    for i in range(holding.count[0]):
        latest = max(latest, holding.moments[i])
    while latest >> bits:
        bits += 1
    return bits
