"""The ops of work items whose query rows meet their key tiles: `flash` and its kin."""

from functools import cache, partial
from typing import Any, NamedTuple

from accelsim.kernels.estimate.order import Order, Orders, orders_of
from accelsim.program.ops import Unit

FEW = 3
"""Key tiles of the longest item that is followed from end to end, all of them whole."""
LONGEST = 6
"""Key tiles of the longest item that is followed with the last tile of keys; of longer ones each
further tile takes as long as those in the middle."""
NEXT_CLAIM, NEXT_OPEN, END, BOTH = range(4)
"""What is noted of an item: when the next one can be claimed and when its first keys are requested,
its end, and that of an equal item behind it."""
NOTES = 4
LAST = FEW * NOTES
"""Where the notes of the item with the last tile of keys begin, behind those of 1, 2, ... FEW whole
tiles."""
SECOND, FOURTH = LAST + NOTES, LAST + NOTES + 1
"""Ends of the second and the fourth step of the longest item: slots are used in turn, so two steps
together are what repeats."""
NUM_NOTES = FOURTH + 1


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


NUM_WORK = len(Work._fields)


def _work_at(number: int) -> Work:
    return Work(*range(number * NUM_WORK, (number + 1) * NUM_WORK))


WHOLE, LAST_TILE = ((_work_at(2 * last), _work_at(2 * last + 1)) for last in range(2))
"""Where the costs of the first and the second query tile of an item are among all, with whole tiles
of keys and with the last one."""


class Units(NamedTuple):
    """Which unit multiplies queries with keys, and which weights with values."""

    scores: Unit = Unit.CUBE
    values: Unit = Unit.CUBE


@cache
def orders_of_items(units: Units, *, shares_weights: bool, values_in_keys: bool = False) -> Orders:
    """Return the orders of items of one query tile, then of two that take turns.

    An order is of items with so many whole key tiles, up to FEW, or with so many of which the last
    one has costs of its own, up to LONGEST. Under a causal mask blocks of query rows
    that end before the last keys meet the former.
    """
    found = []
    for query_tiles in (1, 2):
        names = ("q", "k", "v", "scores") if query_tiles == 1 else ("k", "v", "q0", "q1")
        slots = dict.fromkeys(names, 2) | {"weights": 1 if shares_weights else 2}
        values = "k" if values_in_keys else "v"
        line = partial(_line, slots, units, query_tiles, values)
        for steps in range(1, FEW + 1):
            found.append(_pair(line(), steps, steps, NOTES * (steps - 1)))
        for steps in range(1, LONGEST + 1):
            found.append(_pair(line(), steps, steps - 1, LAST))
    return orders_of(found)


NUM_ORDERS = FEW + LONGEST
"""Of items of one query tile, or of two."""


def _line(slots: dict[str, int], units: Units, query_tiles: int, values: str) -> "_Items":
    return _Items(Order(slots), units, query_tiles, values)


def _pair(line: "_Items", steps: int, whole: int, place: int) -> Order:
    """Return the order of two items with so many key tiles, of which so many are whole.

    place: where the notes of the items begin.
    """
    for item in range(2):
        line.order.claim()
        if line.query_tiles == 1:
            _one_tile(line, item, steps, whole, place)
        else:
            _two_tiles(line, item, steps, whole, place)
        if item == 0:
            line.order.note_request(place + NEXT_CLAIM)
        line.order.note_retired(place + (BOTH if item else END))
    return line.order


class _Items(NamedTuple):
    """Items as they are put into an order."""

    order: Order
    units: Units
    query_tiles: int
    values: str
    """Where values are: in tiles of their own, or in those of keys."""

    def load_values(self, work: Work, j: int) -> None:
        """Load the values of key tile j, if they are not there."""
        if self.values == "v":
            self.order.load(work.value_bytes, ("v", j))

    def note_step(self, item: int, j: int, steps: int, place: int) -> None:
        """Note the ends of two steps of the longest item."""
        if item == 0 and steps == LONGEST and place == LAST and j in (1, 3):
            self.order.note_free(SECOND if j == 1 else FOURTH, Unit.VECTOR)


