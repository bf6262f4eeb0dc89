"""Messages from device to device: to each its own, or from one to another."""

from accelsim.collectives.base import Algorithm
from accelsim.collectives.messages import Message, Pair, Rounds, pairs_of, parts_of, rounds_of


def all_to_all(count: int, size_bytes: int) -> Rounds:
    """Return one round, in which part j of device i becomes part i of device j.

    A device receives as many parts of one length as there are devices.
    """
    parts = parts_of(size_bytes, count)

    def message(pair: Pair) -> Message:
        begin, end = parts[pair.target]
        return Message(*pair, begin, end, into=pair.source * (end - begin))

    return rounds_of([map(message, pairs_of(count))])


def send(count: int, size_bytes: int) -> Rounds:
    """Return one message from the first device to the second."""
    return rounds_of([[Message(0, 1, 0, size_bytes)]])


ALGORITHM = Algorithm("direct", {"all_to_all": all_to_all, "send": send})
