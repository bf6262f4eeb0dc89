"""The queues of a channel where bursts are placed one by one: who is in sight of the controller.

A burst is in sight once all but as many as its queue has entries have left of those before it, in
whatever order. Departures are bits of a calendar, so that the next one is found without a search.
"""

from accelsim.engine.memory.hbm.bursts.rules import SLOT_BITS
from accelsim.engine.memory.hbm.bursts.slots import (
    KEPT_WORDS,
    NUM_WORDS,
    WORD_BITS,
    first_free,
    lowest,
    take,
)
from accelsim.runtime.jit import jit_inline


@jit_inline
def room(plan, number, is_write):
    """Let a burst arrive; return the tick at which its queue has room for it."""
    rules, queue = plan.rules, plan.queues[number, is_write]
    entries = rules.write_entries if is_write else rules.read_entries
    queue.arrived += 1
    if queue.arrived - queue.left > entries:
        while queue.arrived - queue.left > entries:
            _next_leaves(plan.departures[number, is_write], queue)
        queue.room_at = (queue.left_slot << SLOT_BITS) // rules.pseudo_channels
    return queue.room_at


@jit_inline
def _next_leaves(departures, queue):
    """Count the next departure, or go on to the next word if this one has none."""
    place = queue.left_slot >> WORD_BITS
    word = departures[place % NUM_WORDS]
    if word == 0:
        queue.left_slot = (place + 1) << WORD_BITS
    else:
        queue.left_slot = (place << WORD_BITS) + lowest(word)
        departures[place % NUM_WORDS] = word & (word - 1)
        queue.left += 1


@jit_inline
def leave(plan, number, is_write, tick):
    """Let a burst leave its queue."""
    queue, departures = plan.queues[number, is_write], plan.departures[number, is_write]
    slot = max(queue.left_slot, (tick * plan.rules.pseudo_channels) >> SLOT_BITS)
    first = (slot >> WORD_BITS) - KEPT_WORDS
    while queue.left < queue.placed and queue.left_slot >> WORD_BITS < first:
        _next_leaves(departures, queue)
    if queue.left == queue.placed:
        # None is on the calendar, so that it can begin anywhere.
        queue.left_slot = max(queue.left_slot, first << WORD_BITS)
    take(departures, first_free(departures, slot))
    queue.placed += 1
