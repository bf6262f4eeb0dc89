"""Which ops an op of a core waits for: that follows from the tiles they touch, not from times."""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from accelsim.program.ops import Unit

Use = tuple[str, int]
"""A tile: the name of its buffer and the number of its use; slots are used in turn."""
Ops = dict[Unit, int]
"""Of each unit the number of an op; all its ops before have ended once this one has."""


class _State(NamedTuple):
    """What is known of the ops so far, which are numbered from 0."""

    slots: dict[str, int]
    units: tuple[Unit, ...]
    """Of every op."""
    users: dict[Use, Ops]
    """The last ones on what lies in a slot."""
    writers: dict[Use, int]
    known: tuple[Ops, ...]
    """Those that have ended when an op begins, for every op."""
    last: Ops
    first_of_item: int

    def slot(self, tile: Use) -> Use:
        """Return the place of a tile."""
        name, use = tile
        return name, use % self.slots.get(name, 1)


class Order:
    """Ops in their order.

    What the last one waits for is found once, and again known to all that go the same way.
    """

    def __init__(self, state: _State, waits: tuple[int, ...], *, awaits_claim: bool) -> None:
        self.waits, self.awaits_claim = waits, awaits_claim
        """Numbers of ops of other units, and whether it waits for the claim of its item."""
        self.last = state.last
        """Number of the last op of each unit."""
        self._state = state
        self._next: dict[tuple[Unit, tuple[Use, ...], Use | None] | None, Order] = {}

    def then(self, unit: Unit, reads: tuple[Use, ...], writes: Use | None) -> "Order":
        """Return the order with one op more."""
        key = unit, reads, writes
        if key not in self._next:
            self._next[key] = self._longer(*key)
        return self._next[key]

    def then_claim(self) -> "Order":
        """Return the order where the next op is the first of a work item."""
        if None not in self._next:
            state = self._state._replace(first_of_item=len(self._state.units))
            self._next[None] = Order(state, (), awaits_claim=False)
        return self._next[None]

    def _longer(self, unit: Unit, reads: tuple[Use, ...], writes: Use | None) -> "Order":
        state, number = self._state, len(self._state.units)
        read, written = [state.slot(tile) for tile in reads], writes and state.slot(writes)
        touched = [state.writers[slot] for slot in read]
        touched += state.users.get(written, {}).values() if written else ()
        own = self.last.get(unit)
        others = _latest({state.units[op]: op} for op in touched if state.units[op] != unit)
        # What has ended once the last op of this unit begins, and once what it waits for ends.
        begun = {} if own is None else state.known[own]
        after = {op: _latest([state.known[op], {state.units[op]: op}]) for op in others.values()}
        waits = tuple(
            op
            for each, op in others.items()
            if begun.get(each, -1) < op
            and all(known.get(each, -1) < op for other, known in after.items() if other != op)
        )
        users = {slot: state.users[slot] | {unit: number} for slot in read}
        users |= {written: {unit: number}} if written else {}
        longer = state._replace(
            units=(*state.units, unit),
            users=state.users | users,
            writers=state.writers | ({written: number} if written else {}),
            known=(*state.known, _latest([begun, *after.values()])),
            last=state.last | {unit: number},
        )
        # What waits for an op of this item needs no look at the claim.
        latest = max(*others.values(), -1 if own is None else own, -1)
        return Order(longer, waits, awaits_claim=latest < state.first_of_item)


@cache
def order_of_none(slots: tuple[tuple[str, int], ...]) -> Order:
    """Return the order of no ops. Slots: of each buffer; 1 where it is not named."""
    state = _State(dict(slots), (), {}, {}, (), {}, 0)
    return Order(state, (), awaits_claim=False)


def _latest(ops: Iterable[Ops]) -> Ops:
    found: Ops = {}
    for each in ops:
        found |= {unit: max(op, found.get(unit, op)) for unit, op in each.items()}
    return found
