"""How long the three phases of the dense kernel take, for candidates of their tiles."""

from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.online_estimate import Loads, Loop, LoopNotes
from accelsim.kernels.attention.folding import QueryHeads
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
from accelsim.kernels.estimate.placement import ItemTimes, last_equal_end, last_wave
from accelsim.kernels.estimate.timeline import Timeline
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem

_STEPS = 5


class Traffic(NamedTuple):
    """Bytes of a phase; arrays."""

    moved: Any
    """Over the ports of the cores."""
    fetched: Any
    """Over those of the HBM, behind an L2."""


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
        machine, costs = self.machine, OpCosts(self.machine)
        item_bytes = rows * self.problem.kv_len * self._bytes(self._score_bits)
        traffic = self._softmax_traffic()
        counts = ceil_div(self.heads.rows, rows)
        items = self.heads.heads * counts
        active, last, by_others, waves, _ = self._loads(item_bytes, items, traffic)
        first_share = self.formats.scores.bits / self._score_bits
        waits = first_share * active * by_others
        supply = supply_of(machine, float(not self._stays), waits)
        line = Timeline(machine, supply, {})
        ends = []
        for _ in range(2):
            line.claim()
            self._softmax_item(line, costs, rows)
            ends.append(line.retired)
        steps = np.minimum(ends[1] - ends[0], ends[0])
        alone = np.maximum(ends[0], active)
        both = (contended(steps, each, by_others, waves) for each in (active, last))
        parts = (alone, *both, 0 * alone, waits + 0 * alone)
        whole = ItemTimes(*(each[:, None] for each in parts)).limited(machine.items_in_flight)
        # The last tile of a head may have fewer rows: the mean is that of all rows.
        mean = (self.heads.rows / counts / rows)[:, None]
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

    def _cycles(self, follow: Any, block_rows: Array, tile_k: Array, traffic: Traffic) -> Array:
        """Return the time of a phase of products; follow: gives the loop of one of its items."""
        counts = ceil_div(self.heads.rows, block_rows)
        items = self.heads.heads * counts
        tiles = (self.problem.kv_len / tile_k)[:, None]
        item_bytes = traffic.moved / items / tiles[:, 0]
        loads = self._loads(item_bytes, items, traffic)
        others = loads.shared * loads.by_others / item_bytes
        single, loop = (follow(block_rows, tile_k, others, steps) for steps in (1, _STEPS))
        times = loop.after(single).times(tiles, loads).limited(self.machine.items_in_flight)
        mean = (self.heads.rows / counts / block_rows)[:, None]
        return self._phase(_placed(times, items, self.machine.cores, mean), traffic)

    def _loads(self, num_bytes: Array, items: Array, traffic: Traffic) -> Loads:
        """Return the time of some bytes where cores share the memory."""
        share = traffic.fetched / traffic.moved
        active = np.minimum(items, self.machine.cores), last_wave(items, self.machine.cores)
        first, second = (shared_cycles_per_byte(self.machine, each, share) for each in active)
        waves = items / self.machine.cores
        return Loads(
            num_bytes * first, num_bytes * second, 1 - 1 / active[0], waves, np.ones_like(waves)
        )

    def _phase(self, cycles: Array, traffic: Traffic, *, with_products: bool = True) -> Array:
        least = least_cycles(self.machine, traffic.moved, traffic.fetched)
        launch = launch_cycles(self.machine, with_products=with_products)
        return np.asarray(launch + np.maximum(cycles, least))

    def _score_traffic(self, block_rows: Array) -> Traffic:
        problem, row_bytes = self.problem, self.problem.head_dim * self._bytes(self._stored_bits)
        blocks = self.heads.heads * ceil_div(self.heads.rows, block_rows)
        stored = self._all_rows * problem.kv_len * self._bytes(self.formats.scores.bits)
        loaded = self._all_rows * row_bytes + blocks * problem.kv_len * row_bytes
        first = (self._all_rows + problem.batch * problem.kv_heads * problem.kv_len) * row_bytes
        return Traffic(loaded + stored, np.minimum(loaded, first) + stored * self._stores_pass)

    def _output_traffic(self, block_rows: Array) -> Traffic:
        problem, row_bytes = self.problem, self.problem.head_dim * self._bytes(self._stored_bits)
        blocks = self.heads.heads * ceil_div(self.heads.rows, block_rows)
        weights = self._all_rows * problem.kv_len * self._bytes(self.formats.weights.bits)
        values = blocks * problem.kv_len * row_bytes
        output = self._all_rows * row_bytes
        first = problem.batch * problem.kv_heads * problem.kv_len * row_bytes
        fetched = np.minimum(values, first) + weights * (not self._stays) + output
        return Traffic(weights + values + output, fetched)

    def _softmax_traffic(self) -> Traffic:
        elements = self._all_rows * self.problem.kv_len
        loaded = elements * self._bytes(self.formats.scores.bits)
        stored = elements * self._bytes(self.formats.weights.bits)
        fetched = loaded * (not self._stays) + stored * self._stores_pass
        return Traffic(loaded + stored, fetched)

    @property
    def _stored_bits(self) -> int:
        return self.formats.stored.bits

    def _scores(self, rows: Array, tile_k: Array, others: Array, steps: int) -> Loop:
        """Follow the first phase: a tile of queries meets all tiles of keys."""
        machine, costs, dim = self.machine, OpCosts(self.machine), self.problem.head_dim
        row_bytes, bits = dim * self._bytes(self._stored_bits), self._stored_bits
        product = costs.product(rows, tile_k, dim, self.formats.stored, (bits, bits))
        move = costs.move(rows, tile_k, self.formats.scores)
        stored_bytes = rows * tile_k * self._bytes(self.formats.scores.bits)
        first_bytes = (rows + min(steps, 2) * tile_k) * row_bytes
        supply = supply_of(machine, 1.0, others * first_bytes)
        line = Timeline(machine, supply, dict.fromkeys(("q", "k", "acc", "s"), 2))
        notes = LoopNotes(line)
        for item in range(2):
            line.claim()
            line.load(rows * row_bytes, ("q", item))
            for j in range(steps):
                line.load(tile_k * row_bytes, ("k", j))
                line.run(Unit.CUBE, product, (("q", item), ("k", j)), ("acc", j))
                line.run(Unit.MOVE, move, (("acc", j),), ("s", j))
                line.store(stored_bytes, ("s", j))
                notes.note_step(line.free(Unit.MOVE))
            notes.end_item()
        return notes.loop()

    def _output(self, rows: Array, tile_k: Array, others: Array, steps: int) -> Loop:
        """Follow the last phase: weights and values of all tiles of keys."""
        machine, costs, dim = self.machine, OpCosts(self.machine), self.problem.head_dim
        formats, row_bytes = self.formats, dim * self._bytes(self._stored_bits)
        bits = formats.weights.bits, formats.stored.bits
        product = costs.product(rows, dim, tile_k, formats.output_operand, bits)
        loaded_bytes = rows * tile_k * self._bytes(formats.weights.bits)
        first_bytes = min(steps, 2) * (loaded_bytes + tile_k * row_bytes)
        supply = supply_of(machine, float(not self._stays), others * first_bytes)
        line = Timeline(machine, supply, dict.fromkeys(("w", "v", "acc"), 2))
        notes = LoopNotes(line)
        for item in range(2):
            line.claim()
            for j in range(steps):
                line.load(loaded_bytes, ("w", j))
                line.load(tile_k * row_bytes, ("v", j))
                line.run(Unit.CUBE, product, (("w", j), ("v", j)), ("acc", item))
                notes.note_step(line.free(Unit.CUBE))
            move = costs.move(rows, dim, formats.stored)
            line.run(Unit.MOVE, move, (("acc", item),), ("o", 0))
            line.store(rows * row_bytes, ("o", 0))
            notes.end_item()
        return notes.loop()

    def _softmax_item(self, line: Timeline, costs: OpCosts, rows: Array) -> None:
        formats, cols = self.formats, self.problem.kv_len
        vector, width = formats.vector, formats.vector.bits
        on = costs.vector_on(vector, rows, cols)
        line.load(rows * cols * self._bytes(formats.scores.bits), ("scores", 0))
        scores = "scores" if formats.scores == vector else "x"
        line.run(
            Unit.VECTOR, on("multiply", formats.scores.bits + width), (("scores", 0),), (scores, 0)
        )
        rest = 2 * on("reduce", width) + on("add", 2 * width) + on("exp", 2 * width)
        rest = rest + on("divide", 2 * width)
        if self.problem.causal:
            rest = rest + on("select", 2 * width)
        line.run(Unit.VECTOR, rest, (), (scores, 0))
        weights = scores
        if formats.weights != vector:
            weights = "weights"
            line.run(Unit.VECTOR, on("convert", width + formats.weights.bits), (), (weights, 0))
        line.store(rows * cols * self._bytes(formats.weights.bits), (weights, 0))


def _placed(times: ItemTimes, items: Array, cores: int, mean: Array) -> Array:
    """Return when the last of equal items has ended; mean: their rows over those of a full one."""
    return last_equal_end(times._replace(steps=times.steps * mean), items, cores)
