"""What an algorithm sends: rounds of messages between the devices of a group."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, permutations
from typing import NamedTuple

SWITCH = -1
"""The switch between devices, where it adds and copies by itself."""


class Message(NamedTuple):
    """A piece of the buffer of one device on its way to another."""

    source: int
    target: int
    begin: int
    """First byte of the piece in the buffer of the source."""
    end: int
    adds: bool = False
    """Whether the target adds the piece to what it has."""
    into: int = -1
    """First byte in the buffer of the target, if it is another; -1: the same."""

    @property
    def num_bytes(self) -> int:
        """Length of the piece."""
        return self.end - self.begin


class Pair(NamedTuple):
    """A device and another one of its group."""

    source: int
    target: int


def pairs_of(count: int) -> Iterator[Pair]:
    """Yield each device of a group with each other one."""
    return (Pair(*each) for each in permutations(range(count), 2))


Round = tuple[Message, ...]
"""Messages that are under way at once; the next round needs them."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """All that a group sends."""

    rounds: tuple[Round, ...]
    is_pipelined: bool = False
    """Whether a round follows the one before piece by piece, so that all are under way at once."""
    copied_bytes: int = 0
    """Bytes that a device moves within its own memory, besides."""


def rounds_of(
    rounds: Iterable[Iterable[Message]], *, is_pipelined: bool = False, copied_bytes: int = 0
) -> Rounds:
    """Return rounds without empty messages; a round of none is still a round."""
    kept = tuple(tuple(each for each in one if each.end > each.begin) for one in rounds)
    return Rounds(kept, is_pipelined, copied_bytes)


def parts_of(size_bytes: int, count: int) -> tuple[tuple[int, int], ...]:
    """Return begin and end of as many parts; where they cannot be equal the first are longer."""
    whole, more = divmod(size_bytes, count)
    lengths = [whole + (number < more) for number in range(count)]
    ends = list(accumulate(lengths))
    return tuple((end - length, end) for end, length in zip(ends, lengths, strict=True))
