"""Tiles of the flash kernel: those of the lowest estimated time among those that fit."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import Cut, Tiling
from accelsim.kernels.attention.flash.loop import loop_of
from accelsim.kernels.attention.flash.online_estimate import Ahead, Work, followed
from accelsim.kernels.attention.flash.placing import Run, placed
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
    crowd_share,
    launch_cycles,
    least_cycles,
    shared_cycles_per_byte,
    supply_of,
)
from accelsim.kernels.estimate.placement import last_wave
from accelsim.kernels.estimate.timeline import Costs
from accelsim.program.ops import Unit
from accelsim.workload.problem import AttentionProblem

DIM, VALUE_DIM, KEYS, ROWS, SECOND_ROWS = range(ONE + 1, ONE + 6)
"""Extents: elements of a row of Q and K and of V, key rows of a tile, and query rows of both tiles
of a work item."""
_WIDENED = Work._fields.index("softmax")
"""Cost that passes between the scores and the weights of the first query tile."""


@cache
def online_costs(formats: StepFormats, *, scale_query: bool) -> CostTable:
    """Return the costs of `online_softmax`."""
    return of_both_tiles(lambda rows: online_work(formats, rows, scale_query=scale_query))


def of_both_tiles(work_of: Callable[[int], Work]) -> CostTable:
    """Return the costs of both query tiles of a work item; work_of: of one, by its rows."""
    return CostTable((*work_of(ROWS), *work_of(SECOND_ROWS)))


def online_work(formats: StepFormats, rows: int, *, scale_query: bool) -> Work:
    """Return the ops of a query tile of `online_softmax`."""
    vector, stored, width = formats.vector, formats.stored, formats.vector.bits

    def on(op: str, cols: int, moved_bits: int) -> Cost:
        return vector_op(op, vector, rows, cols, moved_bits)

    begin = 2 * on("fill", ONE, width) + on("fill", VALUE_DIM, width)
    if scale_query:
        begin += vector_op("multiply", stored, rows, DIM, 2 * stored.bits)
    softmax = 2 * on("reduce", KEYS, width) + on("exp", KEYS, 2 * width)
    softmax += on("add", KEYS, 2 * width) + on("maximum", ONE, 3 * width)
    softmax += 2 * on("add", ONE, 3 * width) + on("exp", ONE, 2 * width)
    softmax += on("multiply", ONE, 3 * width)
    if not scale_query:
        softmax += on("multiply", KEYS, width + formats.scores.bits)
    elif formats.scores != vector:
        softmax += on("convert", KEYS, width + formats.scores.bits)
    if formats.weights != vector:
        softmax += on("convert", KEYS, width + formats.weights.bits)
    finish = on("divide", VALUE_DIM, 2 * width)
    if formats.output != vector:
        finish += on("convert", VALUE_DIM, width + formats.output.bits)
    output_bytes = moved_bytes(rows, VALUE_DIM, formats.output.bits)
    if formats.coded is not None:
        finish += formats.coded.cost(rows, VALUE_DIM)
        output_bytes += formats.coded.scale_bytes(rows)
    operand, bits = formats.output_operand, (formats.weights.bits, formats.values.bits)
    return Work(
        query_bytes=moved_bytes(rows, DIM, stored.bits),
        begin=begin,
        key_bytes=moved_bytes(KEYS, DIM, formats.kv.bits),
        scores=product(rows, KEYS, DIM, stored, (stored.bits, formats.keys.bits)),
        scores_move=move(rows, KEYS, formats.scores),
        softmax=softmax,
        widen=widen_op(formats.kv, formats.keys, KEYS, DIM)
        + widen_op(formats.kv, formats.values, KEYS, VALUE_DIM),
        mask=on("select", KEYS, 2 * width),
        value_bytes=moved_bytes(KEYS, VALUE_DIM, formats.kv.bits),
        weighted=product(rows, VALUE_DIM, KEYS, operand, bits),
        weighted_move=move(rows, VALUE_DIM, vector),
        rescale=on("multiply", VALUE_DIM, 2 * width),
        merge=on("add", VALUE_DIM, 3 * width),
        finish=finish,
        output_bytes=output_bytes,
    )


Order = Literal["longest_first", "by_head"]


class OnlineEstimate(NamedTuple):
    """What an estimate is of, and how it is asked."""

    problem: AttentionProblem
    machine: MachineSpec
    costs: CostTable
    """Of both query tiles of a work item."""
    unit: Unit = Unit.CUBE
    """Which multiplies."""
    shares_weights: bool = False
    """Whether weights are in the buffer where scores become weights."""
    order: Order = "longest_first"

    def of(self, tiling: Tiling) -> Estimate:
        """Return the estimate of all candidates."""
        problem, machine, cut = self.problem, self.machine, Cut.of(self.problem, tiling)
        costs, whole = self._costs(cut), slice(len(cut.counts))
        first = Work(*costs[: len(Work._fields)])
        tile_bytes = (first.key_bytes + first.value_bytes)[whole]
        row_bytes = first.query_bytes[whole] / np.minimum(tiling.tile_q, cut.block_rows)
        keys = np.minimum(problem.kv_len, cut.seen + tiling.tile_k / 2)
        read = cut.heads.rows * row_bytes + cut.counts * keys * (tile_bytes / tiling.tile_k)
        loaded = cut.heads.heads * read
        fetched = _fetched_share(self, cut, loaded)
        ahead = Ahead.of(np.ceil(problem.kv_len / tiling.tile_k), tiling.query_tiles == 2)
        loads, loop = (
            self._loads(cut, fetched, tile_bytes, ahead),
            self._loop(cut, costs, fetched, ahead),
        )
        least = least_cycles(machine, loaded, problem.compulsory_bytes)
        cycles = np.maximum(self._placed(cut, loop, loads), least)
        steps = cut.items * np.ceil(cut.seen / tiling.tile_k)
        return Estimate(launch_cycles(machine) + cycles, loaded, steps)

    def _costs(self, cut: Cut) -> Array:
        """Return the costs of both query tiles of a block, where the second may have no rows.

        Those of all blocks but the last ones, then of these.
        """
        rows, tile_k = cut.both_rows, _twice(cut.tiling.tile_k)
        first = np.minimum(_twice(cut.tiling.tile_q), rows)
        return self.costs.of(self.machine, *self.problem.widths, tile_k, first, rows - first)

    def _placed(self, cut: Cut, loop: Array, loads: Array) -> Array:
        """Return when the last item has ended; where it cannot be the first, a bound on that."""
        problem, machine, tiling = self.problem, self.machine, cut.tiling
        by_head = self.order == "by_head"
        own = problem.q_len, problem.kv_len, problem.causal, by_head
        way = 2 * tiling.fold + tiling.query_tiles - 1
        heads = cut.heads.heads, cut.heads.rows
        cuts = np.array([way, tiling.tile_k, cut.block_rows, *heads, cut.counts])
        return placed(Run(*own, machine.items_in_flight), cuts, loop, loads, machine.cores)

    def _loop(self, cut: Cut, costs: Array, fetched: Array, ahead: Ahead) -> Array:
        """Return what is known of all blocks but the last ones, then of these."""
        machine, tiling, num_costs = self.machine, cut.tiling, len(Work._fields)
        first, second = (Work(*costs[row : row + num_costs]) for row in (0, num_costs))
        first_bytes = first.first_bytes(Ahead(*map(_twice, ahead))) + second.query_bytes
        # All that have work ask for their first tiles at once.
        at_once = np.minimum(cut.items, machine.cores)
        others = shared_cycles_per_byte(machine, at_once, fetched) * (1 - 1 / at_once)
        waits, shares = first_bytes * _twice(others), _twice(at_once / cut.items)
        supply = supply_of(machine, shares, waits, _twice(fetched))
        is_shorter = cut.counts * cut.block_rows > cut.heads.rows
        query_tiles = np.concatenate((tiling.query_tiles, tiling.query_tiles * is_shorter))
        share, mask = first.fixed_share, first.mask + second.mask
        costs[_WIDENED] += first.widen
        own = Costs.of(machine, supply, costs)
        items = followed(self.unit, own, query_tiles, shares_weights=self.shares_weights)
        return loop_of(items, supply.begin_cycles, share, mask)

    def _loads(self, cut: Cut, fetched: Array, tile_bytes: Array, ahead: Ahead) -> Array:
        """Return the time to load K and V of a key tile, see `loop`.

        Under a causal mask items differ, and short ones end while the longest still runs.
        """
        problem, machine, items = self.problem, self.machine, cut.items
        shortest: Any = 1.0
        if problem.causal:
            own = np.minimum(cut.block_rows, problem.q_len)
            shortest = 1 - (problem.q_len - own) / problem.kv_len
        active = np.minimum(items * (1 + shortest) / 2, machine.cores)
        last = active + shortest * (last_wave(items, machine.cores) - active)
        parts = (active, np.where(items > machine.cores, last, active))
        first, second = (shared_cycles_per_byte(machine, part, fetched) for part in parts)
        by_others = crowd_share(machine, first, active)
        times, waves = (tile_bytes * first, tile_bytes * second), items / machine.cores
        return np.array([*times, by_others, waves, (ahead.keys + ahead.values) / 2])


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


def _twice(each: Array) -> Array:
    """Return the same for all blocks but the last ones, and for these."""
    return np.concatenate((each, each))
