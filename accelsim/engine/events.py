"""The events of the compiled engine in their order: requests to the memory, and claims of items.

An event is one integer, (time, claims before requests, core, unit), so that ties have one answer.
A core has at most one event of a kind. So each has its leaf in a tree, in place 1 of which is the
next event, and in place i the smaller one of places 2 i and 2 i + 1. To put an event into its leaf
takes no branch that the processor could guess wrong, as a heap would.
"""

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import FIRST_MEMORY_UNIT, NUM_UNITS
from accelsim.runtime.jit import jit_inline, jit_inner

_NUM_QUEUES = NUM_UNITS - FIRST_MEMORY_UNIT
_CLAIM, _NUM_KINDS = _NUM_QUEUES, _NUM_QUEUES + 1
_NEVER = np.iinfo(np.int64).max
_UNIT_BITS, _CORE_BITS = (NUM_UNITS - 1).bit_length(), 16
_CORE_MASK, _UNIT_MASK = (1 << _CORE_BITS) - 1, (1 << _UNIT_BITS) - 1
_REQUEST_BIT = 1 << (_UNIT_BITS + _CORE_BITS)
_TIME_SHIFT = _UNIT_BITS + _CORE_BITS + 1
CLAIM = -1
"""In the place of the unit of a request: a core claims an item."""


def new_events(cores: int) -> npt.NDArray[np.int64]:
    """Return the tree of so many cores without any event."""
    return np.full(2 << (cores * _NUM_KINDS - 1).bit_length(), _NEVER)


@jit_inline
def has_events(events):
    """Whether there is a next event."""
    return events[1] != _NEVER


def next_time(events: npt.NDArray[np.int64]) -> int:
    """Return the cycle of the next event, at which items are claimed at the earliest."""
    return int(events[1]) >> _TIME_SHIFT


@jit_inline
def next_event(events):
    """Return time, core and unit of the next event; the unit is CLAIM where it claims an item."""
    event = events[1]
    unit = event & _UNIT_MASK if event & _REQUEST_BIT else np.int64(CLAIM)
    return event >> _TIME_SHIFT, (event >> _UNIT_BITS) & _CORE_MASK, unit


@jit_inline
def add_request(events, time, core, unit):
    """Add the request of a DMA queue."""
    event = (time << _TIME_SHIFT) | _REQUEST_BIT | (core << _UNIT_BITS) | unit
    _put(events, core * _NUM_KINDS + unit - FIRST_MEMORY_UNIT, event)


@jit_inline
def add_claim(events, time, core):
    """Add the claim of a core."""
    _put(events, core * _NUM_KINDS + _CLAIM, (time << _TIME_SHIFT) | (core << _UNIT_BITS))


@jit_inline
def remove_event(events, core, unit):
    """Remove the event of a core that `next_event` told."""
    kind = np.int64(_CLAIM) if unit == CLAIM else unit - FIRST_MEMORY_UNIT
    _put(events, core * _NUM_KINDS + kind, _NEVER)


@jit_inner
def note_requests(events, at):
    """Note the cycles of the requests that are due, at[core, unit]."""
    for i in range(events.size >> 1, events.size):
        event = events[i]
        if event != _NEVER and event & _REQUEST_BIT:
            at[(event >> _UNIT_BITS) & _CORE_MASK, event & _UNIT_MASK] = event >> _TIME_SHIFT


@jit_inner
def _put(events, leaf, event):
    """Put an event, or NEVER, into a leaf, and the smaller one of two into each node above."""
    at = (events.size >> 1) + leaf
    events[at] = event
    while at > 1:
        event = min(event, events[at ^ 1])
        at >>= 1
        events[at] = event
