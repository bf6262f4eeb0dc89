"""Sums within the switch: each buffer goes up once, each sum comes down once.

A device asks the switch for its part of the sum, and the switch reads that part of all devices.
Then the device gives the part to the switch, which copies it to all. So the port of a device
carries the buffer and one part in each direction. Klenk et al., 2020, "An in-network architecture
for accelerating shared-memory multiprocessor collectives"; NVLink SHARP works so.
"""

from accelsim.collectives.base import Algorithm
from accelsim.collectives.messages import SWITCH, Message, Rounds, parts_of, rounds_of


def all_reduce(count: int, size_bytes: int) -> Rounds:
    """Return buffers up, parts of the sum down, the same up, and all of it down."""
    parts = parts_of(size_bytes, count)
    return rounds_of(
        [
            [Message(each, SWITCH, 0, size_bytes, adds=True) for each in range(count)],
            [Message(SWITCH, each, *parts[each]) for each in range(count)],
            [Message(each, SWITCH, *parts[each]) for each in range(count)],
            [Message(SWITCH, each, 0, size_bytes) for each in range(count)],
        ],
        is_pipelined=True,
    )


ALGORITHM = Algorithm("in_switch", {"all_reduce": all_reduce}, needs_switch=True)
