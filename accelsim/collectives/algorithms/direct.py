"""Messages from device to device: to each its own, or from one to another."""

from accelsim.collectives.base import Algorithm
from accelsim.collectives.messages import Message, Rounds, parts_of, rounds_of


def all_to_all(count: int, size_bytes: int) -> Rounds:
    """Return one round, in which part j of device i becomes part i of device j.

    A device receives as many parts of one length as there are devices.
    """
    parts = parts_of(size_bytes, count)
    return rounds_of(
        [
            [
                Message(source, target, *part, into=source * (part[1] - part[0]))
                for source in range(count)
                for target, part in enumerate(parts)
                if source != target
            ]
        ]
    )


def send(count: int, size_bytes: int) -> Rounds:
    """Return one message from the first device to the second."""
    return rounds_of([[Message(0, 1, 0, size_bytes)]])


ALGORITHM = Algorithm("direct", {"all_to_all": all_to_all, "send": send})
