"""Calendars of bits give what a set of taken slots gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine.memory.hbm.bursts import slots
from accelsim.engine.memory.hbm.bursts.slots import NUM_WORDS, lowest
from accelsim.runtime.jit import jit

WORD = 64
LAST_FREE = (NUM_WORDS - 1) * WORD
"""Slots after the first of a calendar before its last word, which its owner leaves free."""
EXAMPLES = 300


@jit
def first_free(words, slot):
    return slots.first_free(words, slot)


@jit
def first_free_of_both(words, others, slot):
    return slots.first_free_of_both(words, others, slot)


@jit
def take(words, slot):
    slots.take(words, slot)


@jit
def take_around(words, slot, reach, begin):
    slots.take_around(words, slot, reach, begin)


@jit
def first_gap(words, slot, length, end):
    return slots.first_gap(words, slot, length, end)


@jit
def lowest_compiled(word):
    return lowest(word)


def words_of(taken):
    """Return the ring of words in which these slots are taken."""
    words = np.zeros(NUM_WORDS, np.uint64)
    for slot in taken:
        words[slot // WORD % NUM_WORDS] |= np.uint64(1 << slot % WORD)
    return words.view(np.int64)


def slots_of(words, begin):
    """Return the slots that are taken in a ring that begins at slot `begin` of a word."""
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(NUM_WORDS, WORD)
    places, bit = np.nonzero(bits)
    ring = NUM_WORDS * WORD
    return set(((places * WORD + bit - begin) % ring + begin).tolist())


def free_from(taken, slot):
    while slot in taken:
        slot += 1
    return slot


def gap_from(taken, slot, length):
    while not taken.isdisjoint(range(slot, slot + length)):
        slot += 1
    return slot


begins = st.integers(0, 3 * NUM_WORDS).map(lambda word: word * WORD)
"""First slots of calendars; most go round the end of the ring."""
offsets = st.integers(0, LAST_FREE - 1)


@st.composite
def calendars(draw):
    """Return a strategy of a first slot and of slots taken: single ones, and long runs."""
    begin = draw(begins)
    taken = {begin + offset for offset in draw(st.sets(offsets, max_size=20))}
    for first, length in draw(st.lists(st.tuples(offsets, st.integers(1, 400)), max_size=4)):
        taken |= set(range(begin + first, begin + min(first + length, LAST_FREE)))
    return begin, taken


@pytest.mark.parametrize("bit", range(WORD))
def test_the_lowest_bit_is_found_with_any_above_it(bit):
    above = -1 << bit
    assert lowest(above) == lowest_compiled(above) == bit
    assert lowest_compiled(np.uint64(1 << bit).view(np.int64)) == bit


@settings(max_examples=EXAMPLES)
@given(calendars(), offsets)
def test_the_first_free_slot_is_that_of_the_set(calendar, offset):
    begin, taken = calendar
    slot = begin + offset
    assert first_free(words_of(taken), slot) == free_from(taken, slot)


def test_a_search_ends_in_the_word_that_is_left_free():
    taken = set(range(LAST_FREE))
    assert first_free(words_of(taken), 0) == LAST_FREE
    odd, even = (set(range(first, LAST_FREE, 2)) for first in (0, 1))
    assert first_free_of_both(words_of(odd), words_of(even), 0) == LAST_FREE


@settings(max_examples=EXAMPLES)
@given(calendars(), st.sets(offsets, max_size=50), offsets)
def test_the_first_slot_free_in_both_is_that_of_the_union(calendar, more, offset):
    begin, taken = calendar
    others = {begin + other for other in more}
    # In the other one its neighbors are taken, so that the two fill each other's gaps.
    others |= {slot + 1 for slot in taken if slot + 1 < begin + LAST_FREE}
    slot = begin + offset
    found = first_free_of_both(words_of(taken), words_of(others), slot)
    assert found == free_from(taken | others, slot)


@settings(max_examples=EXAMPLES)
@given(calendars(), offsets)
def test_a_slot_is_taken_alone(calendar, offset):
    begin, taken = calendar
    words = words_of(taken)
    take(words, begin + offset)
    assert slots_of(words, begin) == taken | {begin + offset}


@settings(max_examples=EXAMPLES)
@given(calendars(), st.integers(1, 32), st.integers(0, 70) | offsets)
def test_slots_around_one_are_taken_and_no_others(calendar, reach, offset):
    """None before the calendar begins: these would be the last of the ring."""
    begin, taken = calendar
    words, slot = words_of(taken), begin + offset
    take_around(words, slot, reach, begin)
    around = range(max(begin, slot - reach + 1), slot + reach)
    assert slots_of(words, begin) == taken | set(around)


@pytest.mark.parametrize("reach", range(1, 33))
def test_every_reach_around_every_slot_of_two_words(reach):
    for slot in range(2 * WORD):
        words = words_of(())
        take_around(words, slot, reach, 0)
        assert slots_of(words, 0) == set(range(max(0, slot - reach + 1), slot + reach))


@settings(max_examples=EXAMPLES)
@given(calendars(), offsets | st.integers(LAST_FREE, LAST_FREE + 300), st.integers(1, 300))
def test_the_first_gap_is_that_of_the_set(calendar, offset, length):
    """All is free from the end of the ring on, also where the search begins there."""
    begin, taken = calendar
    slot, end = begin + offset, begin + NUM_WORDS * WORD
    found = first_gap(words_of(taken), slot, length, end)
    assert found == gap_from(taken, slot, length)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 130])
def test_gaps_that_are_one_too_short_are_passed_over(length):
    taken = {10, 10 + length, 10 + 2 * length + 1}
    assert first_gap(words_of(taken), 10, length, NUM_WORDS * WORD) == 10 + length + 1
