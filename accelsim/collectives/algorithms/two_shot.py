"""Two rounds: every device sends each other one its part, which then goes to all."""

from accelsim.collectives.algorithms import one_shot
from accelsim.collectives.base import Algorithm
from accelsim.collectives.messages import Message, Rounds, pairs_of, parts_of, rounds_of


def reduce_scatter(count: int, size_bytes: int) -> Rounds:
    """Return one round, in which each device gets its part of every buffer."""
    parts = parts_of(size_bytes, count)
    return rounds_of([[Message(*pair, *parts[pair.target], adds=True) for pair in pairs_of(count)]])


def all_reduce(count: int, size_bytes: int) -> Rounds:
    """Return that round and one that gathers the parts."""
    first, second = reduce_scatter(count, size_bytes), one_shot.all_gather(count, size_bytes)
    return rounds_of([*first.rounds, *second.rounds])


ALGORITHM = Algorithm("two_shot", {"all_reduce": all_reduce, "reduce_scatter": reduce_scatter})
