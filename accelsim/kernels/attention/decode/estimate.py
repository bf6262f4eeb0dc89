"""How long a decode step takes with candidates of its tiles, by the order of ops of the frame."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import Array, Estimate
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memory import (
    contended,
    launch_cycles,
    least_cycles,
    shared_cycles_per_byte,
    supply_of,
)
from accelsim.kernels.estimate.order import Order, Orders, orders_of
from accelsim.kernels.estimate.placement import ItemTimes, last_equal_end, last_wave, limited
from accelsim.kernels.estimate.timeline import Costs, Supply, follow
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem

_LATE_KEYS = 0.35
"""Of the time of a pair of tiles that is lost where one tile of keys more than there are slots for
waits until the values of other cores are served (found by simulating: between 0.2 and 0.5)."""
_SLOTS = {"queries": 2, "scores_acc": 2, "scores": 2}
_STEPS = 6
"""Tiles of keys, and of values, that are followed op by op; a longer item repeats what is
between."""


class DecodeTiling(NamedTuple):
    """Candidates; arrays with one element each."""

    tile_k: Array
    stages: Array
    splits: Array

    def at(self, own: Array) -> "DecodeTiling":
        """Return some candidates."""
        return DecodeTiling(*(each[own] for each in self))


class Step(NamedTuple):
    """A decode step over `keys` keys of every KV head, on one machine."""

    problem: AttentionProblem
    machine: MachineSpec
    formats: StepFormats
    keys: int

    def estimate(self, tiling: DecodeTiling) -> Estimate:
        """Return the estimate of all steps of the generation, for all candidates."""
        problem, machine = self.problem, self.machine
        heads = problem.batch * problem.kv_heads
        length: Array = ceil_div(self.keys, tiling.splits)
        ranges: Array = ceil_div(self.keys, length)
        moved = self._moved_bytes(ranges)
        counts = np.minimum(ceil_div(length, tiling.tile_k), _STEPS)
        times = _Items(self, OpCosts(machine), tiling, length, ranges, counts).times()
        cycles = last_equal_end(times, ranges * heads, machine.cores)
        cycles = launch_cycles(machine) + np.maximum(cycles, least_cycles(machine, moved, moved))
        if np.any(ranges > 1):
            cycles = cycles + np.where(ranges > 1, self._merge_cycles(ranges), 0)
        steps = heads * ranges * ceil_div(length, tiling.tile_k)
        return Estimate(problem.steps * cycles, problem.steps * moved, steps)

    @property
    def group(self) -> int:
        """Query rows of a KV head."""
        return self.problem.q_heads // self.problem.kv_heads * self.problem.q_len

    @property
    def dim(self) -> int:
        """Elements of a row."""
        return self.problem.head_dim

    @property
    def row_bytes(self) -> float:
        """Bytes of a row."""
        return self.dim * self.problem.dtype.bits / BITS_PER_BYTE

    def _moved_bytes(self, ranges: Array) -> Array:
        partial = self.group * (self.dim + 2) * self.formats.vector.bits / BITS_PER_BYTE
        own = 2 * (self.keys + self.group) * self.row_bytes
        moved = own + np.where(ranges > 1, 2 * ranges * partial, 0)
        return np.asarray(self.problem.batch * self.problem.kv_heads * moved)

    def _merge_cycles(self, ranges: Array) -> Array:
        """Return the time of the phase that merges the results of all ranges."""
        problem, machine = self.problem, self.machine
        heads = problem.batch * problem.kv_heads
        supply = supply_of(machine, 0.0)
        ends, period = _merged(self, OpCosts(machine), supply)
        more = np.maximum(ranges - len(ends), 0) * period
        alone = np.array(ends)[np.minimum(ranges, len(ends)) - 1] + more
        cycles = ceil_div(heads, machine.cores) * alone
        return np.asarray(launch_cycles(machine, with_products=False) + cycles)


class _Tile(NamedTuple):
    """Bytes and cycles of a tile of keys and of the values that belong to it."""

    loaded_bytes: Any
    scores: Any
    move: Any
    scale: Any
    weighted: Any


class _Rest(NamedTuple):
    """Cycles and bytes of an item beside its tiles."""

    query_bytes: Any
    softmax: Any
    move: Any
    finish: Any
    stored_bytes: Any


_FULL, _LAST = _Tile(0, 1, 2, 3, 4), _Tile(5, 6, 7, 8, 9)
_REST = _Rest(10, 11, 12, 13, 14)
"""Where the costs of whole tiles, of the last one and of the rest are among all."""


@cache
def _item_orders(stages: tuple[int, ...]) -> Orders:
    """Return the orders of two items with 1 to _STEPS tiles each, for each number of slots."""
    counts = range(1, _STEPS + 1)
    return orders_of([_two_items(slots, count) for slots in stages for count in counts])


def _two_items(stages: int, count: int) -> Order:
    line = Order(dict(_SLOTS, keys=stages, values=stages))
    tiles = [_FULL] * (count - 1) + [_LAST]
    for item in range(2):
        line.claim()
        line.load(_REST.query_bytes, ("queries", item))
        for j, tile in enumerate(tiles):
            line.load(tile.loaded_bytes, ("keys", j))
            reads = ("queries", item), ("keys", j)
            line.run(Unit.CUBE, tile.scores, reads, ("scores_acc", j))
            line.run(Unit.MOVE, tile.move, (("scores_acc", j),), ("scores", j))
            line.run(Unit.VECTOR, tile.scale, (("scores", j),), ("x", 0))
        line.run(Unit.VECTOR, _REST.softmax, (), ("weights", 0))
        for j, tile in enumerate(tiles):
            line.load(tile.loaded_bytes, ("values", j))
            reads = ("weights", 0), ("values", j)
            line.run(Unit.CUBE, tile.weighted, reads, ("output_acc", 0))
        line.run(Unit.MOVE, _REST.move, (("output_acc", 0),), ("output", 0))
        line.run(Unit.VECTOR, _REST.finish, (("output", 0),), ("stored", 0))
        line.store(_REST.stored_bytes, ("stored", 0))
        line.note_retired()
        if item == 0:
            line.note_request()
    return line


class _Items(NamedTuple):
    """Items of all candidates."""

    step: Step
    costs: OpCosts
    tiling: DecodeTiling
    length: Array
    ranges: Array
    counts: Array
    """Tiles that are followed."""

    def times(self) -> ItemTimes:
        """Return their times, [candidates]."""
        machine, counts, stages = self.step.machine, self.counts, self.tiling.stages
        active, last, by_others = self._shared_cycles()
        waits = self._first_bytes() / self._tile_bytes * active * by_others
        supply = supply_of(machine, 1.0)
        first, claims, second = self._followed(waits)
        tiles = self.length / self.tiling.tile_k
        period = self._period(supply)
        more = np.maximum(tiles - counts, 0) * (counts == _STEPS) * period
        alone, steps = first + more, np.minimum(second - first, first) + more
        # What is loaded before anything has arrived waits for other cores only once.
        beyond = np.where(counts > stages, np.maximum(0, tiles - stages / 2), 0)
        beyond = beyond + _LATE_KEYS * (counts == stages + 1)
        of_core = tiles * self._items / machine.cores
        # The first loads wait for those of other cores, the others at each tile.
        whole = alone + beyond * (contended(period, active, np.ceil(by_others), tiles) - period)
        # While a core computes, others load; in the softmax of all, until their slots are full.
        fair = contended(alone - waits, tiles * active, by_others, tiles)
        fair = fair + np.maximum(0, self._rest().softmax - stages * active / 2)
        fair = np.where(tiles > 2 * stages, fair + 2 * supply.latency_cycles, np.inf)
        parts = (
            np.minimum(whole, fair),
            contended(steps, tiles * active, by_others, of_core),
            contended(steps, tiles * last, by_others, of_core),
            claims + more,
            waits,
        )
        return limited(ItemTimes(*parts), machine.items_in_flight)

    def _followed(self, waits: Array) -> Array:
        """Return the end of an item, when it was claimed for, and the end of one behind it."""
        stages = np.unique(self.tiling.stages)
        which = np.searchsorted(stages, self.tiling.stages) * _STEPS + self.counts - 1
        own = (*self._tile(0), *self._tile(self.counts - 1), *self._rest())
        supply = supply_of(self.step.machine, 1.0, waits)
        costs = Costs.of(self.step.machine, supply, own, len(which))
        return follow(_item_orders(tuple(stages.tolist())), which, costs)

    def _first_bytes(self) -> Any:
        """Return what an item loads before anything has arrived."""
        counts, stages, in_flight = (
            self.counts,
            self.tiling.stages,
            self.step.machine.load.in_flight,
        )
        keys = np.minimum(counts, stages)
        values = np.where(counts <= stages, np.minimum(counts, in_flight - 1 - keys), 0)
        tile = np.minimum(self.tiling.tile_k, self.length / counts)
        return (self.step.group + (keys + np.maximum(0, values)) * tile) * self.step.row_bytes

    @property
    def _tile_bytes(self) -> Any:
        return 2 * self.tiling.tile_k * self.step.row_bytes

    @property
    def _items(self) -> Array:
        problem = self.step.problem
        return problem.batch * problem.kv_heads * self.ranges

    def _shared_cycles(self) -> tuple[Any, Any, Any]:
        """Return the time of a tile of keys and one of values where cores share the memory.

        These are all cores, or those of the last wave; then what is of others than one of them.
        """
        machine, items = self.step.machine, self._items
        active = np.minimum(items, machine.cores), last_wave(items, machine.cores)
        first, second = (shared_cycles_per_byte(machine, each, 1.0) for each in active)
        return self._tile_bytes * first, self._tile_bytes * second, 1 - 1 / active[0]

    def _period(self, supply: Supply) -> Any:
        """Return what one more tile of keys and one of values take, each at its slowest part.

        A slot is loaded again once the tile `stages` before has been multiplied.
        """
        machine, tile, stages = self.step.machine, self.tiling.tile_k, self.tiling.stages
        tile_bytes = tile * self.step.row_bytes
        served = tile_bytes * supply.cycles_per_byte
        passed = tile_bytes / machine.load.bandwidth
        arrival = np.maximum(
            served + supply.latency_cycles, passed + supply.port_latency_cycles
        ) + (machine.cube.latency_cycles if machine.cube else 0)
        load = np.maximum(served, passed)
        scores, weighted = self._scores(tile), self._weighted(tile)
        keys = np.maximum(np.maximum(load, self._scale(tile)), self._move(tile))
        keys = np.maximum(np.maximum(keys, scores), (arrival + scores) / stages)
        values = np.maximum(np.maximum(load, weighted), (arrival + weighted) / stages)
        return keys + values

    def _tile(self, j: Any) -> _Tile:
        """Return what tile j takes: the last one ends with the range, unless tiles are left out."""
        left = np.where(self.counts == _STEPS, self.length, self.length - j * self.tiling.tile_k)
        keys = np.minimum(self.tiling.tile_k, left)
        row_bytes, weighted = keys * self.step.row_bytes, self._weighted(keys)
        return _Tile(row_bytes, self._scores(keys), self._move(keys), self._scale(keys), weighted)

    def _scores(self, keys: Array) -> Any:
        stored = self.step.formats.stored
        bits = stored.bits, stored.bits
        return self.costs.product(self.step.group, keys, self.step.dim, stored, bits)

    def _move(self, keys: Array) -> Any:
        return self.costs.move(self.step.group, keys, self.step.formats.scores)

    def _weighted(self, keys: Array) -> Any:
        formats = self.step.formats
        bits, operand = (formats.weights.bits, formats.stored.bits), formats.output_operand
        return self.costs.product(self.step.group, self.step.dim, keys, operand, bits)

    def _scale(self, keys: Array) -> Any:
        vector = self.step.formats.vector
        bits = self.step.formats.scores.bits + vector.bits
        return self.costs.vector("multiply", vector, self.step.group, keys, bits)

    def _rest(self) -> _Rest:
        """Return what is beside the tiles; a partial result is stored as it is."""
        formats, group, dim = self.step.formats, self.step.group, self.step.dim
        vector, width, is_whole = formats.vector, formats.vector.bits, self.ranges == 1
        on_scores = self.costs.vector_on(vector, group, self.length)
        softmax = 2 * on_scores("reduce", width)
        softmax = softmax + on_scores("add", 2 * width) + on_scores("exp", 2 * width)
        if formats.weights != vector:
            softmax = softmax + on_scores("convert", width + formats.weights.bits)
        on_output = self.costs.vector_on(vector, group, dim)
        finish = on_output("divide", 2 * width)
        if formats.output != vector:
            finish = finish + on_output("convert", width + formats.output.bits)
        size = np.where(is_whole, dim * formats.output.bits, (dim + 2) * width)
        return _Rest(
            query_bytes=group * self.step.row_bytes,
            softmax=softmax,
            move=self.costs.move(group, dim, vector),
            finish=np.where(is_whole, finish, 0),
            stored_bytes=group * size / BITS_PER_BYTE,
        )


def _merged(step: Step, costs: OpCosts, supply: Supply) -> tuple[list[float], float]:
    """Return the times to merge 1, 2, ... results of one KV head, and that of each further one."""
    vector, group, dim = step.formats.vector, step.group, step.problem.head_dim
    width = vector.bits

    def on(op: str, cols: int, operands: int) -> Any:
        return costs.vector(op, vector, group, cols, operands * width)

    rescale = on("add", 1, 3) + on("exp", 1, 2) + on("multiply", dim, 2) + on("multiply", 1, 3)
    cycles = on("maximum", 1, 3) + 2 * rescale + on("add", dim, 3) + on("add", 1, 3)
    cycles = cycles + on("convert", 1, 2)
    finish = on("divide", dim, 2)
    if step.formats.output != vector:
        finish = finish + on("convert", dim, 2)
    own = _MergeCosts(
        output_bytes=group * dim * width / BITS_PER_BYTE,
        column_bytes=group * width / BITS_PER_BYTE,
        first=0,
        merge=cycles,
        finish=finish,
        stored_bytes=group * dim * step.formats.output.bits / BITS_PER_BYTE,
    )
    followed = Costs.of(step.machine, supply, own, 1)
    notes = follow(_merge_order(), np.zeros(1, np.int64), followed)
    *marks, end = notes[:, 0].tolist()
    return [end - marks[-1] + mark for mark in marks], (marks[-1] - marks[-3]) / 2


class _MergeCosts(NamedTuple):
    """Bytes and cycles to merge results."""

    output_bytes: Any
    column_bytes: Any
    first: Any
    """Vector unit: nothing is merged with the first result."""
    merge: Any
    finish: Any
    stored_bytes: Any


@cache
def _merge_order() -> Orders:
    """Return the order of merging _STEPS results."""
    costs = _MergeCosts(*range(len(_MergeCosts._fields)))
    loaded = {"o": costs.output_bytes, "max": costs.column_bytes, "sum": costs.column_bytes}
    line = Order(dict.fromkeys(loaded, 2))
    for j in range(_STEPS):
        for name, num_bytes in loaded.items():
            line.load(num_bytes, (name, j))
        reads = tuple((name, j) for name in loaded)
        line.run(Unit.VECTOR, costs.merge if j else costs.first, reads, ("merged", 0))
        line.note_free(Unit.VECTOR)
    line.run(Unit.VECTOR, costs.finish, (), ("stored", 0))
    line.store(costs.stored_bytes, ("stored", 0))
    line.note_retired()
    return orders_of([line])
