"""How long a tile of query rows takes to meet its key tiles, by the order of ops of the kernels."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.memory import contended
from accelsim.kernels.estimate.placement import ItemTimes
from accelsim.kernels.estimate.timeline import Supply, Timeline
from accelsim.program.ops import Unit

_STEPS = 5
"""Key tiles that are followed op by op; after them each one takes as long as the one before."""
_AHEAD = 2
"""Key tiles on chip: so many are loaded at the start."""

Cycles = npt.NDArray[np.float64]


class Work(NamedTuple):
    """Bytes and cycles of a query tile, and of each key tile that it meets; arrays."""

    query_bytes: Any
    begin: Any
    """Vector unit, before the first key."""
    key_bytes: Any
    scores: Any
    """Matrix unit."""
    scores_move: Any
    softmax: Any
    """Vector unit: from scores to weights."""
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

    def at(self, own: Any) -> "Work":
        """Return that of some candidates."""
        return Work(*(each[own] for each in self))

    @property
    def fixed_share(self) -> Any:
        """Part of a step on the vector unit that does not depend on how many keys it has."""
        fixed = self.rescale + self.merge
        return fixed / (fixed + self.softmax)

    def first_bytes(self, ahead: "Ahead") -> Any:
        """Return what an item loads before anything has arrived."""
        return self.query_bytes + ahead.keys * self.key_bytes + ahead.values * self.value_bytes


class Ahead(NamedTuple):
    """Tiles of keys and of values that an item loads before anything has arrived."""

    keys: Any
    values: Any

    @classmethod
    def of(cls, key_tiles: Any, in_turn: Any) -> "Ahead":
        """Return those of items with so many key tiles; in_turn: of two query tiles.

        Keys that wait for a slot come before the second values, unless query tiles take turns.
        """
        keys = np.minimum(key_tiles, _AHEAD)
        return cls(keys, np.where(in_turn | (key_tiles <= _AHEAD), keys, 1))


class Loop(NamedTuple):
    """Times of an item by the number of its key tiles, [key tiles - 1, candidates]."""

    alone: Cycles
    claims: Cycles
    hidden: Cycles
    """Part of `alone` that passes while the item before is at work."""
    waits: Cycles
    """Part of `alone` that passes before the memory begins, [1, candidates]."""
    fixed: Cycles
    """Part of a step that does not depend on how many keys it has, [1, candidates]."""

    def at(self, candidates: Any) -> "Loop":
        """Return the times of some candidates."""
        return Loop(*(each[:, candidates] for each in self))

    def after(self, *shorter: "Loop") -> "Loop":
        """Return the same with the times of fewer key tiles: of 1, of 2 and so on, a row of each.

        Nothing hides the keys of one, and no keys are ahead of the second values of two.
        """
        alone, claims, hidden = (
            np.vstack([*rows, own[len(shorter) :]])
            for *rows, own in zip(*(each[:3] for each in (*shorter, self)), strict=True)
        )
        return Loop(np.maximum.accumulate(alone), claims, hidden, self.waits, self.fixed)

    def times(self, key_tiles: Cycles, loads: "Loads") -> ItemTimes:
        """Return the times of kinds of items; key_tiles: [candidates, kinds], not always whole."""
        shared, last_shared, by_others, waves, ahead = (each[:, None] for each in loads)
        whole = np.floor(key_tiles)
        part, fixed = key_tiles - whole, self.fixed.T
        worked = whole + np.where(part > 0, fixed + (1 - fixed) * part, 0)
        alone, period = (
            _continued(self.alone, worked),
            (self.alone[-1] - self.alone[-2])[:, None],
        )
        hidden = np.minimum(np.maximum(_continued(self.hidden, worked), 0), alone)
        steps = alone - hidden
        # One tile, behind what all ask for at the start, and the other loads at the fair share.
        slowed = self.alone[0][:, None] + np.maximum(0, key_tiles - ahead) * shared
        return ItemTimes(
            np.maximum(alone, slowed),
            contended(steps, key_tiles * shared, by_others, waves * key_tiles),
            contended(steps, key_tiles * last_shared, by_others, waves * key_tiles),
            _continued(self.claims, worked) * np.maximum(1, shared / period),
            np.broadcast_to(self.waits.T, alone.shape),
        )


class Loads(NamedTuple):
    """Cycles to load what belongs to a key tile, [candidates]."""

    shared: Cycles
    """Where all cores that have work share the memory."""
    last_shared: Cycles
    """Where those of the last wave do."""
    by_others: Cycles
    """Part of `shared` in which the memory keeps a core waiting for others."""
    waves: Cycles
    """Work items of a core."""
    ahead: Any
    """Key tiles of all cores that an item waits for at the start."""

    def at(self, candidates: npt.NDArray[np.int64]) -> "Loads":
        """Return those of some candidates."""
        return Loads(*(each[candidates] for each in self))


def _continued(known: Cycles, tiles: Cycles) -> Cycles:
    """Return known[tiles - 1], in between along a line, and beyond with the last slope."""
    rows = np.arange(known.shape[1])[:, None]
    low = np.minimum(np.maximum(tiles.astype(np.int64), 1), len(known) - 1)
    at, after = known[low - 1, rows], known[low, rows]
    result: Cycles = at + (tiles - low) * (after - at)
    return result


class LoopNotes:
    """What is noted while the first of two equal items runs on a timeline, and then the other."""

    def __init__(self, line: Timeline) -> None:
        self._line = line
        self._steps: list[Any] = []
        self._claims: list[Any] = []
        self._ends: list[Any] = []

    def note_step(self, end: Any) -> None:
        """Note the end of a step, and when its loads were requested."""
        self._steps.append(end)
        self._claims.append(self._line.last_request)

    def end_item(self) -> None:
        """Note the end of an item."""
        self._ends.append(self._line.retired)

    def item(self, fixed: Any = 0.0) -> Loop:
        """Return the times of an item with so many steps alone, a row of each.

        fixed: part of a step that does not depend on how many keys it has.
        """
        (first, second), count = _rows(self._ends), len(self._steps) // 2
        claims = np.broadcast_to(_rows(self._claims[count - 1 : count]), (1, len(first)))
        return Loop(first[None], claims, 2 * first[None] - second, *self._shares(claims, fixed))

    def loop(self, fixed: Any = 0.0) -> Loop:
        """Return the times. An item with other steps has more or fewer of those in the middle.

        fixed: as of `item`.
        """
        count = len(self._steps) // 2
        if count == 1:
            return self.item(fixed)
        steps, claims = _rows(self._steps[: count - 1]), _rows(self._claims[:count])
        first, second = _rows(self._ends)
        gaps = np.diff(steps, axis=0)
        # Slots are used in turn, so two steps together are what repeats.
        after = (steps[-1:] - steps[-3:-2]) / 2
        since = np.cumsum(np.vstack([0 * after, gaps[:1], gaps, after]), axis=0)
        hidden = np.broadcast_to(2 * first - second, claims.shape)
        return Loop(first + since - since[-2], claims, hidden, *self._shares(claims, fixed))

    def _shares(self, claims: Cycles, fixed: Any) -> tuple[Cycles, Cycles]:
        one = claims[:1].shape
        return np.broadcast_to(self._line.waits, one), np.broadcast_to(fixed, one)


def _rows(each: list[Any]) -> Cycles:
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(one) for one in each)))


def one_tile(
    machine: MachineSpec, supply: Supply, work: Work, *, unit: Unit, shares_weights: bool
) -> Loop:
    """Follow `flash` and its kin: the scores of the next key tile are computed ahead."""
    slots = dict.fromkeys(("q", "k", "v", "scores"), 2) | {"weights": 1 if shares_weights else 2}
    *shorter, longest = (
        _steps_of_one(Timeline(machine, supply, slots), work, unit, steps + 1)
        for steps in range(_STEPS)
    )
    return longest.loop(work.fixed_share).after(*(each.item() for each in shorter))


def _steps_of_one(line: Timeline, work: Work, unit: Unit, steps: int) -> LoopNotes:
    notes = LoopNotes(line)
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
            notes.note_step(line.free(Unit.VECTOR))
        line.run(Unit.VECTOR, work.finish, (("state", 0),), ("stored", item))
        line.store(work.output_bytes, ("stored", item))
        notes.end_item()
    return notes


def _multiply_keys(line: Timeline, work: Work, unit: Unit, item: int, j: int) -> None:
    line.load(work.key_bytes, ("k", j))
    line.run(unit, work.scores, (("q", item), ("k", j)), ("scores_acc", j))
    line.run(Unit.MOVE, work.scores_move, (("scores_acc", j),), ("scores", j))


def two_tiles(machine: MachineSpec, supply: Supply, first: Work, second: Work) -> Loop:
    """Follow `turns`: two query tiles share K and V, and alternate on matrix and vector unit."""
    slots = dict.fromkeys(("k", "v", "q0", "q1"), 2)
    *shorter, longest = (
        _steps_of_two(Timeline(machine, supply, slots), first, second, steps + 1)
        for steps in range(_STEPS)
    )
    return longest.loop(first.fixed_share).after(*(each.item() for each in shorter))


def _steps_of_two(line: Timeline, first: Work, second: Work, steps: int) -> LoopNotes:
    notes, pair = LoopNotes(line), (first, second)
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
            notes.note_step(line.free(Unit.VECTOR))
        for t, work in enumerate(pair):
            product, stored = (f"product{t}", j), (f"stored{t}", item)
            line.run(Unit.VECTOR, work.rescale, (), (f"state{t}", 0))
            line.run(Unit.VECTOR, work.merge + work.finish, (product,), stored)
            line.store(work.output_bytes, stored)
        notes.end_item()
    return notes


def _turn(line: Timeline, work: Work, t: int, item: int, j: int, *, is_last: bool) -> None:
    line.run(Unit.VECTOR, work.softmax, ((f"scores{t}", j),), (f"weights{t}", j))
    if j > 0:
        line.run(Unit.VECTOR, work.rescale, (), (f"state{t}", 0))
        line.run(Unit.VECTOR, work.merge, ((f"product{t}", j - 1),), (f"state{t}", 0))
    line.run(Unit.CUBE, work.weighted, ((f"weights{t}", j), ("v", j)), (f"output_acc{t}", j))
    line.run(Unit.MOVE, work.weighted_move, ((f"output_acc{t}", j),), (f"product{t}", j))
    if not is_last:
        _multiply_loaded(line, work, t, item, j + 1)


def _multiply_loaded(line: Timeline, work: Work, t: int, item: int, j: int) -> None:
    line.run(Unit.CUBE, work.scores, ((f"q{t}", item), ("k", j)), (f"scores_acc{t}", j))
    line.run(Unit.MOVE, work.scores_move, ((f"scores_acc{t}", j),), (f"scores{t}", j))
