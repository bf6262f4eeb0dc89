"""Rings: each device sends to the next one only. Bandwidth-optimal, and a round for each device.

Patarasuk and Yuan, 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations".
"""

from collections.abc import Callable, Iterator, Mapping

from accelsim.collectives.base import Algorithm, MakeRounds
from accelsim.collectives.messages import Message, Rounds, parts_of, rounds_of
from accelsim.workload.collective import CollectiveKind


def reduce_scatter(count: int, size_bytes: int, rings: int = 1) -> Rounds:
    """Return count - 1 rounds, after which device i has the sum of part i."""
    own = parts_of(size_bytes, count)[0]
    return rounds_of(_turns(count, size_bytes, -1, rings, adds=True), copied_bytes=own[1])


def all_gather(count: int, size_bytes: int, rings: int = 1) -> Rounds:
    """Return count - 1 rounds, in which part i begins at device i."""
    own = parts_of(size_bytes, count)[0]
    return rounds_of(_turns(count, size_bytes, 0, rings, adds=False), copied_bytes=own[1])


def all_reduce(count: int, size_bytes: int, rings: int = 1) -> Rounds:
    """Return the rounds of a reduce-scatter and of an all-gather; nothing is copied between."""
    first = _turns(count, size_bytes, -1, rings, adds=True)
    return rounds_of([*first, *_turns(count, size_bytes, 0, rings, adds=False)])


def broadcast(count: int, size_bytes: int) -> Rounds:
    """Return a chain from device 0 on, through which pieces follow one another."""
    chain = ([Message(each, each + 1, 0, size_bytes)] for each in range(count - 1))
    return rounds_of(chain, is_pipelined=True)


def _turns(
    count: int, size_bytes: int, first: int, rings: int, *, adds: bool
) -> Iterator[list[Message]]:
    """Yield count - 1 rounds; in the first one device i sends part i + first.

    rings: so many devices lie in each node, and each ring begins at another of them and has a piece
    of every part. So all ports between nodes carry as much, as NCCL's rings do.
    """
    parts = [
        [(begin + low, begin + high) for low, high in parts_of(end - begin, rings)]
        for begin, end in parts_of(size_bytes, count)
    ]
    orders = [
        [node + (ring + place) % rings for node in range(0, count, rings) for place in range(rings)]
        for ring in range(rings)
    ]
    for turn in range(count - 1):
        yield [
            Message(
                order[at],
                order[(at + 1) % count],
                *parts[order[(at + first - turn) % count]][ring],
                adds,
            )
            for ring, order in enumerate(orders)
            for at in range(count)
        ]


_COLLECTIVES: Mapping[CollectiveKind, MakeRounds] = {
    "all_reduce": all_reduce,
    "all_gather": all_gather,
    "reduce_scatter": reduce_scatter,
    "broadcast": broadcast,
}
BY_ALL_PORTS: Mapping[CollectiveKind, Callable[[int, int, int], Rounds]] = {
    "all_reduce": all_reduce,
    "all_gather": all_gather,
    "reduce_scatter": reduce_scatter,
}
"""(devices, bytes, devices of a node) -> rounds of as many rings as a node has devices."""
ALGORITHM = Algorithm("ring", _COLLECTIVES)