def _costs(j: int, whole: int) -> tuple[Work, Work]:
    return WHOLE if j < whole else LAST_TILE


def _one_tile(line: _Items, item: int, steps: int, whole: int, place: int) -> None:
    """One query tile; the scores of the next key tile are computed ahead."""
    order, (own, _) = line.order, WHOLE

    def multiply_keys(j: int) -> None:
        work, _ = _costs(j, whole)
        order.load(work.key_bytes, ("k", j))
        order.run(line.units.scores, work.scores, (("q", item), ("k", j)), ("scores_acc", j))
        order.run(Unit.MOVE, work.scores_move, (("scores_acc", j),), ("scores", j))

    order.load(own.query_bytes, ("q", item), is_late=True)
    order.run(Unit.VECTOR, own.begin, (), ("state", 0))
    multiply_keys(0)
    if item == 1:
        order.note_request(place + NEXT_OPEN)
    for j in range(steps):
        if j + 1 < steps:
            multiply_keys(j + 1)
        work, _ = _costs(j, whole)
        order.run(Unit.VECTOR, work.softmax, (("scores", j),), ("weights", j))
        line.load_values(work, j)
        reads = (("weights", j), (line.values, j))
        order.run(line.units.values, work.weighted, reads, ("output_acc", j))
        order.run(Unit.MOVE, own.weighted_move, (("output_acc", j),), ("product", j))
        order.run(Unit.VECTOR, own.rescale, (), ("state", 0))
        order.run(Unit.VECTOR, own.merge, (("product", j),), ("state", 0))
        line.note_step(item, j, steps, place)
    order.run(Unit.VECTOR, own.finish, (("state", 0),), ("stored", item))
    order.store(own.output_bytes, ("stored", item))


def _two_tiles(line: _Items, item: int, steps: int, whole: int, place: int) -> None:
    """Two query tiles share K and V, and alternate on matrix and vector unit, as in `turns`."""
    order = line.order

    def multiply(t: int, j: int) -> None:
        work = _costs(j, whole)[t]
        reads = (f"q{t}", item), ("k", j)
        order.run(Unit.CUBE, work.scores, reads, (f"scores_acc{t}", j))
        order.run(Unit.MOVE, work.scores_move, ((f"scores_acc{t}", j),), (f"scores{t}", j))

    order.load(_costs(0, whole)[0].key_bytes, ("k", 0))
    if item == 1:
        order.note_request(place + NEXT_OPEN)
    for t, own in enumerate(WHOLE):
        order.load(own.query_bytes, (f"q{t}", item), is_late=True)
        order.run(Unit.VECTOR, own.begin, (), (f"state{t}", 0))
        multiply(t, 0)
    for j in range(steps):
        line.load_values(_costs(j, whole)[0], j)
        if j + 1 < steps:
            order.load(_costs(j + 1, whole)[0].key_bytes, ("k", j + 1))
        for t, own in enumerate(WHOLE):
            work, state = _costs(j, whole)[t], (f"state{t}", 0)
            order.run(Unit.VECTOR, work.softmax, ((f"scores{t}", j),), (f"weights{t}", j))
            if j > 0:
                order.run(Unit.VECTOR, own.rescale, (), state)
                order.run(Unit.VECTOR, own.merge, ((f"product{t}", j - 1),), state)
            reads = (f"weights{t}", j), (line.values, j)
            order.run(Unit.CUBE, work.weighted, reads, (f"output_acc{t}", j))
            order.run(Unit.MOVE, own.weighted_move, ((f"output_acc{t}", j),), (f"product{t}", j))
            if j + 1 < steps:
                multiply(t, j + 1)
        line.note_step(item, j, steps, place)
    for t, own in enumerate(WHOLE):
        stored = f"stored{t}", item
        order.run(Unit.VECTOR, own.rescale, (), (f"state{t}", 0))
        order.run(Unit.VECTOR, own.merge, ((f"product{t}", steps - 1),), stored)
        order.run(Unit.VECTOR, own.finish, (), stored)
        order.store(own.output_bytes, stored)
