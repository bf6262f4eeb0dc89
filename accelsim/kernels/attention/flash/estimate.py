"""Tiles of the flash kernel: those of the lowest estimated time among those that fit."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import Cut, Tiling
from accelsim.kernels.attention.flash.loop import loop_of
from accelsim.kernels.attention.flash.online_estimate import Ahead, Work, followed
from accelsim.kernels.attention.flash.placing import Run, placed
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import Array, Estimate
from accelsim.kernels.estimate.costs import OpCosts, VectorOps
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
    dim, vector, stored = problem.head_dim, formats.vector, formats.stored
    width = vector.bits
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
        (rows * tile_k, rows * dim, rows),
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
    operand, row_bytes = formats.output_operand, dim * stored.bits / BITS_PER_BYTE
    return Work(
        query_bytes=rows * row_bytes,
        begin=begin,
        key_bytes=tile_k * row_bytes,
        scores=costs.product(rows, tile_k, dim, stored, (stored.bits, stored.bits)),
        scores_move=costs.move(rows, tile_k, formats.scores),
        softmax=softmax_cycles,
        mask=mask,
        value_bytes=tile_k * row_bytes,
        weighted=costs.product(rows, dim, tile_k, operand, (formats.weights.bits, stored.bits)),
        weighted_move=costs.move(rows, dim, vector),
        rescale=rescale,
        merge=merge,
        finish=finish_cycles,
        output_bytes=rows * dim * formats.output.bits / BITS_PER_BYTE,
    )


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
        fetched = _fetched_share(self, cut, loaded)
        ahead = Ahead.of(np.ceil(problem.kv_len / tiling.tile_k), tiling.query_tiles == 2)
        loads, loop = (
            self._loads(cut, fetched, tile_bytes, ahead),
            self._loop(cut, turns, fetched, ahead),
        )
        least = least_cycles(machine, loaded, problem.compulsory_bytes)
        cycles = np.maximum(self._placed(cut, loop, loads), least)
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

    def _placed(self, cut: Cut, loop: Array, loads: Array) -> Array:
        """Return when the last item has ended; where it cannot be the first, a bound on that."""
        problem, machine, tiling = self.problem, self.machine, cut.tiling
        by_head = self.order == "by_head"
        own = problem.q_len, problem.kv_len, problem.causal, by_head
        way = 2 * tiling.fold + tiling.query_tiles - 1
        heads = cut.heads.heads, cut.heads.rows
        cuts = np.array([way, tiling.tile_k, cut.block_rows, *heads, cut.counts])
        return placed(Run(*own, machine.items_in_flight), cuts, loop, loads, machine.cores)

    def _loop(self, cut: Cut, turns: tuple[Work, Work], fetched: Array, ahead: Ahead) -> Array:
        """Return what is known of all blocks but the last ones, then of these."""
        machine, tiling, (first, second) = self.machine, cut.tiling, turns
        first_bytes = first.first_bytes(Ahead(*(np.tile(each, 2) for each in ahead)))
        first_bytes = first_bytes + second.query_bytes
        # All that have work ask for their first tiles at once.
        at_once = np.minimum(cut.items, machine.cores)
        others = shared_cycles_per_byte(machine, at_once, fetched) * (1 - 1 / at_once)
        waits, shares = first_bytes * np.tile(others, 2), np.tile(at_once / cut.items, 2)
        supply = supply_of(machine, shares, waits, np.tile(fetched, 2))
        is_shorter = cut.counts * cut.block_rows > cut.heads.rows
        query_tiles = np.concatenate([tiling.query_tiles, tiling.query_tiles * is_shorter])
        costs = Costs.of(machine, supply, (*first, *second), len(query_tiles))
        items = followed(self.unit, costs, query_tiles, shares_weights=self.shares_weights)
        return loop_of(items, supply.begin_cycles, first.fixed_share, first.mask + second.mask)

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
