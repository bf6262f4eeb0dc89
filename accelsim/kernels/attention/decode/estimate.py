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
from accelsim.kernels.estimate.order import Order, Orders, Use, orders_of
from accelsim.kernels.estimate.placement import ItemTimes, last_equal_end, last_wave, limited
from accelsim.kernels.estimate.timeline import Costs, Supply, follow
from accelsim.numerics.formats import Format
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem

_LATE_KEYS = 0.35
"""Of the time of a pair of tiles that is lost where one tile of keys more than there are slots for
waits until the values of other cores are served (found by simulating: between 0.2 and 0.5)."""
_STAGED = "keys", "values", "keys_operands", "values_operands"
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
    def query_bytes(self) -> float:
        """Bytes of a row of Q."""
        return self.problem.head_dim * self.problem.dtype.bits / BITS_PER_BYTE

    @property
    def key_bytes(self) -> float:
        """Bytes of a row of K."""
        return self.problem.head_dim * self.formats.kv.bits / BITS_PER_BYTE

    @property
    def value_bytes(self) -> float:
        """Bytes of a row of V."""
        return self.problem.widths.value * self.formats.kv.bits / BITS_PER_BYTE

    @property
    def pair_bytes(self) -> float:
        """Bytes of a row of K and one of V."""
        return self.key_bytes + self.value_bytes

    def _moved_bytes(self, ranges: Array) -> Array:
        value_dim = self.problem.widths.value
        partial = self.group * (value_dim + 2) * self.formats.vector.bits / BITS_PER_BYTE
        output = value_dim * self.problem.dtype.bits / BITS_PER_BYTE
        own = self.keys * self.pair_bytes + self.group * (self.query_bytes + output)
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

    keys_bytes: Any
    values_bytes: Any
    widen_keys: Any
    """Vector unit: keys to what the matrix unit takes."""
    scores: Any
    move: Any
    scale: Any
    widen_values: Any
    weighted: Any


class _Rest(NamedTuple):
    """Cycles and bytes of an item beside its tiles."""

    query_bytes: Any
    softmax: Any
    move: Any
    finish: Any
    stored_bytes: Any


_FULL, _LAST = _Tile(*range(8)), _Tile(*range(8, 16))
_REST = _Rest(*range(16, 21))
"""Where the costs of whole tiles, of the last one and of the rest are among all."""


@cache
def _item_orders(stages: tuple[int, ...], widens: bool) -> Orders:
    """Return the orders of two items with 1 to _STEPS tiles each, for each number of slots."""
    counts = range(1, _STEPS + 1)
    return orders_of([_two_items(slots, count, widens) for slots in stages for count in counts])


def _two_items(stages: int, count: int, widens: bool) -> Order:
    line = Order(_SLOTS | dict.fromkeys(_STAGED, stages))
    tiles = [_FULL] * (count - 1) + [_LAST]
    for item in range(2):
        line.claim()
        line.load(_REST.query_bytes, ("queries", item))
        for j, tile in enumerate(tiles):
            keys = _load_operand(line, ("keys", j), tile.keys_bytes, tile.widen_keys, widens)
            reads = ("queries", item), keys
            line.run(Unit.CUBE, tile.scores, reads, ("scores_acc", j))
            line.run(Unit.MOVE, tile.move, (("scores_acc", j),), ("scores", j))
            line.run(Unit.VECTOR, tile.scale, (("scores", j),), ("x", 0))
        line.run(Unit.VECTOR, _REST.softmax, (), ("weights", 0))
        for j, tile in enumerate(tiles):
            values = ("values", j), tile.values_bytes, tile.widen_values
            reads = ("weights", 0), _load_operand(line, *values, widens)
            line.run(Unit.CUBE, tile.weighted, reads, ("output_acc", 0))
        line.run(Unit.MOVE, _REST.move, (("output_acc", 0),), ("output", 0))
        line.run(Unit.VECTOR, _REST.finish, (("output", 0),), ("stored", 0))
        line.store(_REST.stored_bytes, ("stored", 0))
        line.note_retired()
        if item == 0:
            line.note_request()
    return line


