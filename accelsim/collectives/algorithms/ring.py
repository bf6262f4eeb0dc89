"""Rings: each device sends to the next one only. Bandwidth-optimal, and a round for each device.

Patarasuk and Yuan, 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
"""

from collections.abc import Iterator, Mapping

from accelsim.collectives.base import Algorithm, MakeRounds
from accelsim.collectives.messages import Message, Rounds, parts_of, rounds_of
from accelsim.workload.collective import CollectiveKind


def reduce_scatter(count: int, size_bytes: int) -> Rounds:
    """Return count - 1 rounds, after which device i has the sum of part i."""
    own = parts_of(size_bytes, count)[0]
    return rounds_of(_turns(count, size_bytes, -1, adds=True), copied_bytes=own[1])


def all_gather(count: int, size_bytes: int) -> Rounds:
    """Return count - 1 rounds, in which part i begins at device i."""
    own = parts_of(size_bytes, count)[0]
    return rounds_of(_turns(count, size_bytes, 0, adds=False), copied_bytes=own[1])


def all_reduce(count: int, size_bytes: int) -> Rounds:
    """Return the rounds of a reduce-scatter and of an all-gather; nothing is copied between."""
    first = _turns(count, size_bytes, -1, adds=True)
    return rounds_of([*first, *_turns(count, size_bytes, 0, adds=False)])


def broadcast(count: int, size_bytes: int) -> Rounds:
    """Return a chain from device 0 on, through which pieces follow one another."""
    chain = ([Message(each, each + 1, 0, size_bytes)] for each in range(count - 1))
    return rounds_of(chain, is_pipelined=True)


def _turns(count: int, size_bytes: int, first: int, *, adds: bool) -> Iterator[list[Message]]:
    """Yield count - 1 rounds; in the first one device i sends part i + first."""
    parts = parts_of(size_bytes, count)
    for turn in range(count - 1):
        yield [
            Message(each, (each + 1) % count, *parts[(each + first - turn) % count], adds)
            for each in range(count)
        ]


_COLLECTIVES: Mapping[CollectiveKind, MakeRounds] = {
    "all_reduce": all_reduce,
    "all_gather": all_gather,
    "reduce_scatter": reduce_scatter,
    "broadcast": broadcast,
}
ALGORITHM = Algorithm("ring", _COLLECTIVES)
