"""How many bytes of a core's scratchpad hold something that is still needed.

A tile is in use from the start of the op that writes it anew to the end of its last reader.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import LATER_SLOTS, SLOT_BITS, SLOT_MASK, SLOTS_PER_WORD
from accelsim.program.program import Program
from accelsim.runtime.jit import jit_inline, jit_inner

_NOT_IN_USE = -1
_NET, _MOST = range(2)
"""Of a span: what it adds to what is in use, and the most that could be in use within it."""
_DIGIT_BITS = 11  # two digits for most cores
_DIGIT_MASK = (1 << _DIGIT_BITS) - 1


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


def new_holding(program: Program, num_ops: int) -> Holding:
    """Return the empty slots of a core, with room for the changes of so many ops."""
    slot_bytes = _slot_bytes(program)
    begin = np.full(len(slot_bytes), _NOT_IN_USE)
    most = 2 * SLOTS_PER_WORD * num_ops  # Each write begins one use at most.
    moments, changes = np.empty(most, np.int64), np.empty(most, np.int64)
    return Holding(slot_bytes, begin, np.zeros_like(begin), moments, changes, np.zeros(1, np.int64))


def _slot_bytes(program: Program) -> npt.NDArray[np.int64]:
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
            _end_use(slot, holding)
            holding.begin[slot], holding.last[slot] = start, end
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


@jit_inline
def _has(word, slot):
    while word:
        if word & SLOT_MASK == slot:
            return True
        word = (word >> SLOT_BITS) & LATER_SLOTS
    return False


@jit_inline
def _end_use(slot, holding):
    if holding.begin[slot] != _NOT_IN_USE:
        at, size = holding.count[0], holding.slot_bytes[slot]
        holding.moments[at], holding.changes[at] = 2 * holding.begin[slot] + 1, size
        holding.moments[at + 1], holding.changes[at + 1] = 2 * holding.last[slot], -size
        holding.count[0] = at + 2
        holding.begin[slot] = _NOT_IN_USE


@jit_inner
def highest_use(moments, changes, highest):
    """Return the most bytes in use after any change, if that is more than `highest`.

    Time is cut into spans, about two changes each. Only in spans that could exceed what is in use
    between any two of them does the order of the changes matter; few are left.
    """
    shift, num_spans = _spans(moments)
    spans = np.zeros((num_spans, 2), np.int64)
    for i in range(len(moments)):
        span = moments[i] >> shift
        spans[span, _NET] += changes[i]
        spans[span, _MOST] += max(changes[i], 0)
    in_use = 0
    for span in range(num_spans):
        spans[span, _MOST] += in_use
        in_use += spans[span, _NET]
        highest = max(highest, in_use)
    return _highest_within(moments, changes, highest, shift, spans)


@jit_inner
def _spans(moments):
    """Return the bits of a moment within a span, and the number of spans."""
    latest, shift = 0, 0
    for moment in moments:
        latest = max(latest, moment)
    while (latest >> shift) > len(moments):
        shift += 1
    return shift, (latest >> shift) + 1


@jit_inner
def _highest_within(moments, changes, highest, shift, spans):
    """Return the most in use within the spans that could exceed `highest`."""
    kept, count = np.empty((2, len(moments) + len(spans)), np.int64), 0
    in_use, followed = 0, 0
    for span in range(len(spans)):
        if spans[span, _MOST] > highest:
            # One change for all spans left out before this one.
            kept[0, count], kept[1, count] = span << shift, in_use - followed
            count += 1
            followed = in_use + spans[span, _NET]
        in_use += spans[span, _NET]
    for i in range(len(moments) if count else 0):
        if spans[moments[i] >> shift, _MOST] > highest:
            kept[0, count], kept[1, count] = moments[i], changes[i]
            count += 1
    in_use = 0
    for change in _in_order(kept[0, :count], kept[1, :count]):
        in_use += change
        highest = max(highest, in_use)
    return highest


@jit_inner
def _in_order(keys, values):
    """Return values in the order of their keys, sorted digit by digit."""
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
    return values
