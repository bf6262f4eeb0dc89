"""One round: every device sends all that it has to every other one. Most bytes, least latency."""

from accelsim.collectives.base import Algorithm
from accelsim.collectives.messages import Message, Rounds, pairs_of, parts_of, rounds_of


def all_reduce(count: int, size_bytes: int) -> Rounds:
    """Return one round; each device adds up the buffers of all."""
    return rounds_of([[Message(*pair, 0, size_bytes, adds=True) for pair in pairs_of(count)]])


def all_gather(count: int, size_bytes: int) -> Rounds:
    """Return one round, in which each device sends its part to all."""
    parts = parts_of(size_bytes, count)
    return rounds_of([[Message(*pair, *parts[pair.source]) for pair in pairs_of(count)]])


def broadcast(count: int, size_bytes: int) -> Rounds:
    """Return one round, in which device 0 sends all to each."""
    return rounds_of([[Message(0, target, 0, size_bytes) for target in range(1, count)]])


ALGORITHM = Algorithm(
    "one_shot", {"all_reduce": all_reduce, "all_gather": all_gather, "broadcast": broadcast}
)
