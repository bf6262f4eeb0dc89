"""Tiles of the flash kernel: those of the lowest estimated time among those that fit."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.folding import (
    QueryHeads,
    check_length,
    folds,
    query_heads,
    ways_through,
)
from accelsim.kernels.attention.online_estimate import Loads, Loop, Work, one_tile, two_tiles
from accelsim.kernels.estimate.choice import Array, Estimate, sizes
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memory import (
    launch_cycles,
    least_cycles,
    shared_cycles_per_byte,
    supply_of,
)
from accelsim.kernels.estimate.placement import ItemTimes, last_end, last_wave, query_blocks
from accelsim.program.ops import Unit
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem

Order = Literal["longest_first", "by_head"]


class Tiling(NamedTuple):
    """Candidates; arrays with one element each, sizes in elements."""

    tile_q: Array
    tile_k: Array
    fold: Array
    query_tiles: Array

    def at(self, own: Array) -> "Tiling":
        """Return some candidates."""
        return Tiling(*(each[own] for each in self))

    @property
    def ways(self) -> list[Array]:
        """Candidates that go the same way through the query rows: their numbers."""
        way = 2 * self.fold + self.query_tiles
        return [np.flatnonzero(way == own) for own in dict.fromkeys(way.tolist())]

    def check_length(self, name: str, problem: AttentionProblem) -> None:
        """Refuse a problem of too many tiles one way or the other; raises DoesNotFitError."""
        for way in self.ways:
            own = self.at(way)
            check_length(name, problem, own.fold[0], own.tile_q * own.query_tiles, own.tile_k)


def tilings_of(
    problem: AttentionProblem,
    asked_q: int | None,
    asked_k: int | None,
    fold: bool | None,
    query_tiles: tuple[int, ...] = (1,),
) -> Tiling:
    """Return what may be chosen from."""
    tile_k, tilings = sizes(asked_k, problem.kv_len), []
    for own in folds(problem, fold):
        rows = query_heads(problem, fold=own).rows
        tile_q = sizes(asked_q, rows)
        for count in query_tiles:
            # One tile of all rows leaves nothing for the second one of a pair.
            paired = tile_q if count == 1 or len(query_tiles) == 1 else tile_q[tile_q < rows]
            tilings.append(np.meshgrid(paired, tile_k, own, count, indexing="ij"))
    return Tiling(
        *(np.concatenate([one.ravel() for one in each]) for each in zip(*tilings, strict=True))
    )


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


class _Cut(NamedTuple):
    """Query rows of all heads, cut into blocks by all candidates."""

    tiling: Tiling
    heads: QueryHeads
    block_rows: Array
    counts: Array
    """Blocks of a head."""
    seen: Array
    """Keys that a block sees in the mean."""

    @classmethod
    def of(cls, problem: AttentionProblem, tiling: Tiling) -> "_Cut":
        """Return how the candidates cut a problem."""
        heads = ways_through(problem, tiling.fold)
        block_rows = np.minimum(tiling.tile_q * tiling.query_tiles, heads.rows)
        counts: Array = ceil_div(heads.rows, block_rows)
        return cls(tiling, heads, block_rows, counts, _mean_keys(problem, block_rows))

    @property
    def both_rows(self) -> Array:
        """Query rows of all blocks but the last ones, then of these."""
        rest = self.heads.rows - (self.counts - 1) * self.block_rows
        return np.concatenate([self.block_rows, rest])

    @property
    def items(self) -> Array:
        """Work items."""
        return self.heads.heads * self.counts


class _BlockTimes(NamedTuple):
    """Times of all blocks of some candidates, one after the other."""

    times: ItemTimes
    begin: Array
    """Of every candidate, where its first block is."""

    def of(self, own: Array, count: int) -> ItemTimes:
        """Return those of candidates with `count` blocks, [candidates, blocks]."""
        place = self.begin[own, None] + np.arange(count)
        return ItemTimes(*(each[place, 0] for each in self.times))


class _Blocks(NamedTuple):
    """Blocks of the query rows of a head, of some candidates one after the other."""

    candidate: Array
    is_last: Array
    key_tiles: Array
    """Not whole where the last tile ends before its full size."""
    masked: Array
    """Key tiles that the diagonal crosses."""
    begin: Array

    @classmethod
    def of(cls, problem: AttentionProblem, cut: _Cut, some: Array) -> "_Blocks":
        """Return the blocks of some candidates."""
        begin = np.zeros_like(cut.counts)
        begin[some] = np.cumsum(cut.counts[some]) - cut.counts[some]
        own = np.repeat(some, cut.counts[some])
        number = np.arange(len(own)) - begin[own]
        is_last, size = number == cut.counts[own] - 1, cut.tiling.tile_k[own]
        if not problem.causal:
            return cls(own, is_last, problem.kv_len / size, np.zeros(len(own)), begin)
        first, hidden = number * cut.block_rows[own], problem.kv_len - problem.q_len
        rows = np.minimum(cut.block_rows[own], cut.heads.rows[own] - first)
        position = first % problem.q_len
        ends_within = position + rows <= problem.q_len
        seen = np.where(ends_within, position + rows, problem.q_len) + hidden
        tiles = -(-seen // size)
        clear = (np.where(ends_within, position, 0) + hidden + 1) // size
        key_tiles, masked = np.minimum(tiles, problem.kv_len / size), np.maximum(0, tiles - clear)
        return cls(own, is_last, key_tiles, masked, begin)

    def times(self, loop: Loop, mask: Array, loads: Loads) -> _BlockTimes:
        """Return their times; the last block of a candidate may have fewer rows than the others."""
        column = self.candidate + self.is_last * len(loads.shared)
        plain = loop.at(column).times(self.key_tiles[:, None], loads.at(self.candidate))
        masked = (mask[column] * self.masked)[:, None]
        alone, steps, last_steps = (each + masked for each in plain[:3])
        times = plain._replace(alone=alone, steps=steps, last_steps=last_steps)
        return _BlockTimes(times, self.begin)


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
        problem, machine, cut = self.problem, self.machine, _Cut.of(self.problem, tiling)
        turns, whole = self._turns(cut), slice(len(cut.counts))
        tile_bytes = (turns[0].key_bytes + turns[0].value_bytes)[whole]
        row_bytes = turns[0].query_bytes[whole] / np.minimum(tiling.tile_q, cut.block_rows)
        keys = np.minimum(problem.kv_len, cut.seen + tiling.tile_k / 2)
        read = cut.heads.rows * row_bytes + cut.counts * keys * (tile_bytes / tiling.tile_k)
        loaded = cut.heads.heads * read
        loads = self._loads(cut, loaded, tile_bytes)
        loop = self._loop(cut, turns, loads.shared * loads.by_others / tile_bytes)
        least = least_cycles(machine, loaded, problem.compulsory_bytes)
        cycles = np.maximum(self._placed(cut, loop, turns[0].mask + turns[1].mask, loads), least)
        steps = cut.items * np.ceil(cut.seen / tiling.tile_k)
        return Estimate(launch_cycles(machine) + cycles, loaded, steps)

    def _turns(self, cut: _Cut) -> tuple[Work, Work]:
        """Return the work of the first query tile of a block and of the second, if it has one.

        That of all blocks but the last ones, then of these.
        """
        rows, tile_q = cut.both_rows, np.tile(cut.tiling.tile_q, 2)
        first = np.minimum(tile_q, rows)
        both = np.concatenate([first, rows - first])
        work = self.work(OpCosts(self.machine), both, np.tile(cut.tiling.tile_k, 4))
        return work.at(slice(len(rows))), work.at(slice(len(rows), None))

    def _placed(self, cut: _Cut, loop: Loop, mask: Array, loads: Loads) -> Array:
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
        times = _Blocks.of(problem, cut, np.concatenate(ways)).times(loop, mask, loads)
        for way in ways:
            best = np.inf
            for count in _most_promising(cut.counts[way], least[way]):
                own = way[(cut.counts[way] == count) & (least[way] <= best)]
                if len(own):
                    cycles[own] = self._last_end(cut, times, own)
                    best = min(best, float(cycles[own].min()))
        return cycles

    def _last_end(self, cut: _Cut, times: _BlockTimes, own: Array) -> Array:
        """Return when the last item has ended, of some candidates with equally many blocks."""
        machine, count = self.machine, int(cut.counts[own[0]])
        heads = int(cut.heads.heads[own[0]])
        kinds = query_blocks(count, heads, by_head=self.order == "by_head")
        return last_end(times.of(own, count).limited(machine.items_in_flight), kinds, machine.cores)

    def _loop(self, cut: _Cut, turns: tuple[Work, Work], others: Array) -> Loop:
        """Return the times of all blocks but the last ones, then of these."""
        machine, tiling = self.machine, cut.tiling
        shares = np.tile(np.minimum(1.0, machine.cores / cut.items), 2)
        key_tiles = np.tile(np.ceil(self.problem.kv_len / tiling.tile_k), 2)
        waits = np.tile(others, 2) * (turns[0].first_bytes(key_tiles) + turns[1].query_bytes)
        is_pair = np.tile(tiling.query_tiles == 2, 2)
        groups = [own for own in (np.flatnonzero(~is_pair), np.flatnonzero(is_pair)) if len(own)]
        loops = []
        for own in groups:
            supply = supply_of(machine, shares[own]).behind(waits[own])
            first, second = (work.at(own) for work in turns)
            if is_pair[own[0]]:
                loops.append(two_tiles(machine, supply, first, second))
            else:
                shared = self.shares_weights
                loops.append(
                    one_tile(machine, supply, first, unit=self.unit, shares_weights=shared)
                )
        return Loop(*(np.hstack(each) for each in zip(*loops, strict=True))).at(
            np.argsort(np.concatenate(groups))
        )

    def _loads(self, cut: _Cut, loaded_bytes: Array, tile_bytes: Array) -> Loads:
        """Return the time to load K and V of a key tile.

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
        return Loads(tile_bytes * first, tile_bytes * second, by_others, items / cores)


def _most_promising(counts: Array, least: Array) -> list[int]:
    """Return the counts, those of the lowest bound first."""
    order = counts[np.argsort(least, kind="stable")]
    return list(dict.fromkeys(order.tolist()))


def _mean_keys(problem: AttentionProblem, block_rows: Array) -> Array:
    """Return the keys that a block sees in the mean."""
    if not problem.causal:
        return np.full(len(block_rows), float(problem.kv_len))
    return problem.kv_len - (problem.q_len - np.minimum(block_rows, problem.q_len)) / 2


def _fetched_share(online: OnlineEstimate, cut: _Cut, loaded_bytes: Array) -> Array:
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
