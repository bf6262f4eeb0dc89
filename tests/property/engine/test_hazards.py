"""What ops wait for is what it would be if every op were looked at when its item is claimed."""

import numpy as np
from hypothesis import given, settings

from accelsim.engine.hazards import (
    EDGES,
    FIRST_OF_UNIT,
    LAST_OF_UNIT,
    NONE,
    TOUCHES,
    hazards_of,
    meet_other_items,
    units_waited_for,
)
from accelsim.program.ops import NUM_UNITS, READS, WRITES
from accelsim.program.program import slots_of
from accelsim.runtime.jit import jit
from tests.strategies.programs import programs


def expected_waits(program):
    """Return [op, unit], the last op of each unit that an op waits for, all items on one core."""
    waits = np.full((program.num_ops, NUM_UNITS), NONE)
    readers, writers = {}, {}  # slot -> ops since its last write, and that write
    for op in range(program.num_ops):
        unit = program.units[op]
        reads, writes = (slots_of(int(program.ops[op, word])) for word in (READS, WRITES))
        others = [writers[slot] for slot in (*reads, *writes) if slot in writers]
        others += [reader for slot in writes for reader in readers.get(slot, ())]
        for other in others:
            waits[op, program.units[other]] = max(waits[op, program.units[other]], other)
        waits[op, unit] = NONE
        for slot in reads:
            readers.setdefault(slot, []).append(op)
        for slot in writes:
            writers[slot], readers[slot] = op, []
    return waits


@jit
def _meet_in_order(words, kinds, marks, waits, touched):
    for op in range(len(words)):
        if marks[op] & EDGES:
            meet_other_items(op, 0, np.int64(marks[op]), words, kinds, waits, touched)


@jit
def _told(marks):
    units = np.zeros(marks.size, np.int64)
    for op in range(marks.size):
        units[op] = units_waited_for(np.int64(marks[op]))
    return units


@settings(max_examples=300)
@given(programs(max_items=6))
def test_items_that_follow_each_other_on_a_core_wait_as_if_they_were_one(program):
    found = hazards_of(program)
    waits = found.waits.copy()
    touched = np.full((1, program.num_slots + 1, TOUCHES), NONE, np.int32)
    _meet_in_order(program.ops, program.units, found.marks, waits, touched)
    np.testing.assert_array_equal(waits, expected_waits(program))
    told = _told(found.marks)
    assert all(told[op] >> unit & 1 for op, unit in np.argwhere(waits != NONE))


@settings(max_examples=100)
@given(programs(max_items=6))
def test_the_ops_of_a_unit_in_an_item_are_a_chain(program):
    found = hazards_of(program)
    for begin, end in zip(program.item_start[:-1], program.item_start[1:], strict=True):
        for unit in range(NUM_UNITS):
            own = [op for op in range(begin, end) if program.units[op] == unit]
            firsts = [op for op in own if found.marks[op] & FIRST_OF_UNIT]
            lasts = [op for op in own if found.marks[op] & LAST_OF_UNIT]
            assert (firsts, lasts) == (own[:1], own[-1:])
            assert [op + found.steps[op] for op in own] == own[1:] + own[-1:]
