"""How long a tile of query rows takes to meet its key tiles, by the order of ops of the kernels."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels.attention.flash.loop import FOLLOWED
from accelsim.kernels.estimate.order import Order, Orders, orders_of
from accelsim.program.ops import Unit

_AHEAD = 2
"""Key tiles on chip: so many are loaded at the start."""


class Work(NamedTuple):
    """Bytes and cycles of a query tile, and of each key tile that it meets: ops, or arrays."""

    query_bytes: Any
    begin: Any
    """Vector unit, before the first key."""
    key_bytes: Any
    scores: Any
    """Matrix unit."""
    scores_move: Any
    softmax: Any
    """Vector unit: from scores to weights."""
    widen: Any
    """Vector unit: keys and values to what the matrix unit takes, before the softmax of the first
    query tile; the second one finds them."""
    mask: Any
    """Vector unit, where the diagonal crosses the tile."""
    value_bytes: Any
    weighted: Any
    """Matrix unit: weights times values."""
    weighted_move: Any
    rescale: Any
    """Vector unit: the running output, before the weighted values are there."""
    merge: Any
    """Vector unit: the running output, with the weighted values."""
    finish: Any
    """Vector unit, after the last key."""
    output_bytes: Any

    @property
    def fixed_share(self) -> Any:
        """Part of a step on the vector unit that does not depend on how many keys it has."""
        fixed = self.rescale + self.merge
        return fixed / (fixed + self.softmax)

    def first_bytes(self, key_tiles: Any) -> Any:
        """Return what an item with so many key tiles loads before anything has arrived."""
        keys = np.minimum(key_tiles, _AHEAD) * self.key_bytes
        return self.query_bytes + keys + self.value_bytes


_COSTS = tuple(Work(*range(first, first + len(Work._fields))) for first in (0, len(Work._fields)))
"""Where the costs of the first and the second query tile of an item are among all."""


class OnlineOrders(NamedTuple):
    """Of items of one query tile, and of two that take turns."""

    single: Orders
    """With one key tile."""
    loop: Orders
    """With as many as are followed op by op."""


@cache
def online_orders(unit: Unit, *, shares_weights: bool) -> OnlineOrders:
    """Return the orders of `flash` and its kin; unit: which multiplies."""
    single, loop = (
        orders_of([_one_tile(unit, steps, shares_weights), _two_tiles(steps)])
        for steps in (1, FOLLOWED)
    )
    return OnlineOrders(single, loop)


def _one_tile(unit: Unit, steps: int, shares_weights: bool) -> Order:
    """The scores of the next key tile are computed ahead."""
    slots = dict.fromkeys(("q", "k", "v", "scores"), 2) | {"weights": 1 if shares_weights else 2}
    line, work = Order(slots), _COSTS[0]
    for item in range(2):
        line.claim()
        line.load(work.query_bytes, ("q", item))
        line.run(Unit.VECTOR, work.begin, (), ("state", 0))
        _multiply_keys(line, work, unit, item, 0)
        for j in range(steps):
            if j + 1 < steps:
                _multiply_keys(line, work, unit, item, j + 1)
            line.run(Unit.VECTOR, work.softmax, (("scores", j),), ("weights", j))
            line.load(work.value_bytes, ("v", j))
            line.run(unit, work.weighted, (("weights", j), ("v", j)), ("output_acc", j))
            line.run(Unit.MOVE, work.weighted_move, (("output_acc", j),), ("product", j))
            line.run(Unit.VECTOR, work.rescale, (), ("state", 0))
            line.run(Unit.VECTOR, work.merge, (("product", j),), ("state", 0))
            line.note_step(Unit.VECTOR, item)
        line.run(Unit.VECTOR, work.finish, (("state", 0),), ("stored", item))
        line.store(work.output_bytes, ("stored", item))
        line.note_retired()
    return line


def _multiply_keys(line: Order, work: Work, unit: Unit, item: int, j: int) -> None:
    line.load(work.key_bytes, ("k", j))
    line.run(unit, work.scores, (("q", item), ("k", j)), ("scores_acc", j))
    line.run(Unit.MOVE, work.scores_move, (("scores_acc", j),), ("scores", j))


def _two_tiles(steps: int) -> Order:
    """Two query tiles share K and V, and alternate on matrix and vector unit, as in `turns`."""
    line, pair = Order(dict.fromkeys(("k", "v", "q0", "q1"), 2)), _COSTS
    first, _ = pair
    for item in range(2):
        line.claim()
        line.load(first.key_bytes, ("k", 0))
        for t, work in enumerate(pair):
            line.load(work.query_bytes, (f"q{t}", item))
            line.run(Unit.VECTOR, work.begin, (), (f"state{t}", 0))
            _multiply_loaded(line, work, t, item, 0)
        for j in range(steps):
            line.load(first.value_bytes, ("v", j))
            is_last = j + 1 == steps
            if not is_last:
                line.load(first.key_bytes, ("k", j + 1))
            for t, work in enumerate(pair):
                _turn(line, work, t, item, j, is_last=is_last)
            line.note_step(Unit.VECTOR, item)
        for t, work in enumerate(pair):
            product, stored = (f"product{t}", j), (f"stored{t}", item)
            line.run(Unit.VECTOR, work.rescale, (), (f"state{t}", 0))
            line.run(Unit.VECTOR, work.merge, (product,), stored)
            line.run(Unit.VECTOR, work.finish, (), stored)
            line.store(work.output_bytes, stored)
        line.note_retired()
    return line


def _turn(line: Order, work: Work, t: int, item: int, j: int, *, is_last: bool) -> None:
    line.run(Unit.VECTOR, work.softmax, ((f"scores{t}", j),), (f"weights{t}", j))
    if j > 0:
        line.run(Unit.VECTOR, work.rescale, (), (f"state{t}", 0))
        line.run(Unit.VECTOR, work.merge, ((f"product{t}", j - 1),), (f"state{t}", 0))
    line.run(Unit.CUBE, work.weighted, ((f"weights{t}", j), ("v", j)), (f"output_acc{t}", j))
    line.run(Unit.MOVE, work.weighted_move, ((f"output_acc{t}", j),), (f"product{t}", j))
    if not is_last:
        _multiply_loaded(line, work, t, item, j + 1)


def _multiply_loaded(line: Order, work: Work, t: int, item: int, j: int) -> None:
    line.run(Unit.CUBE, work.scores, ((f"q{t}", item), ("k", j)), (f"scores_acc{t}", j))
    line.run(Unit.MOVE, work.scores_move, ((f"scores_acc{t}", j),), (f"scores{t}", j))
