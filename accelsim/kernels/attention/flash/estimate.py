"""Tiles of the flash kernel: those of the lowest estimated time among those that fit."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import Cut, Tiling
from accelsim.kernels.attention.flash.loop import BY_OTHERS, SHARED, loop_of
from accelsim.kernels.attention.flash.online_estimate import Work, online_orders
from accelsim.kernels.attention.flash.placing import Run, placed
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import Array, Estimate
from accelsim.kernels.estimate.costs import OpCosts, VectorOps
from accelsim.kernels.estimate.memory import (
    launch_cycles,
    least_cycles,
    shared_cycles_per_byte,
    supply_of,
)
from accelsim.kernels.estimate.placement import last_wave
from accelsim.kernels.estimate.timeline import NOT_FOLLOWED, Costs, follow
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import AttentionProblem

_SCORES, _OUTPUT, _COLUMN = range(3)
"""What vector ops work on: a tile of scores, one of the output, or a number for each row."""


def online_work(
    problem: AttentionProblem, formats: StepFormats, *, scale_query: bool
) -> Callable[[OpCosts, Array, Array], Work]:
    """Return what gives the work of `online_softmax`."""
    return lambda costs, rows, tile_k: _work(problem, formats, scale_query, costs, rows, tile_k)


def _work(
    problem: AttentionProblem,
    formats: StepFormats,
    scale_query: bool,
    costs: OpCosts,
    rows: Array,
    tile_k: Array,
) -> Work:
    (dim, value_dim), vector, stored = problem.widths, formats.vector, formats.stored
    width, kv_bytes = vector.bits, formats.kv.bits / BITS_PER_BYTE
    softmax = [
        VectorOps("reduce", _SCORES, width, 2),
        VectorOps("exp", _SCORES, 2 * width),
        VectorOps("add", _SCORES, 2 * width),
        VectorOps("maximum", _COLUMN, 3 * width),
        VectorOps("add", _COLUMN, 3 * width, 2),
        VectorOps("exp", _COLUMN, 2 * width),
        VectorOps("multiply", _COLUMN, 3 * width),
    ]
    if not scale_query:
        softmax.append(VectorOps("multiply", _SCORES, width + formats.scores.bits))
    elif formats.scores != vector:
        softmax.append(VectorOps("convert", _SCORES, width + formats.scores.bits))
    if formats.weights != vector:
        softmax.append(VectorOps("convert", _SCORES, width + formats.weights.bits))
    finish = [VectorOps("divide", _OUTPUT, 2 * width)]
    if formats.output != vector:
        finish.append(VectorOps("convert", _OUTPUT, width + formats.output.bits))
    begin, softmax_cycles, mask, rescale, merge, finish_cycles = costs.vector_sums(
        vector,
        (rows * tile_k, rows * value_dim, rows),
        (
            [VectorOps("fill", _COLUMN, width, 2), VectorOps("fill", _OUTPUT, width)],
            softmax,
            [VectorOps("select", _SCORES, 2 * width)],
            [VectorOps("multiply", _OUTPUT, 2 * width)],
            [VectorOps("add", _OUTPUT, 3 * width)],
            finish,
        ),
    )
    if scale_query:
        begin = begin + costs.vector("multiply", stored, rows, dim, 2 * stored.bits)
    operand, bits = formats.output_operand, (formats.weights.bits, formats.values.bits)
    return Work(
        query_bytes=rows * (dim * stored.bits / BITS_PER_BYTE),
        begin=begin,
        key_bytes=tile_k * (dim * kv_bytes),
        scores=costs.product(rows, tile_k, dim, stored, (stored.bits, formats.keys.bits)),
        scores_move=costs.move(rows, tile_k, formats.scores),
        softmax=softmax_cycles,
        widen=_widen(costs, problem, formats, tile_k),
        mask=mask,
        value_bytes=tile_k * (value_dim * kv_bytes),
        weighted=costs.product(rows, value_dim, tile_k, operand, bits),
        weighted_move=costs.move(rows, value_dim, vector),
        rescale=rescale,
        merge=merge,
        finish=finish_cycles,
        output_bytes=rows * value_dim * formats.output.bits / BITS_PER_BYTE,
    )


def _widen(costs: OpCosts, problem: AttentionProblem, formats: StepFormats, tile_k: Array) -> Array:
    """Return the time in which the vector unit converts a tile of keys and one of values."""
    cycles: Array = 0.0 * tile_k
    operands = zip(problem.widths, (formats.keys, formats.values), strict=True)
    for cols, operand in operands:
        if operand != formats.kv:
            moved_bits = formats.kv.bits + operand.bits
            cycles = cycles + costs.vector("convert", operand, tile_k, cols, moved_bits)
    return cycles


Order = Literal["longest_first", "by_head"]


class OnlineEstimate(NamedTuple):
    """What an estimate is of, and how it is asked."""

    problem: AttentionProblem
    machine: MachineSpec
    work: Callable[[OpCosts, Array, Array], Work]
    """Of query tiles of some rows with key tiles of some rows."""
    unit: Unit = Unit.CUBE
    """Which multiplies."""
    shares_weights: bool = False
    """Whether weights are in the buffer where scores become weights."""
    order: Order = "longest_first"

    def of(self, tiling: Tiling) -> Estimate:
        """Return the estimate of all candidates."""
        problem, machine, cut = self.problem, self.machine, Cut.of(self.problem, tiling)
        turns, whole = self._turns(cut), slice(len(cut.counts))
        tile_bytes = (turns[0].key_bytes + turns[0].value_bytes)[whole]
        row_bytes = turns[0].query_bytes[whole] / np.minimum(tiling.tile_q, cut.block_rows)
        keys = np.minimum(problem.kv_len, cut.seen + tiling.tile_k / 2)
        read = cut.heads.rows * row_bytes + cut.counts * keys * (tile_bytes / tiling.tile_k)
        loaded = cut.heads.heads * read
        loads = self._loads(cut, loaded, tile_bytes)
        others = loads[SHARED] * loads[BY_OTHERS] / tile_bytes
        least = least_cycles(machine, loaded, problem.compulsory_bytes)
        cycles = np.maximum(self._placed(cut, turns, loads, others), least)
        steps = cut.items * np.ceil(cut.seen / tiling.tile_k)
        return Estimate(launch_cycles(machine) + cycles, loaded, steps)

    def _turns(self, cut: Cut) -> tuple[Work, Work]:
        """Return the work of the first query tile of a block and of the second, if it has one.

        That of all blocks but the last ones, then of these.
        """
        rows, tile_q = cut.both_rows, np.tile(cut.tiling.tile_q, 2)
        first = np.minimum(tile_q, rows)
        both = np.concatenate([first, rows - first])
        work = self.work(OpCosts(self.machine), both, np.tile(cut.tiling.tile_k, 4))
        return work.at(slice(len(rows))), work.at(slice(len(rows), None))

    def _placed(self, cut: Cut, turns: tuple[Work, Work], loads: Array, others: Array) -> Array:
        """Return when the last item has ended; where it cannot be the first, a bound on that."""
        problem, machine, tiling = self.problem, self.machine, cut.tiling
        by_head = self.order == "by_head"
        own = problem.q_len, problem.kv_len, problem.causal, by_head
        way = 2 * tiling.fold + tiling.query_tiles - 1
        heads = cut.heads.heads, cut.heads.rows
        cuts = np.array([way, tiling.tile_k, cut.block_rows, *heads, cut.counts])
        run, loop = Run(*own, machine.items_in_flight), self._loop(cut, turns, others)
        return placed(run, cuts, loop, loads, machine.cores)

    def _loop(self, cut: Cut, turns: tuple[Work, Work], others: Array) -> Array:
        """Return what is known of all blocks but the last ones, then of these."""
        machine, tiling, (first, second) = self.machine, cut.tiling, turns
        shares = np.tile(np.minimum(1.0, machine.cores / cut.items), 2)
        key_tiles = np.tile(np.ceil(self.problem.kv_len / tiling.tile_k), 2)
        waits = np.tile(others, 2) * (first.first_bytes(key_tiles) + second.query_bytes)
        supply = supply_of(machine, shares).behind(waits)
        is_shorter = cut.counts * cut.block_rows > cut.heads.rows
        which = np.concatenate(
            [tiling.query_tiles - 1, np.where(is_shorter, tiling.query_tiles - 1, NOT_FOLLOWED)]
        )
        orders = online_orders(self.unit, shares_weights=self.shares_weights)
        widened = first._replace(softmax=first.softmax + first.widen)
        costs = Costs.of(machine, supply, (*widened, *second), len(which))
        single, loop = (follow(each, which, costs) for each in orders)
        return loop_of(single, loop, waits, first.fixed_share, first.mask + second.mask)

    def _loads(self, cut: Cut, loaded_bytes: Array, tile_bytes: Array) -> Array:
        """Return the time to load K and V of a key tile, see `loop`.

        Under a causal mask items differ, and short ones end while the longest still runs.
        """
        problem, cores, items = self.problem, self.machine.cores, cut.items
        shortest: Any = 1.0
        if problem.causal:
            own = np.minimum(cut.block_rows, problem.q_len)
            shortest = 1 - (problem.q_len - own) / problem.kv_len
        active = np.minimum(items * (1 + shortest) / 2, cores)
        last = active + shortest * (last_wave(items, cores) - active)
        fetched = _fetched_share(self, cut, loaded_bytes)
        parts = (active, np.where(items > cores, last, active))
        first, second = (shared_cycles_per_byte(self.machine, part, fetched) for part in parts)
        by_others = np.maximum(0, 1 - 1 / active)
        return np.array([tile_bytes * first, tile_bytes * second, by_others, items / cores])


def _fetched_share(online: OnlineEstimate, cut: Cut, loaded_bytes: Array) -> Array:
    """Return the share of loads that the L2 cannot serve: what comes for the first time.

    Where K and V of all heads do not fit, heads that run at the same time share what they have in
    common, and every block of query rows asks for it again.
    """
    l2 = online.machine.l2
    if l2 is None:
        return np.ones(len(cut.counts))
    sizes = online.problem.tensor_bytes
    distinct = sizes["q"] + sizes["k"] + sizes["v"]
    is_kept = online.order == "by_head" or sizes["k"] + sizes["v"] <= l2.capacity
    share = distinct / loaded_bytes
    return np.minimum(1.0, share if is_kept else np.maximum(share, 1 / cut.heads.group))
