"""What an algorithm of collectives is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accelsim.collectives.messages import Rounds
from accelsim.hardware.links import AlgorithmName
from accelsim.workload.collective import CollectiveKind

MakeRounds = Callable[[int, int], Rounds]
"""(devices of a group, bytes of the buffer) -> what they send."""


def any_count(count: int) -> bool:
    """Take groups of any number of devices."""
    return True


def powers_of_two(count: int) -> bool:
    """Take groups of 2, 4, 8 and so on."""
    return count & (count - 1) == 0


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A way to run collectives."""

    name: AlgorithmName
    collectives: Mapping[CollectiveKind, MakeRounds]
    takes: Callable[[int], bool] = any_count
    """Whether a group of so many devices can use it."""
    needs_switch: bool = False
    """Whether the switch itself adds and copies."""
