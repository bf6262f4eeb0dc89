"""Collectives of groups that lie in several nodes: within each node, between nodes, within again.

Cho et al., 2019, "BlueConnect": a reduce-scatter in each node, so that each of its devices adds up
one part with those in its place in the other nodes, and an all-gather in each node.
"""

from collections.abc import Iterable, Sequence

from accelsim.collectives.base import Algorithm
from accelsim.collectives.messages import Message, Round, Rounds, parts_of, rounds_of


def rounds_in_two_levels(
    inner: Algorithm, outer: Algorithm, count: int, within: int, size_bytes: int
) -> Rounds | None:
    """Return an all-reduce of `count` devices, `within` in each node; None: not with these."""
    fits = inner.takes(within) and outer.takes(count // within)
    needed = {"reduce_scatter", "all_gather"} <= set(inner.collectives)
    if not (fits and needed and "all_reduce" in outer.collectives):
        return None
    nodes = count // within
    parts = parts_of(size_bytes, within)
    groups = [list(range(node * within, (node + 1) * within)) for node in range(nodes)]
    first = _in_groups(groups, inner.collectives["reduce_scatter"](within, size_bytes))
    across = [
        _moved(
            outer.collectives["all_reduce"](nodes, end - begin),
            list(range(place, count, within)),
            begin,
        )
        for place, (begin, end) in enumerate(parts)
    ]
    last = _in_groups(groups, inner.collectives["all_gather"](within, size_bytes))
    return rounds_of([*first, *_at_once(across), *last])


def _in_groups(groups: Sequence[Sequence[int]], rounds: Rounds) -> list[Round]:
    return _at_once([_moved(rounds, group, 0) for group in groups])


def _moved(rounds: Rounds, devices: Sequence[int], begin: int) -> list[Round]:
    """Return the rounds of other devices, with a buffer that begins elsewhere."""
    return [
        tuple(
            Message(
                devices[each.source],
                devices[each.target],
                each.begin + begin,
                each.end + begin,
                each.adds,
            )
            for each in one
        )
        for one in rounds.rounds
    ]


def _at_once(several: Iterable[Sequence[Round]]) -> list[Round]:
    """Return rounds that happen side by side as one."""
    return [tuple(each for one in rounds for each in one) for rounds in zip(*several, strict=True)]