def _load_operand(line: Order, tile: Use, loaded_bytes: int, widen: int, widens: bool) -> Use:
    """Load keys or values; return where the matrix unit finds them."""
    line.load(loaded_bytes, tile)
    if not widens:
        return tile
    operand = f"{tile[0]}_operands", tile[1]
    line.run(Unit.VECTOR, widen, (tile,), operand)
    return operand


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
        first, claims, second = self._followed(supply, waits)
        tiles = self.length / self.tiling.tile_k
        period = self._period(supply)
        more = np.maximum(tiles - counts, 0) * (counts == _STEPS) * period
        alone, steps = first + more, np.minimum(second - first, first) + more
        # What is loaded before anything has arrived waits for other cores only once.
        beyond = np.where(counts > stages, np.maximum(0, tiles - stages / 2), 0)
        beyond = beyond + _LATE_KEYS * (counts == stages + 1)
        of_core = tiles * self._items / machine.cores
        parts = (
            # The first loads wait for those of other cores, the others at each tile.
            alone + beyond * (contended(period, active, np.ceil(by_others), tiles) - period),
            contended(steps, tiles * active, by_others, of_core),
            contended(steps, tiles * last, by_others, of_core),
            claims + more,
            waits,
        )
        return limited(ItemTimes(*parts), machine.items_in_flight)

    def _followed(self, supply: Supply, waits: Array) -> Array:
        """Return the end of an item, when it was claimed for, and the end of one behind it."""
        stages = np.unique(self.tiling.stages)
        which = np.searchsorted(stages, self.tiling.stages) * _STEPS + self.counts - 1
        own = (*self._tile(0), *self._tile(self.counts - 1), *self._rest())
        costs = Costs.of(self.step.machine, supply.behind(waits), own, len(which))
        orders = _item_orders(tuple(stages.tolist()), self.step.formats.widens_kv)
        return follow(orders, which, costs)

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
        of_row = keys * self.step.key_bytes + np.maximum(0, values) * self.step.value_bytes
        return self.step.group * self.step.query_bytes + of_row * tile

    @property
    def _tile_bytes(self) -> Any:
        return self.tiling.tile_k * self.step.pair_bytes

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

        def slowest(row_bytes: float, product: Any, *others: Any) -> Any:
            served = tile * row_bytes * supply.cycles_per_byte
            passed = tile * row_bytes / machine.load.bandwidth
            arrival = np.maximum(
                served + supply.latency_cycles, passed + supply.port_latency_cycles
            ) + (machine.cube.latency_cycles if machine.cube else 0)
            load = np.maximum(served, passed)
            return np.maximum.reduce(
                np.broadcast_arrays(load, product, (arrival + product) / stages, *others)
            )

        widen_keys, widen_values = self._widen(tile)
        on_vector = self._scale(tile) + widen_keys
        keys = slowest(self.step.key_bytes, self._scores(tile), on_vector, self._move(tile))
        return keys + slowest(self.step.value_bytes, self._weighted(tile), widen_values)

    def _tile(self, j: Any) -> _Tile:
        """Return what tile j takes: the last one ends with the range, unless tiles are left out."""
        left = np.where(self.counts == _STEPS, self.length, self.length - j * self.tiling.tile_k)
        keys = np.minimum(self.tiling.tile_k, left)
        widen_keys, widen_values = self._widen(keys)
        return _Tile(
            keys_bytes=keys * self.step.key_bytes,
            values_bytes=keys * self.step.value_bytes,
            widen_keys=widen_keys,
            scores=self._scores(keys),
            move=self._move(keys),
            scale=self._scale(keys),
            widen_values=widen_values,
            weighted=self._weighted(keys),
        )

    def _scores(self, keys: Array) -> Any:
        formats, dim = self.step.formats, self.step.problem.head_dim
        bits = formats.stored.bits, formats.keys.bits
        return self.costs.product(self.step.group, keys, dim, formats.stored, bits)

    def _move(self, keys: Array) -> Any:
        return self.costs.move(self.step.group, keys, self.step.formats.scores)

    def _weighted(self, keys: Array) -> Any:
        formats, value_dim = self.step.formats, self.step.problem.widths.value
        bits, operand = (formats.weights.bits, formats.values.bits), formats.output_operand
        return self.costs.product(self.step.group, value_dim, keys, operand, bits)

    def _widen(self, keys: Array) -> tuple[Any, Any]:
        """Return what it takes to convert keys, and values."""
        formats, widths = self.step.formats, self.step.problem.widths

        def cycles(cols: int, operand: Format) -> Any:
            bits = formats.kv.bits + operand.bits
            return self.costs.vector("convert", operand, keys, cols, bits) * (operand != formats.kv)

        return cycles(widths.key, formats.keys), cycles(widths.value, formats.values)

    def _scale(self, keys: Array) -> Any:
        vector = self.step.formats.vector
        bits = self.step.formats.scores.bits + vector.bits
        return self.costs.vector("multiply", vector, self.step.group, keys, bits)

    def _rest(self) -> _Rest:
        """Return what is beside the tiles; a partial result is stored as it is."""
        formats, group, dim = self.step.formats, self.step.group, self.step.problem.widths.value
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
            query_bytes=group * self.step.query_bytes,
            softmax=softmax,
            move=self.costs.move(group, dim, vector),
            finish=np.where(is_whole, finish, 0),
            stored_bytes=group * size / BITS_PER_BYTE,
        )


def _merged(step: Step, costs: OpCosts, supply: Supply) -> tuple[list[float], float]:
    """Return the times to merge 1, 2, ... results of one KV head, and that of each further one."""
    vector, group, dim = step.formats.vector, step.group, step.problem.widths.value
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
