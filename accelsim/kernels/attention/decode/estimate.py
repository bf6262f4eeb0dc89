"""How long a decode step takes with candidates of its tiles, by the order of ops of the frame."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.decode.merge_estimate import merged_cycles
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import Array, Estimate
from accelsim.kernels.estimate.costs import (
    ONE,
    Cost,
    CostTable,
    move,
    moved_bytes,
    product,
    vector_op,
    widen_op,
)
from accelsim.kernels.estimate.memory import (
    contended,
    launch_cycles,
    least_cycles,
    supply_of,
)
from accelsim.kernels.estimate.order import Order, Orders, Use, orders_of
from accelsim.kernels.estimate.placement import ItemTimes, last_equal_end, last_wave, limited
from accelsim.kernels.estimate.rates import rates_of, shared_cycles
from accelsim.kernels.estimate.timeline import Supply, follow
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import SCALE_BITS
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
        times = _Items(self, tiling, length, ranges, counts).times()
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
        return self.formats.kv_row_bits(self.problem.head_dim) / BITS_PER_BYTE

    @property
    def value_bytes(self) -> float:
        """Bytes of a row of V."""
        return self.formats.kv_row_bits(self.problem.widths.value) / BITS_PER_BYTE

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
        alone = merged_cycles(ranges, self.group, problem.widths.value, machine, self.formats)
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
_PARTIAL_BYTES, _REPEATED = 21, slice(22, 30)
"""Where the costs of whole tiles, of the last one and of the rest are among all; then what is
stored of a partial result, and the costs of a tile of many."""
_GROUP, _DIM, _VALUE_DIM, _FULL_KEYS, _LAST_KEYS, _TILE_KEYS, _LENGTH = range(ONE + 1, ONE + 8)
"""Extents: query rows, elements of a row of Q and K and of V, and keys of tiles and of a range."""


@cache
def _costs(formats: StepFormats) -> CostTable:
    vector, width = formats.vector, formats.vector.bits

    def on(op: str, cols: int, moved_bits: int) -> Cost:
        return vector_op(op, vector, _GROUP, cols, moved_bits)

    softmax = 2 * on("reduce", _LENGTH, width)
    softmax += on("add", _LENGTH, 2 * width) + on("exp", _LENGTH, 2 * width)
    if formats.weights != vector:
        softmax += on("convert", _LENGTH, width + formats.weights.bits)
    finish = on("divide", _VALUE_DIM, 2 * width)
    if formats.output != vector:
        finish += on("convert", _VALUE_DIM, width + formats.output.bits)
    rest = _Rest(
        query_bytes=moved_bytes(_GROUP, _DIM, formats.stored.bits),
        softmax=softmax,
        move=move(_GROUP, _VALUE_DIM, vector),
        finish=finish,
        stored_bytes=moved_bytes(_GROUP, _VALUE_DIM, formats.output.bits),
    )
    partial = moved_bytes(_GROUP, _VALUE_DIM, width) + 2 * moved_bytes(_GROUP, ONE, width)
    full, last, repeated = (_tile(formats, keys) for keys in (_FULL_KEYS, _LAST_KEYS, _TILE_KEYS))
    return CostTable((*full, *last, *rest, partial, *repeated))


def _tile(formats: StepFormats, keys: int) -> _Tile:
    stored, vector, scores, kv = formats.stored, formats.vector, formats.scores, formats.kv
    bits = formats.weights.bits, formats.values.bits
    return _Tile(
        keys_bytes=moved_bytes(keys, _DIM, kv.bits) + _shared_bytes(formats, keys, _DIM),
        values_bytes=moved_bytes(keys, _VALUE_DIM, kv.bits)
        + _shared_bytes(formats, keys, _VALUE_DIM),
        widen_keys=widen_op(kv, formats.keys, keys, _DIM)
        + _scale_op(formats, formats.keys, keys, _DIM),
        scores=product(_GROUP, keys, _DIM, stored, (stored.bits, formats.keys.bits)),
        move=move(_GROUP, keys, scores),
        scale=vector_op("multiply", vector, _GROUP, keys, scores.bits + vector.bits),
        widen_values=widen_op(kv, formats.values, keys, _VALUE_DIM)
        + _scale_op(formats, formats.values, keys, _VALUE_DIM),
        weighted=product(_GROUP, _VALUE_DIM, keys, formats.output_operand, bits),
    )


def _shared_bytes(formats: StepFormats, keys: int, width: int) -> Cost:
    """Return the bytes of what codes share; a base of a row is left out, as it is small."""
    cache = formats.cache
    if cache is None:
        return ()
    bits = Format.E8M0.bits if cache.scales == "power_of_two" else 2 * SCALE_BITS
    return tuple(op._replace(bits=(bits / cache.group, 0)) for op in moved_bytes(keys, width, 0))


def _scale_op(formats: StepFormats, operand: Format, keys: int, width: int) -> Cost:
    """Return what the vector unit does with codes that are converted, op by op of a whole tile."""
    if formats.cache is None:
        return ()
    product = vector_op("multiply", operand, keys, width, 2 * operand.bits)
    if formats.cache.scales == "power_of_two":
        return product
    return product + vector_op("add", operand, keys, width, 2 * operand.bits)


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
        line.note_retired(2 * item)
        if item == 0:
            line.note_request(1)
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
        costs = self._costs()
        first, claims, second = self._followed(costs, waits)
        tiles = self.length / self.tiling.tile_k
        period = self._period(supply, _Tile(*costs[_REPEATED]))
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
        fair = fair + np.maximum(0, costs[_REST.softmax] - stages * active / 2)
        fair = np.where(tiles > 2 * stages, fair + 2 * supply.latency_cycles, np.inf)
        parts = (
            np.minimum(whole, fair),
            contended(steps, tiles * active, by_others, of_core),
            contended(steps, tiles * last, by_others, of_core),
            claims + more,
            claims + more,
            waits,
        )
        return limited(ItemTimes(*parts), machine.items_in_flight)

    def _costs(self) -> Array:
        """Return all costs; the last tile ends with the range, unless tiles are left out."""
        step, tile_k, length = self.step, self.tiling.tile_k, self.length
        left = np.where(self.counts == _STEPS, length, length - (self.counts - 1) * tile_k)
        keys = np.minimum(tile_k, length), np.minimum(tile_k, left), tile_k
        costs = _costs(step.formats).of(
            step.machine, step.group, *step.problem.widths, *keys, length
        )
        # A partial result is stored as it is.
        is_partial = self.ranges > 1
        costs[_REST.finish, is_partial] = 0
        costs[_REST.stored_bytes, is_partial] = costs[_PARTIAL_BYTES, is_partial]
        return costs

    def _followed(self, costs: Array, waits: Array) -> Array:
        """Return the end of an item, when it was claimed for, and the end of one behind it."""
        stages = sorted(set(self.tiling.stages.tolist()))
        which = np.searchsorted(stages, self.tiling.stages) * _STEPS + self.counts - 1
        machine = self.step.machine
        return follow(
            _item_orders(tuple(stages), self.step.formats.widens_kv),
            which,
            machine,
            supply_of(machine, 1.0, waits),
            costs,
        )

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
        first, second = (shared_cycles(rates_of(machine), each, 1.0) for each in active)
        return self._tile_bytes * first, self._tile_bytes * second, 1 - 1 / active[0]

    def _period(self, supply: Supply, tile: _Tile) -> Any:
        """Return what one more tile of keys and one of values take, each at its slowest part.

        A slot is loaded again once the tile `stages` before has been multiplied.
        """
        machine, stages = self.step.machine, self.tiling.stages

        def slowest(loaded_bytes: Any, product: Any, *others: Any) -> Any:
            served = loaded_bytes * supply.cycles_per_byte
            passed = loaded_bytes / machine.load.bandwidth
            arrival = np.maximum(
                served + supply.latency_cycles, passed + supply.port_latency_cycles
            ) + (machine.cube.latency_cycles if machine.cube else 0)
            most = np.maximum(np.maximum(served, passed), (arrival + product) / stages)
            for each in (product, *others):
                most = np.maximum(most, each)
            return most

        keys = slowest(tile.keys_bytes, tile.scores, tile.scale + tile.widen_keys, tile.move)
        return keys + slowest(tile.values_bytes, tile.weighted, tile.widen_values)
