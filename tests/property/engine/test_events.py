"""Events come in the order of time; of one time claims come first, then lower cores and units."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accelsim.engine.events import (
    CLAIM,
    add_claim,
    add_request,
    has_events,
    new_events,
    next_event,
    next_time,
    remove_event,
)
from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS
from accelsim.runtime.jit import jit

CORES = 5
KINDS = st.sampled_from([CLAIM, *range(FIRST_MEMORY_UNIT, NUM_UNITS)])
EVENTS = st.dictionaries(st.tuples(st.integers(0, CORES - 1), KINDS), st.integers(0, 2**43 - 1))


@jit
def _add(events, rows):
    for i in range(len(rows)):
        if rows[i, 2] == CLAIM:
            add_claim(events, rows[i, 0], rows[i, 1])
        else:
            add_request(events, rows[i, 0], rows[i, 1], rows[i, 2])


@jit
def _drained(events, most):
    found = np.zeros((most, 3), np.int64)
    count = 0
    while has_events(events):
        time, core, unit = next_event(events)
        found[count, 0], found[count, 1], found[count, 2] = time, core, unit
        remove_event(events, core, unit)
        count += 1
    return found[:count]


def in_order(rows):
    return sorted(rows, key=lambda row: (row[0], row[2] != CLAIM, row[1], row[2]))


@given(EVENTS)
def test_events_come_in_order(times):
    events = new_events(CORES)
    rows = in_order([(time, core, unit) for (core, unit), time in times.items()])
    _add(events, np.array(rows[::-1], np.int64).reshape(-1, 3))
    if rows:
        assert next_time(events) == rows[0][0]
    assert list(map(tuple, _drained(events, len(rows)).tolist())) == rows


def test_an_event_of_any_core_of_the_largest_machine_is_told():
    cores = 2**16
    events = new_events(cores)
    _add(events, np.array([[7, cores - 1, CLAIM], [7, cores - 1, NUM_UNITS - 1]], np.int64))
    assert _drained(events, 2).tolist() == [[7, cores - 1, CLAIM], [7, cores - 1, NUM_UNITS - 1]]
