"""Two binary trees, each with half of the bytes; pieces follow one another up and down.

A device within one tree is a leaf of the other, so none sends more than twice the buffer. Sanders,
Speck and Traff, 2009, "Two-tree algorithms for full bandwidth broadcast, reduction and scan".
"""

from collections.abc import Iterator

from accelsim.collectives.base import Algorithm
from accelsim.collectives.messages import Message, Rounds, parts_of, rounds_of


def all_reduce(count: int, size_bytes: int) -> Rounds:
    """Return the rounds up to both roots and back."""
    up = list(_levels(count, size_bytes))
    down = [
        [each._replace(source=each.target, target=each.source, adds=False) for each in level]
        for level in reversed(up)
    ]
    return rounds_of([*up, *down], is_pipelined=True)


def broadcast(count: int, size_bytes: int) -> Rounds:
    """Return the rounds of a binomial tree from device 0 on."""
    reach, rounds = 1, list[list[Message]]()
    while reach < count:
        senders = range(min(reach, count - reach))
        rounds.append([Message(each, each + reach, 0, size_bytes) for each in senders])
        reach *= 2
    return rounds_of(rounds)


def _levels(count: int, size_bytes: int) -> Iterator[list[Message]]:
    """Yield the messages towards both roots, of the deepest devices first."""
    halves = parts_of(size_bytes, 2)
    parents = _parents(count)
    other = {_other(each, count): _other(above, count) for each, above in parents.items()}
    depths = _depths(parents), _depths(other)
    for depth in range(max((max(one.values(), default=0) for one in depths), default=0), 0, -1):
        yield [
            Message(each, above, *half, adds=True)
            for tree, of_tree, half in zip((parents, other), depths, halves, strict=True)
            for each, above in tree.items()
            if of_tree[each] == depth
        ]


def _other(device: int, count: int) -> int:
    """Return the device of the second tree in whose place one of the first is, odd for even."""
    return count - 1 - device if count % 2 == 0 else (device + 1) % count


def _parents(count: int) -> dict[int, int]:
    """Return device -> the one above it in an in-order tree; even devices are leaves."""
    parents: dict[int, int] = {}

    def place(low: int, high: int, above: int | None) -> None:
        if low >= high:
            return
        half = 1 << ((high - low).bit_length() - 1)
        root = low + half - 1
        if above is not None:
            parents[root] = above
        place(low, root, root)
        place(root + 1, high, root)

    place(0, count, None)
    return parents


def _depths(parents: dict[int, int]) -> dict[int, int]:
    def depth(device: int) -> int:
        return 1 + depth(parents[device]) if device in parents else 0

    return {each: depth(each) for each in parents}


ALGORITHM = Algorithm("tree", {"all_reduce": all_reduce, "broadcast": broadcast})
