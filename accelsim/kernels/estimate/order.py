"""Which ops an op of a core waits for: that follows from the tiles they touch, not from times."""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from accelsim.program.ops import Unit

Use = tuple[str, int]
"""A tile: the name of its buffer and the number of its use; slots are used in turn."""
Slots = tuple[tuple[str, int], ...]
"""Of each buffer; 1 where it is not named."""
_Op = tuple[Unit, tuple[Use, ...], Use | None]
"""Its unit, what it reads and what it writes."""
_Last = dict[Unit, int]
"""Of each unit the number of an op; all its ops before have ended once this one has."""


class _Found(NamedTuple):
    """What an op waits for: numbers of ops of other units, and the claim of its work item."""

    ops: tuple[int, ...]
    claim: bool


class _State(NamedTuple):
    """What is known of the ops so far, which are numbered from 0, with buffers of some slots."""

    slots: dict[str, int]
    units: tuple[Unit, ...]
    """Of every op."""
    users: dict[Use, _Last]
    """The last ones on what lies in a slot."""
    writers: dict[Use, int]
    known: tuple[_Last, ...]
    """Those that have ended when an op begins, for every op."""
    last: _Last
    first_of_item: int

    def then(
        self, unit: Unit, reads: tuple[Use, ...], writes: Use | None
    ) -> tuple["_State", _Found]:
        """Return what is known with one op more, and what that op waits for."""
        number, read, written = len(self.units), self._places(reads), self._places([writes])
        touched = [self.writers[slot] for slot in read]
        touched += [op for slot in written for op in self.users.get(slot, {}).values()]
        others = _latest({self.units[op]: op} for op in touched if self.units[op] != unit)
        # What has ended once the unit begins its last op, and once each of the others has ended.
        begun = self.known[self.last[unit]] if unit in self.last else {}
        after = {op: _latest([self.known[op], {by: op}]) for by, op in others.items()}
        own = {slot: self.users[slot] | {unit: number} for slot in read}
        own |= {slot: {unit: number} for slot in written}
        longer = self._replace(
            units=(*self.units, unit),
            users=self.users | own,
            writers=self.writers | dict.fromkeys(written, number),
            known=(*self.known, _latest([begun, *after.values()])),
            last=self.last | {unit: number},
        )
        # What waits for an op of this item needs no look at the claim.
        latest = max(*after, self.last.get(unit, -1), -1)
        return longer, _Found(_needed(others, begun, after), latest < self.first_of_item)

    def _places(self, tiles: Iterable[Use | None]) -> list[Use]:
        return [(tile[0], tile[1] % self.slots.get(tile[0], 1)) for tile in tiles if tile]


class Order:
    """Ops in their order, with one or several layouts of buffers.

    What the last one waits for is found once, and again known to all that go the same way.
    """

    def __init__(self, states: tuple[_State, ...], found: tuple[_Found, ...] = ()) -> None:
        self.waits = tuple(each.ops for each in found)
        """Ops that it waits for: by layout, or once where they are the same for all."""
        if len(set(self.waits)) == 1:
            self.waits = self.waits[:1]
        self.awaits_claim = any(each.claim for each in found)
        self.last = states[0].last
        """Number of the last op of each unit."""
        self._states = states
        self._next: dict[_Op | None, Order] = {}

    def then(self, unit: Unit, reads: tuple[Use, ...], writes: Use | None) -> "Order":
        """Return the order with one op more."""
        op = unit, reads, writes
        if op not in self._next:
            self._next[op] = Order(*zip(*(state.then(*op) for state in self._states), strict=True))
        return self._next[op]

    def then_claim(self) -> "Order":
        """Return the order where the next op is the first of a work item."""
        if None not in self._next:
            first = len(self._states[0].units)
            states = (state._replace(first_of_item=first) for state in self._states)
            self._next[None] = Order(tuple(states))
        return self._next[None]


@cache
def order_of_none(*layouts: Slots) -> Order:
    """Return the order of no ops, with these layouts of buffers."""
    return Order(tuple(_State(dict(slots), (), {}, {}, (), {}, 0) for slots in layouts))


def _needed(others: _Last, begun: _Last, after: dict[int, _Last]) -> tuple[int, ...]:
    """Return those of other units that have not surely ended before the rest of them."""
    return tuple(
        op
        for by, op in others.items()
        if begun.get(by, -1) < op
        and all(ended.get(by, -1) < op for other, ended in after.items() if other != op)
    )


def _latest(ops: Iterable[_Last]) -> _Last:
    found: _Last = {}
    for each in ops:
        for unit, op in each.items():
            if op > found.get(unit, -1):
                found[unit] = op
    return found
