"""Tiles of the flash kernel: those of the lowest estimated time among those that fit."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import Blocks, BlockTimes, Cut, Tiling
from accelsim.kernels.attention.flash.online_estimate import (
    Ahead,
    Loads,
    Loop,
    Work,
    one_tile,
    two_tiles,
)
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import Array, Estimate
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memory import (
    crowd_share,
    launch_cycles,
    least_cycles,
    shared_cycles_per_byte,
    supply_of,
)
from accelsim.kernels.estimate.placement import last_end, last_wave, query_blocks
from accelsim.kernels.estimate.timeline import Supply
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import AttentionProblem


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
    on_scores, on_output, on_rows = (
        costs.vector_on(vector, rows, cols) for cols in (tile_k, dim, 1)
    )
    softmax = 2 * on_scores("reduce", width) + on_scores("exp", 2 * width)
    softmax += on_scores("add", 2 * width)
    if not scale_query:
        softmax += on_scores("multiply", width + formats.scores.bits)
    elif formats.scores != vector:
        softmax += on_scores("convert", width + formats.scores.bits)
    if formats.weights != vector:
        softmax += on_scores("convert", width + formats.weights.bits)
    softmax += on_rows("maximum", 3 * width) + 2 * on_rows("add", 3 * width)
    softmax += on_rows("exp", 2 * width) + on_rows("multiply", 3 * width)
    begin = 2 * on_rows("fill", width) + on_output("fill", width)
    if scale_query:
        begin += costs.vector("multiply", stored, rows, dim, 2 * stored.bits)
    finish = on_output("divide", 2 * width)
    if formats.output != vector:
        finish += costs.vector("convert", vector, rows, dim, width + formats.output.bits)
    operand, row_bytes = formats.output_operand, dim * stored.bits / BITS_PER_BYTE
    return Work(
        query_bytes=rows * row_bytes,
        begin=begin,
        key_bytes=tile_k * row_bytes,
        scores=costs.product(rows, tile_k, dim, stored, (stored.bits, stored.bits)),
        scores_move=costs.move(rows, tile_k, formats.scores),
        softmax=softmax,
        mask=on_scores("select", 2 * width),
        value_bytes=tile_k * row_bytes,
        weighted=costs.product(rows, dim, tile_k, operand, (formats.weights.bits, stored.bits)),
        weighted_move=costs.move(rows, dim, vector),
        rescale=on_output("multiply", 2 * width),
        merge=on_output("add", 3 * width),
        finish=finish,
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
        loads = self._loads(cut, fetched, tile_bytes, ahead)
        loop = self._loop(cut, turns, fetched, ahead)
        least = least_cycles(machine, loaded, problem.compulsory_bytes)
        cycles = np.maximum(self._placed(cut, loop, turns[0].mask + turns[1].mask, loads), least)
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

    def _placed(self, cut: Cut, loop: Loop, mask: Array, loads: Loads) -> Array:
        """Return when the last item has ended; where it cannot be the first, a bound on that.

        All items over all cores are a bound from below; with whole tiles of keys, full blocks and
        the longest item more they are one from above (Graham, "Bounds on multiprocessing timing
        anomalies", 1969).
        """
        problem, tiling = self.problem, cut.tiling
        tiles, least_tiles = problem.kv_len / tiling.tile_k, cut.seen / tiling.tile_k
        bounds = np.stack([tiles, least_tiles, np.minimum(tiles, least_tiles + 1)], axis=1)
        times = loop.at(slice(len(tiles))).times(bounds, loads)
        longest, even, most = times.alone[:, 0], times.steps[:, 1], times.steps[:, 2]
        share = cut.items / self.machine.cores
        cycles = most * share + longest
        # Under a mask the last block, which sees all keys, may have few rows.
        hidden = problem.causal * np.minimum(cut.block_rows, problem.q_len)
        least = np.maximum(
            even * cut.heads.rows / (cut.counts * cut.block_rows) * share,
            longest * (1 - hidden / problem.kv_len),
        )
        ways = [way[least[way] <= cycles[way].min()] for way in tiling.ways]
        blocks = Blocks.of(problem, cut, np.concatenate(ways))
        block_times = blocks.times(loop, mask, loads, self.machine.items_in_flight)
        for way in ways:
            best = np.inf
            for count in _most_promising(cut.counts[way], least[way]):
                own = way[(cut.counts[way] == count) & (least[way] <= best)]
                if len(own):
                    cycles[own] = self._last_end(cut, block_times, own)
                    best = min(best, float(cycles[own].min()))
        return cycles

    def _last_end(self, cut: Cut, times: BlockTimes, own: Array) -> Array:
        """Return when the last item has ended, of some candidates with equally many blocks."""
        machine, count = self.machine, int(cut.counts[own[0]])
        heads = int(cut.heads.heads[own[0]])
        kinds = query_blocks(count, heads, by_head=self.order == "by_head")
        return last_end(times.of(own, count), kinds, machine.cores)

    def _loop(self, cut: Cut, turns: tuple[Work, Work], fetched: Array, ahead: Ahead) -> Loop:
        """Return the times of all blocks but the last ones, then of these."""
        machine, tiling = self.machine, cut.tiling
        first_bytes = turns[0].first_bytes(Ahead(*(np.tile(each, 2) for each in ahead)))
        first_bytes = first_bytes + turns[1].query_bytes
        # All that have work ask for their first tiles at once.
        at_once = np.minimum(cut.items, machine.cores)
        others = shared_cycles_per_byte(machine, at_once, fetched) * (1 - 1 / at_once)
        waits, fetched = first_bytes * np.tile(others, 2), np.tile(fetched, 2)
        shares = np.tile(at_once / cut.items, 2)
        is_pair = np.tile(tiling.query_tiles == 2, 2)
        groups = [own for own in (np.flatnonzero(~is_pair), np.flatnonzero(is_pair)) if len(own)]
        loops = [
            self._followed(
                supply_of(machine, shares[own], waits[own], fetched[own]),
                *(work.at(own) for work in turns),
                in_turn=is_pair[own[0]],
            )
            for own in groups
        ]
        order = np.argsort(np.concatenate(groups))
        return Loop(*(np.hstack(each)[:, order] for each in zip(*loops, strict=True)))

    def _followed(self, supply: Supply, first: Work, second: Work, *, in_turn: bool) -> Loop:
        """Return the times of items of one query tile, or of two that take turns."""
        if in_turn:
            return two_tiles(self.machine, supply, first, second)
        shared = self.shares_weights
        return one_tile(self.machine, supply, first, unit=self.unit, shares_weights=shared)

    def _loads(self, cut: Cut, fetched: Array, tile_bytes: Array, ahead: Ahead) -> Loads:
        """Return the time to load K and V of a key tile.

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
        return Loads(*times, by_others, waves, (ahead.keys + ahead.values) / 2)


def _most_promising(counts: Array, least: Array) -> list[int]:
    """Return the counts, those of the lowest bound first."""
    order = counts[np.argsort(least, kind="stable")]
    return list(dict.fromkeys(order.tolist()))


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
