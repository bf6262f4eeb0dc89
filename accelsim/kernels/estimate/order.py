"""The ops of a core in their order, what each costs and what it waits for: a table for all times.

What an op waits for follows from the tiles it touches: the last write of what it reads, and the
last write and all reads since of what it writes. A cost is the number of a row of a matrix, which
has the cycles or bytes of every candidate.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import NUM_UNITS, Unit

Use = tuple[str, int]
"""A tile: the name of its buffer and the number of its use; slots are used in turn."""

KIND, COST, PLACE, WAITS = 0, 1, 2, 3
"""Words of a row: a unit or one of the kinds below; the cost of an op, or the time that is noted;
the place of a note, or 1 for a load that comes late; and from WAITS on the rows of the ops that are
waited for, of each unit the last one; then -1."""
CLAIM, NOTE = NUM_UNITS, NUM_UNITS + 1
CLAIMED, RETIRED, REQUESTED = 0, 1, 2
"""Times that are known at every row: of the last claim, of the end of all ops so far, of the last
request of every unit, and of when every unit is done with what it was given."""
DONE = REQUESTED + NUM_UNITS


class Orders(NamedTuple):
    """Tables of several orders, one after the other; candidates have one of them each."""

    rows: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]
    """Of every order where it begins, and the end."""
    num_notes: int
    """Places of notes; what an order does not note is 0."""


class Order:
    """Ops of one core; slots: of each buffer, 1 where it is not named."""

    def __init__(self, slots: Mapping[str, int]) -> None:
        self._slots = slots
        self.rows: list[list[int]] = []
        self._users: dict[Use, dict[Unit, int]] = {}
        """Of a slot the last ops of each unit on what lies there."""
        self._writers: dict[Use, tuple[Unit, int]] = {}

    def claim(self) -> None:
        """Begin the next work item; ops of the one before may still be under way."""
        self._add(CLAIM)

    def note_free(self, place: int, unit: Unit) -> None:
        """Note at a place when a compute unit is done with what it was given."""
        self._add(NOTE, DONE + unit, place)

    def note_request(self, place: int) -> None:
        """Note when the last load so far was requested."""
        self._add(NOTE, REQUESTED + Unit.LOAD, place)

    def note_retired(self, place: int) -> None:
        """Note when everything has ended."""
        self._add(NOTE, RETIRED, place)

    def load(self, cost: int, tile: Use, *, is_late: bool = False) -> None:
        """Load a tile; is_late: as nobody has loaded it before, it comes from farther away."""
        self.run(Unit.LOAD, cost, (), tile)
        self.rows[-1][PLACE] = int(is_late)

    def store(self, cost: int, tile: Use) -> None:
        """Store a tile."""
        self.run(Unit.STORE, cost, (tile,), None)

    def run(self, unit: Unit, cost: int, reads: Iterable[Use], writes: Use | None) -> None:
        """Run one op of a unit."""
        number = len(self.rows)
        read = [self._slot(tile) for tile in reads]
        touched = [self._writers[slot] for slot in read]
        if writes:
            written = self._slot(writes)
            touched += self._users.get(written, {}).items()
        self._add(unit, cost, waits=[each for each in touched if each[0] != unit])
        for slot in read:
            self._users[slot][unit] = number
        if writes:
            self._users[written], self._writers[written] = {unit: number}, (unit, number)

    def _slot(self, tile: Use) -> Use:
        return tile[0], tile[1] % self._slots.get(tile[0], 1)

    def _add(
        self, kind: int, cost: int = 0, place: int = 0, waits: Iterable[tuple[Unit, int]] = ()
    ) -> None:
        last: dict[Unit, int] = {}
        for unit, number in waits:
            last[unit] = max(last.get(unit, -1), number)
        none = [-1] * (NUM_UNITS - len(last))
        self.rows.append([kind, cost, place, *last.values(), *none])


def orders_of(orders: Sequence[Order]) -> Orders:
    """Return the tables of several orders."""
    begins = np.cumsum([0, *(len(each.rows) for each in orders)])
    rows = [row for each in orders for row in each.rows]
    places = [row[PLACE] for row in rows if row[KIND] == NOTE]
    return Orders(np.array(rows), begins, max(places, default=-1) + 1)
