"""How long the three phases of the dense kernel take, for candidates of their tiles."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.dense.loop import (
    BY_OTHERS,
    FOLLOWED,
    SHARED,
    Followed,
    fill_times,
    loop_of,
)
from accelsim.kernels.attention.folding import QueryHeads
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
from accelsim.kernels.estimate.placement import (
    NUM_TIMES,
    ItemTimes,
    last_equal_end,
    last_wave,
    limited,
)
from accelsim.kernels.estimate.rates import rates_of, shared_cycles
from accelsim.kernels.estimate.timeline import follow
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem


class Traffic(NamedTuple):
    """Bytes of a phase; arrays."""

    moved: Any
    """Over the ports of the cores."""
    fetched: Any
    """Over those of the HBM, behind an L2."""


class RowBytes(NamedTuple):
    """Bytes of one row of Q, K and V in HBM."""

    query: float
    key: float
    value: float


class Dense(NamedTuple):
    """What an estimate is of, and how it is asked."""

    problem: AttentionProblem
    machine: MachineSpec
    formats: StepFormats
    heads: QueryHeads
    """Query heads as the kernel goes through them, of every candidate."""

    def products(self, tile_q: Array, tile_k: Array) -> Estimate:
        """Return the estimate of the phases of both products."""
        block_rows = np.minimum(tile_q, self.heads.rows)
        first, last = self._score_traffic(block_rows), self._output_traffic(block_rows)
        scores = self._cycles(self._scores, block_rows, tile_k, first)
        output = self._cycles(self._output, block_rows, tile_k, last)
        moved = first.moved + last.moved
        items = self.heads.heads * ceil_div(self.heads.rows, block_rows)
        return Estimate(scores + output, moved, items * ceil_div(self.problem.kv_len, tile_k))

    def softmax(self, rows: Array) -> Array:
        """Return the estimate of the phase of the softmax, in tiles of some rows."""
        machine = self.machine
        item_bytes = rows * self.problem.kv_len * self._bytes(self._score_bits)
        traffic = self._softmax_traffic()
        counts = ceil_div(self.heads.rows, rows)
        items = self.heads.heads * counts
        active, last, by_others, waves = self._loads(item_bytes, items, traffic)
        first_share = self.formats.scores.bits / self._score_bits
        waits = first_share * active * by_others
        table = _softmax_costs(self.formats, self.problem.causal)
        supply = supply_of(machine, float(not self._stays), waits)
        costs = table.of(machine, self.problem.kv_len, rows)
        vector, which = self.formats.vector, np.zeros(len(rows), np.int64)
        x = "scores" if self.formats.scores == vector else "x"
        order = _softmax_order(x, x if self.formats.weights == vector else "weights")
        ends = follow(order, which, machine, supply, costs)
        steps = np.minimum(ends[1] - ends[0], ends[0])
        alone = np.maximum(ends[0], active)
        both = (contended(steps, each, by_others, waves) for each in (active, last))
        parts = (alone, *both, 0 * alone, 0 * alone, waits)
        whole = limited(ItemTimes(*parts), machine.items_in_flight)
        # The last tile of a head may have fewer rows: the mean is that of all rows.
        mean = self.heads.rows / counts / rows
        cycles = _placed(whole, items, machine.cores, mean)
        return self._phase(cycles, traffic, with_products=False)

    @property
    def _all_rows(self) -> int:
        return self.problem.batch * self.problem.q_heads * self.problem.q_len

    @property
    def _score_bits(self) -> int:
        return self.formats.scores.bits + self.formats.weights.bits

    @property
    def _stays(self) -> bool:
        """Whether scores and weights stay in an L2 from phase to phase."""
        l2 = self.machine.l2
        size = self._all_rows * self.problem.kv_len * self._bytes(self._score_bits)
        return l2 is not None and size <= l2.capacity

    @property
    def _stores_pass(self) -> bool:
        l2 = self.machine.l2
        return l2 is None or l2.writes == "through" or not self._stays

    @staticmethod
    def _bytes(bits: int) -> float:
        return bits / BITS_PER_BYTE

    def _cycles(self, phase: Any, block_rows: Array, tile_k: Array, traffic: Traffic) -> Array:
        """Return the time of a phase of products; phase: what one of its items is made of."""
        counts = ceil_div(self.heads.rows, block_rows)
        items = self.heads.heads * counts
        tiles = self.problem.kv_len / tile_k
        item_bytes = traffic.moved / items / tiles
        loads = self._loads(item_bytes, items, traffic)
        others = loads[SHARED] * loads[BY_OTHERS] / item_bytes
        loop, times = (
            self._loop(phase(block_rows, tile_k), others),
            np.empty((NUM_TIMES, len(tiles))),
        )
        fill_times(loop, tiles, loads, float(self.machine.items_in_flight), times)
        mean = self.heads.rows / counts / block_rows
        cycles = _placed(ItemTimes(*times), items, self.machine.cores, mean)
        return self._phase(cycles, traffic)

    def _loads(self, num_bytes: Array, items: Array, traffic: Traffic) -> Array:
        """Return the time of some bytes where cores share the memory, see `loop`."""
        share = traffic.fetched / traffic.moved
        active = np.minimum(items, self.machine.cores), last_wave(items, self.machine.cores)
        first, second = (shared_cycles(rates_of(self.machine), each, share) for each in active)
        waves = items / self.machine.cores
        times, by_others = (num_bytes * first, num_bytes * second), 1 - 1 / active[0]
        return np.array([*times, by_others, waves])

    def _phase(self, cycles: Array, traffic: Traffic, *, with_products: bool = True) -> Array:
        least = least_cycles(self.machine, traffic.moved, traffic.fetched)
        launch = launch_cycles(self.machine, with_products=with_products)
        return np.asarray(launch + np.maximum(cycles, least))

    def _score_traffic(self, block_rows: Array) -> Traffic:
        problem, sizes = self.problem, self.problem.tensor_bytes
        blocks = self.heads.heads * ceil_div(self.heads.rows, block_rows)
        stored = self._all_rows * problem.kv_len * self._bytes(self.formats.scores.bits)
        loaded = sizes["q"] + blocks * problem.kv_len * self._row_bytes.key
        first = sizes["q"] + sizes["k"]
        return Traffic(loaded + stored, np.minimum(loaded, first) + stored * self._stores_pass)

    def _output_traffic(self, block_rows: Array) -> Traffic:
        problem, sizes = self.problem, self.problem.tensor_bytes
        blocks = self.heads.heads * ceil_div(self.heads.rows, block_rows)
        weights = self._all_rows * problem.kv_len * self._bytes(self.formats.weights.bits)
        values = blocks * problem.kv_len * self._row_bytes.value
        output = self._all_rows * problem.widths.value * self._bytes(self.formats.stored.bits)
        fetched = np.minimum(values, sizes["v"]) + weights * (not self._stays) + output
        return Traffic(weights + values + output, fetched)

    def _softmax_traffic(self) -> Traffic:
        elements = self._all_rows * self.problem.kv_len
        loaded = elements * self._bytes(self.formats.scores.bits)
        stored = elements * self._bytes(self.formats.weights.bits)
        fetched = loaded * (not self._stays) + stored * self._stores_pass
        return Traffic(loaded + stored, fetched)

    @property
    def _row_bytes(self) -> RowBytes:
        widths, formats = self.problem.widths, self.formats
        of_kv = self._bytes(formats.kv.bits)
        query = widths.key * self._bytes(formats.stored.bits)
        return RowBytes(query, widths.key * of_kv, widths.value * of_kv)

    def _loop(self, phase: "_Phase", others: Array) -> Array:
        """Return what is known of items with few and with many key tiles."""
        which, notes = np.zeros(len(others), np.int64), []
        for steps, first_bytes in zip((1, FOLLOWED), phase.first_bytes, strict=True):
            supply = supply_of(self.machine, phase.first_share, others * first_bytes)
            notes.append(
                follow(phase.order(steps, phase.widens), which, self.machine, supply, phase.costs)
            )
        return loop_of(_between(*notes), supply.begin_cycles)

    def _scores(self, rows: Array, tile_k: Array) -> "_Phase":
        """Return the first phase: a tile of queries meets all tiles of keys."""
        formats, dim = self.formats, self.problem.widths.key
        costs = _score_costs(formats).of(self.machine, dim, tile_k, rows)
        query_bytes, tile_bytes = costs[:2]
        first_bytes = [query_bytes + ahead * tile_bytes for ahead in (1, 2)]
        return _Phase(costs, _scores_order, formats.keys != formats.kv, first_bytes, 1.0)

    def _output(self, rows: Array, tile_k: Array) -> "_Phase":
        """Return the last phase: weights and values of all tiles of keys."""
        formats, dim = self.formats, self.problem.widths.value
        costs = _output_costs(formats).of(self.machine, dim, tile_k, rows)
        query_bytes, tile_bytes = costs[:2]
        first_bytes = [ahead * (query_bytes + tile_bytes) for ahead in (1, 2)]
        is_widened, first_share = formats.values != formats.kv, float(not self._stays)
        return _Phase(costs, _output_order, is_widened, first_bytes, first_share)


class _Costs(NamedTuple):
    """Bytes and cycles in a phase of products."""

    query_bytes: Any
    """Of the queries of an item, or of the weights of a step."""
    tile_bytes: Any
    widen: Any
    """Vector unit: keys or values to what the matrix unit takes."""
    product: Any
    move: Any
    stored_bytes: Any


class _Phase(NamedTuple):
    """What an item of a phase of products is made of."""

    costs: Array
    """Rows as of `_Costs`."""
    order: Callable[[int, bool], Orders]
    """For some steps, with keys or values that are widened or are not."""
    widens: bool
    first_bytes: list[Array]
    """That it loads before anything has arrived, with one step and with several."""
    first_share: float
    """Of what it loads, that comes for the first time."""


class _SoftmaxCosts(NamedTuple):
    """Bytes and cycles of a tile of the softmax."""

    loaded_bytes: Any
    scale: Any
    rest: Any
    convert: Any
    stored_bytes: Any


_COSTS = _Costs(*range(len(_Costs._fields)))
_DIM, _KEYS, _ROWS = range(ONE + 1, ONE + 4)
"""Extents of products: elements of a row, and rows of keys and queries of a tile; of the softmax
all keys and the rows of a tile."""
_COLS, _SOFTMAX_ROWS = range(ONE + 1, ONE + 3)


@cache
def _score_costs(formats: StepFormats) -> CostTable:
    stored, scores = formats.stored, formats.scores
    own = _Costs(
        query_bytes=moved_bytes(_ROWS, _DIM, stored.bits),
        tile_bytes=moved_bytes(_KEYS, _DIM, formats.kv.bits),
        widen=widen_op(formats.kv, formats.keys, _KEYS, _DIM),
        product=product(_ROWS, _KEYS, _DIM, stored, (stored.bits, formats.keys.bits)),
        move=move(_ROWS, _KEYS, scores),
        stored_bytes=moved_bytes(_ROWS, _KEYS, scores.bits),
    )
    return CostTable(own)


@cache
def _output_costs(formats: StepFormats) -> CostTable:
    stored, weights = formats.stored, formats.weights
    bits = weights.bits, formats.values.bits
    own = _Costs(
        query_bytes=moved_bytes(_ROWS, _KEYS, weights.bits),
        tile_bytes=moved_bytes(_KEYS, _DIM, formats.kv.bits),
        widen=widen_op(formats.kv, formats.values, _KEYS, _DIM),
        product=product(_ROWS, _DIM, _KEYS, formats.output_operand, bits),
        move=move(_ROWS, _DIM, stored),
        stored_bytes=moved_bytes(_ROWS, _DIM, stored.bits),
    )
    return CostTable(own)


@cache
def _softmax_costs(formats: StepFormats, causal: bool) -> CostTable:
    width = formats.vector.bits

    def on(op: str, moved_bits: int) -> Cost:
        return vector_op(op, formats.vector, _SOFTMAX_ROWS, _COLS, moved_bits)

    rest = 2 * on("reduce", width) + on("add", 2 * width) + on("exp", 2 * width)
    own = _SoftmaxCosts(
        loaded_bytes=moved_bytes(_SOFTMAX_ROWS, _COLS, formats.scores.bits),
        scale=on("multiply", formats.scores.bits + width),
        rest=rest + on("divide", 2 * width) + causal * on("select", 2 * width),
        convert=on("convert", width + formats.weights.bits),
        stored_bytes=moved_bytes(_SOFTMAX_ROWS, _COLS, formats.weights.bits),
    )
    return CostTable(own)


@cache
def _scores_order(steps: int, widens: bool) -> Orders:
    line = Order(dict.fromkeys(("q", "k", "operand", "acc", "s"), 2))
    for item in range(2):
        line.claim()
        line.load(_COSTS.query_bytes, ("q", item))
        for j in range(steps):
            keys = _load_operand(line, ("k", j), widens)
            line.run(Unit.CUBE, _COSTS.product, (("q", item), keys), ("acc", j))
            line.run(Unit.MOVE, _COSTS.move, (("acc", j),), ("s", j))
            line.store(_COSTS.stored_bytes, ("s", j))
            if item == 0:
                line.note_free(2 * j, Unit.MOVE)
                line.note_request(2 * j + 1)
        line.note_retired(2 * steps + item)
    return orders_of([line])


@cache
def _output_order(steps: int, widens: bool) -> Orders:
    line = Order(dict.fromkeys(("w", "v", "operand", "acc"), 2))
    for item in range(2):
        line.claim()
        for j in range(steps):
            line.load(_COSTS.query_bytes, ("w", j))
            values = _load_operand(line, ("v", j), widens)
            line.run(Unit.CUBE, _COSTS.product, (("w", j), values), ("acc", item))
            if item == 0:
                line.note_free(2 * j, Unit.CUBE)
                line.note_request(2 * j + 1)
        line.run(Unit.MOVE, _COSTS.move, (("acc", item),), ("o", 0))
        line.store(_COSTS.stored_bytes, ("o", 0))
        line.note_retired(2 * steps + item)
    return orders_of([line])


def _load_operand(line: Order, tile: Use, widens: bool) -> Use:
    """Load keys or values; return where the matrix unit finds them."""
    line.load(_COSTS.tile_bytes, tile)
    if not widens:
        return tile
    operand = "operand", tile[1]
    line.run(Unit.VECTOR, _COSTS.widen, (tile,), operand)
    return operand


@cache
def _softmax_order(x: str, weights: str) -> Orders:
    """x, weights: buffers where scores become weights, and of the weights; both may be one."""
    line, cost = Order({}), _SoftmaxCosts(*range(len(_SoftmaxCosts._fields)))
    for item in range(2):
        line.claim()
        line.load(cost.loaded_bytes, ("scores", 0))
        line.run(Unit.VECTOR, cost.scale, (("scores", 0),), (x, 0))
        line.run(Unit.VECTOR, cost.rest, (), (x, 0))
        if weights != x:
            line.run(Unit.VECTOR, cost.convert, (), (weights, 0))
        line.store(cost.stored_bytes, (weights, 0))
        line.note_retired(item)
    return orders_of([line])


def _between(single: Array, several: Array) -> Followed:
    """Return what is known of items of all lengths from those of 1 and of FOLLOWED steps.

    The others have fewer of the steps in the middle. Nothing hides the loads of one.
    """
    *steps, end, both = several
    free, claims = np.array(steps[::2]), np.array(steps[1::2])
    ends = np.concatenate([single[2:3], end + free[:-1] - free[-2]])
    hidden = np.concatenate([single[2:3], np.broadcast_to(end, free[1:].shape)])
    hidden = 2 * hidden - np.concatenate([single[3:4], np.broadcast_to(both, free[1:].shape)])
    claims[0] = single[1]
    # Slots are used in turn, so two steps together are what repeats. The last may be another.
    return Followed(claims, ends, hidden, (free[-2] - free[-4]) / 2)


def _placed(times: ItemTimes, items: Array, cores: int, mean: Array) -> Array:
    """Return when the last of equal items has ended; mean: their rows over those of a full one."""
    return last_equal_end(times._replace(steps=times.steps * mean), items, cores)
