"""What each op waits for within its work item, and which ops other items have to know of.

Which ops touch a tile before another one follows from the words of an item alone, whenever and
wherever it runs. Only the first touches of an item wait for the items before it on its core, and
only the last ones matter to those after it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import (
    LATER_SLOTS,
    NUM_UNITS,
    READS,
    SLOT_BITS,
    SLOT_MASK,
    SLOTS_PER_WORD,
    WRITES,
)
from accelsim.program.program import Program
from accelsim.runtime.jit import borrow, jit, jit_inline, jit_inner

NONE = -1
"""Index of no op or item, such as one that is over."""
WRITE = NUM_UNITS
"""Place of the last write of a slot, after the last reads by each unit."""
TOUCHES = NUM_UNITS + 1
"""Places of a slot."""
FIRST_READ, LAST_READ, FIRST_WRITE, LAST_WRITE = (1 << SLOTS_PER_WORD * i for i in range(4))
"""Bits of the touch of the first slot of an op; that of the next slot is the next bit.

A first touch comes before any write of its item. A last write is the last of its item. A last read
comes after any write of its item, and before no other read by its unit."""
FIRST_OF_UNIT, LAST_OF_UNIT = (1 << 4 * SLOTS_PER_WORD + i for i in range(2))
"""Bits of the first and the last op of a unit in an item."""
WAITS_SHIFT = 4 * SLOTS_PER_WORD + 2
"""The bits above them are those of the units that an op waits for."""
EDGES = FIRST_OF_UNIT - 1
"""All bits of touches."""
ALL_UNITS = (1 << NUM_UNITS) - 1
MEETS_OTHERS = (1 << WAITS_SHIFT) - 1
"""All bits of what other items matter to."""


class Hazards(NamedTuple):
    """What follows from the slots of a program, item by item."""

    waits: npt.NDArray[np.int32]
    """[op, unit], the last op of its item of each unit that an op waits for, or NONE"""
    marks: npt.NDArray[np.int32]
    """[op], bits: touches that matter to other items, ends of units, units that `waits` has"""
    steps: npt.NDArray[np.int32]
    """[op], ops to the next one of the same unit in its item, or 0"""


def hazards_of(program: Program) -> Hazards:
    """Return the hazards within the items of a program."""
    return program.find("hazards", lambda: _hazards_of(program))


def _hazards_of(program: Program) -> Hazards:
    waits = np.empty((program.num_ops, NUM_UNITS), np.int32)
    marks, steps = np.zeros((2, program.num_ops), np.int32)
    touched = np.full((program.num_slots + 1, TOUCHES), NONE, np.int32)
    later = np.full((program.num_slots + 1, TOUCHES), NONE, np.int32)
    found = Hazards(waits, marks, steps)
    _find(program.ops, program.units, program.item_start, found, touched, later)
    return found


@jit
def _find(words, kinds, item_start, found, touched, later):
    """Fill in the hazards; touched: [slot, place], the last op that touched a slot; later: the
    same, the item whose later ops do."""
    words, kinds, touched, later = borrow(words), borrow(kinds), borrow(touched), borrow(later)
    found = borrow(found)
    after = np.zeros(NUM_UNITS, np.int64)
    for item in range(item_start.size - 1):
        first, end = item_start[item], item_start[item + 1]
        for op in range(first, end):
            found.marks[op] = _wait(op, first, words, kinds, found.waits, touched)
        after[:] = end
        for op in range(end - 1, first - 1, -1):
            found.marks[op] |= _last_touches(op, item, words, kinds, later)
            unit = kinds[op]
            if after[unit] < end:
                found.steps[op] = after[unit] - op
            else:
                found.marks[op] |= LAST_OF_UNIT
            after[unit] = op
        for unit in range(NUM_UNITS):
            if after[unit] < end:
                found.marks[after[unit]] |= FIRST_OF_UNIT


@jit_inner
def _wait(op, first, words, kinds, waits, touched):
    """Find what an op waits for since op `first`; return its marks but for its last touches."""
    unit, bits = kinds[op], 0
    for other in range(NUM_UNITS):
        waits[op, other] = NONE
    word, bit = words[op, READS], FIRST_READ
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        write = touched[slot, WRITE]
        if write >= first:
            waits[op, kinds[write]] = max(waits[op, kinds[write]], write)
        else:
            bits |= bit
        touched[slot, unit] = op
        bit <<= 1
    word, bit = words[op, WRITES], FIRST_WRITE
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        for other in range(NUM_UNITS):
            reader = touched[slot, other]
            if reader >= first:
                waits[op, other] = max(waits[op, other], reader)
            touched[slot, other] = NONE
        write = touched[slot, WRITE]
        if write >= first:
            waits[op, kinds[write]] = max(waits[op, kinds[write]], write)
        else:
            bits |= bit
        touched[slot, WRITE] = op
        bit <<= 1
    # A unit runs its own ops in order and forwards results, so it never waits for itself.
    waits[op, unit] = NONE
    return bits | _units_in(waits, op) << WAITS_SHIFT


@jit_inner
def _units_in(waits, op):
    """Return the bits of the units that an op waits for."""
    bits = 0
    for unit in range(NUM_UNITS):
        bits |= (waits[op, unit] >= 0) << unit
    return bits


@jit_inner
def _last_touches(op, item, words, kinds, later):
    """Return the bits of the touches of an op that no later op of its item makes irrelevant."""
    unit, bits = kinds[op], 0
    word, bit = words[op, WRITES], LAST_WRITE
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        if later[slot, WRITE] != item:
            bits |= bit
            later[slot, WRITE] = item
        bit <<= 1
    word, bit = words[op, READS], LAST_READ
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        if later[slot, WRITE] != item and later[slot, unit] != item:
            bits |= bit
            later[slot, unit] = item
        bit <<= 1
    return bits


@jit_inner
def meet_other_items(op, core, marks, words, kinds, waits, touched):
    """Let an op wait for items before its own on a core, and later ones for it.

    touched: [core, slot, place], the last op that touched a slot.
    """
    unit = kinds[op]
    word, bits = words[op, READS], marks
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        if bits & FIRST_READ:
            _wait_for_write(op, touched[core, slot, WRITE], kinds, waits)
        if bits & LAST_READ:
            touched[core, slot, unit] = op
        bits >>= 1
    word, bits = words[op, WRITES], marks
    while word:
        slot = word & SLOT_MASK
        word = (word >> SLOT_BITS) & LATER_SLOTS
        if bits & FIRST_WRITE:
            for other in range(NUM_UNITS):
                # NONE is less than any op: without a question there is no wrong guess.
                waits[op, other] = max(waits[op, other], touched[core, slot, other])
            _wait_for_write(op, touched[core, slot, WRITE], kinds, waits)
        if bits & LAST_WRITE:
            for other in range(NUM_UNITS):
                touched[core, slot, other] = NONE
            touched[core, slot, WRITE] = op
        bits >>= 1
    waits[op, unit] = NONE


@jit_inline
def units_waited_for(marks):
    """Return the bits of the units that an op may wait for."""
    # What other items add is not among the marks.
    return ALL_UNITS if marks & EDGES else marks >> WAITS_SHIFT


@jit_inner
def _wait_for_write(op, write, kinds, waits):
    if write >= 0:
        waits[op, kinds[write]] = max(waits[op, kinds[write]], write)
