"""Recursive halving and doubling: few rounds, each with a device twice as far or half as far.

Thakur, Rabenseifner and Gropp, 2005, "Optimization of collective communication operations in
MPICH". Groups are powers of two.
"""

from collections.abc import Iterator

from accelsim.collectives.base import Algorithm, powers_of_two
from accelsim.collectives.messages import Message, Rounds, parts_of, rounds_of


def reduce_scatter(count: int, size_bytes: int) -> Rounds:
    """Return log2(count) rounds, each with half of the bytes of the one before."""
    return rounds_of(_halving(count, size_bytes), copied_bytes=parts_of(size_bytes, count)[0][1])


def all_gather(count: int, size_bytes: int) -> Rounds:
    """Return log2(count) rounds, each with twice the bytes of the one before."""
    return rounds_of(_doubling(count, size_bytes), copied_bytes=parts_of(size_bytes, count)[0][1])


def all_reduce(count: int, size_bytes: int) -> Rounds:
    """Return the rounds of both."""
    return rounds_of([*_halving(count, size_bytes), *_doubling(count, size_bytes)])


def _halving(count: int, size_bytes: int) -> Iterator[list[Message]]:
    parts, half = parts_of(size_bytes, count), count // 2
    while half:
        yield [_of_block(parts, each, each ^ half, half, adds=True) for each in range(count)]
        half //= 2


def _doubling(count: int, size_bytes: int) -> Iterator[list[Message]]:
    parts, half = parts_of(size_bytes, count), 1
    while half < count:
        yield [
            _of_block(parts, each, each ^ half, half, adds=False, own=True) for each in range(count)
        ]
        half *= 2


def _of_block(
    parts: tuple[tuple[int, int], ...],
    source: int,
    target: int,
    length: int,
    *,
    adds: bool,
    own: bool = False,
) -> Message:
    """Return the parts of the block of one of both: of the target, or those the source has."""
    first = (source if own else target) // length * length
    return Message(source, target, parts[first][0], parts[first + length - 1][1], adds)


ALGORITHM = Algorithm(
    "halving_doubling",
    {"all_reduce": all_reduce, "all_gather": all_gather, "reduce_scatter": reduce_scatter},
    takes=powers_of_two,
)
