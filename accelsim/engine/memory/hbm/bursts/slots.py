"""Calendars of time slots, one bit each, kept for a stretch of time in a ring of words.

A slot is free or taken; who needs one takes the first free one from some slot on. Words are reused:
a slot belongs to the ring only from the first word that its owner still keeps, for `NUM_WORDS`.
"""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, overload

from accelsim.runtime.jit import jit_inline

WORD_BITS = 6
WORD_SLOTS = 1 << WORD_BITS
"""Slots of a word, the bits of an int64."""
NUM_WORDS = 64
KEPT_WORDS = NUM_WORDS // 2
"""Words before the one needed that a calendar keeps when it goes on."""
_LAST = NUM_WORDS - 1


def lowest(word: int) -> int:
    """Return the place of the lowest bit of `word` that is set; there must be one."""
    return (word & -word).bit_length() - 1


@intrinsic
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@overload(lowest, inline="always")
def _lowest_compiled(word: Any) -> Any:
    def compiled(word: Any) -> Any:
        return _trailing_zeros(word)

    return compiled


@jit_inline
def first_free(words, slot):
    """Return the first free slot from `slot` on."""
    word = slot >> WORD_BITS
    free = ~words[word & _LAST] & (-1 << (slot & (WORD_SLOTS - 1)))
    while free == 0:
        word += 1
        free = ~words[word & _LAST]
    return (word << WORD_BITS) + lowest(free)


@jit_inline
def first_free_of_both(words, others, slot):
    """Return the first slot from `slot` on that is free in two calendars."""
    word = slot >> WORD_BITS
    free = ~(words[word & _LAST] | others[word & _LAST]) & (-1 << (slot & (WORD_SLOTS - 1)))
    while free == 0:
        word += 1
        free = ~(words[word & _LAST] | others[word & _LAST])
    return (word << WORD_BITS) + lowest(free)


@jit_inline
def take(words, slot):
    """Take a slot."""
    words[(slot >> WORD_BITS) & _LAST] |= 1 << (slot & (WORD_SLOTS - 1))


@jit_inline
def take_around(words, slot, reach, begin):
    """Take the slots from `begin` on that are less than `reach` from one; reach: at most 32."""
    first = max(slot - reach + 1, begin)
    count, place = slot + reach - first, first & (WORD_SLOTS - 1)
    bits = (1 << count) - 1
    words[(first >> WORD_BITS) & _LAST] |= bits << place
    if place + count > WORD_SLOTS:
        words[((first >> WORD_BITS) + 1) & _LAST] |= bits >> (WORD_SLOTS - place)


@jit_inline
def first_gap(words, slot, length, end):
    """Return the first slot from `slot` on that begins `length` free ones.

    From `end` on all are free.
    """
    while slot < end:
        begin = first_free(words, slot)
        slot = _first_taken(words, begin, min(begin + length, end))
        if slot >= min(begin + length, end):
            return begin
    return slot


@jit_inline
def _first_taken(words, slot, end):
    """Return the first slot of slot:end that is taken, or any slot from `end` on."""
    while slot < end:
        taken = words[(slot >> WORD_BITS) & _LAST] & (-1 << (slot & (WORD_SLOTS - 1)))
        if taken != 0:
            return (slot & -WORD_SLOTS) + lowest(taken)
        slot = (slot & -WORD_SLOTS) + WORD_SLOTS
    return slot
