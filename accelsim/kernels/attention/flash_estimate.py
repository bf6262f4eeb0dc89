"""Tiles of the flash kernel: those of the lowest estimated time among those that fit."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.folding import QueryHeads, folds, query_heads
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
    """Candidates of one way through the query rows; sizes in elements, one each."""

    tile_q: Array
    tile_k: Array
    fold: bool
    query_tiles: int
    order: Order

    def at(self, own: Array) -> "Tiling":
        """Return some candidates."""
        return self._replace(tile_q=self.tile_q[own], tile_k=self.tile_k[own])


def tilings_of(
    problem: AttentionProblem,
    asked_q: int | None,
    asked_k: int | None,
    fold: bool | None,
    query_tiles: tuple[int, ...],
    order: Order = "longest_first",
) -> Iterator[Tiling]:
    """Yield what may be chosen from."""
    tile_k = sizes(asked_k, problem.kv_len)
    for own in folds(problem, fold):
        rows = query_heads(problem, fold=own).rows
        tile_q = sizes(asked_q, rows)
        for count in query_tiles:
            # One tile of all rows leaves nothing for the second one of a pair.
            paired = tile_q if count == 1 or len(query_tiles) == 1 else tile_q[tile_q < rows]
            pairs = np.meshgrid(paired, tile_k, indexing="ij")
            if len(paired):
                yield Tiling(pairs[0].ravel(), pairs[1].ravel(), own, count, order)


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

    def on_scores(op: str, bits: int) -> Any:
        return costs.vector(op, vector, rows, tile_k, bits)

    def on_output(op: str, bits: int) -> Any:
        return costs.vector(op, vector, rows, dim, bits)

    def on_rows(op: str, bits: int) -> Any:
        return costs.vector(op, vector, rows, 1, bits)

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


class Blocks(NamedTuple):
    """Work items of one head, cut along its query rows: [candidates, blocks]."""

    rows: Array
    key_tiles: Array
    """Not whole where the last tile ends before its full size."""
    masked: Array
    """Key tiles that the diagonal crosses."""


def blocks_of(problem: AttentionProblem, rows: int, block_rows: Array, tile_k: Array) -> Blocks:
    """Return the items of heads of `rows` query rows; all candidates have equally many."""
    first = np.arange(ceil_div(rows, int(block_rows[0]))) * block_rows[:, None]
    own = np.minimum(block_rows[:, None], rows - first)
    hidden, size = problem.kv_len - problem.q_len, tile_k[:, None]
    if not problem.causal:
        tiles = np.broadcast_to(problem.kv_len / size, own.shape)
        return Blocks(own, tiles, np.zeros(own.shape))
    position = first % problem.q_len
    ends_within = position + own <= problem.q_len
    seen = np.where(ends_within, position + own, problem.q_len) + hidden
    tiles = -(-seen // size)
    clear = (np.where(ends_within, position, 0) + hidden + 1) // size
    return Blocks(own, np.minimum(tiles, problem.kv_len / size), np.maximum(0, tiles - clear))


class _Cut(NamedTuple):
    """Query rows of all heads, cut into blocks by all candidates."""

    tiling: Tiling
    heads: QueryHeads
    block_rows: Array
    counts: Array
    """Blocks of a head."""
    loaded_bytes: Array

    @property
    def items(self) -> Array:
        """Work items."""
        return self.heads.heads * self.counts


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

    def of(self, tiling: Tiling) -> Estimate:
        """Return the estimate of all candidates of a tiling."""
        problem, machine = self.problem, self.machine
        heads = query_heads(problem, fold=tiling.fold)
        block_rows = np.minimum(tiling.tile_q * tiling.query_tiles, heads.rows)
        counts: Array = ceil_div(heads.rows, block_rows)
        seen = _mean_keys(problem, block_rows)
        keys = np.minimum(problem.kv_len, seen + tiling.tile_k / 2)
        # What a byte of a row is worth does not depend on how many there are.
        row = self.work(OpCosts(machine), np.ones(1), np.ones(1))
        pair_bytes = row.key_bytes + row.value_bytes
        loaded = heads.heads * (heads.rows * row.query_bytes + counts * keys * pair_bytes)
        cut = _Cut(tiling, heads, block_rows, counts, loaded)
        tile_bytes = tiling.tile_k * pair_bytes
        loads = self._loads(cut, tile_bytes)
        loop, mask = self._loop(cut, loads.shared * loads.by_others / tile_bytes)
        least = least_cycles(machine, loaded, problem.compulsory_bytes)
        cycles = np.maximum(self._placed(cut, loop, mask, loads, seen), least)
        steps = cut.items * np.ceil(seen / tiling.tile_k)
        return Estimate(launch_cycles(machine) + cycles, loaded, steps)

    def _placed(self, cut: _Cut, loop: Loop, mask: Array, loads: Loads, seen: Array) -> Array:
        """Return when the last item has ended; where it cannot be the first, a bound on that.

        seen: keys of a block in the mean. All items over all cores are a bound from below; with
        whole tiles of keys, full blocks and the longest item more they are one from above
        (Graham, "Bounds on multiprocessing timing anomalies", 1969).
        """
        problem, cores, tiling, heads = self.problem, self.machine.cores, cut.tiling, cut.heads
        full = loop.at(np.arange(len(mask) // 2))
        longest = full.times((problem.kv_len / tiling.tile_k)[:, None], loads).alone[:, 0]
        share = cut.items / cores
        least_tiles = (seen / tiling.tile_k)[:, None]
        most_tiles = np.minimum(problem.kv_len / tiling.tile_k[:, None], least_tiles + 1)
        even, most = (full.times(each, loads).steps[:, 0] for each in (least_tiles, most_tiles))
        cycles = most * share + longest
        # Under a mask the last block, which sees all keys, may have few rows.
        hidden = problem.causal * np.minimum(cut.block_rows, problem.q_len)
        least = np.maximum(
            even * heads.rows / (cut.counts * cut.block_rows) * share,
            longest * (1 - hidden / problem.kv_len),
        )
        possible = least <= cycles.min()
        best = np.inf
        for count in _most_promising(cut.counts[possible], least[possible]):
            own = np.flatnonzero(possible & (cut.counts == count) & (least <= best))
            if not len(own):
                continue
            blocks = blocks_of(problem, heads.rows, cut.block_rows[own], tiling.tile_k[own])
            kinds = query_blocks(int(count), heads.heads, by_head=tiling.order == "by_head")
            times = _times(loop, mask, loads, blocks, own).limited(self.machine.items_in_flight)
            cycles[own] = last_end(times, kinds, cores)
            best = min(best, float(cycles[own].min()))
        return cycles

    def _loop(self, cut: _Cut, others: Array) -> tuple[Loop, Array]:
        """Return the times of all blocks but the last ones, then of these; and those of a mask."""
        machine, costs, tiling = self.machine, OpCosts(self.machine), cut.tiling
        rest = cut.heads.rows - (cut.counts - 1) * cut.block_rows
        rows = np.concatenate([cut.block_rows, rest])
        tile_q, tile_k = np.tile(tiling.tile_q, 2), np.tile(tiling.tile_k, 2)
        supply = supply_of(machine, np.tile(np.minimum(1.0, machine.cores / cut.items), 2))
        others, key_tiles = np.tile(others, 2), np.ceil(self.problem.kv_len / tile_k)
        if tiling.query_tiles == 1:
            work = self.work(costs, rows, tile_k)
            supply = supply.behind(others * work.first_bytes(key_tiles))
            shared = self.shares_weights
            loop = one_tile(machine, supply, work, unit=self.unit, shares_weights=shared)
            return loop, work.mask
        first = np.minimum(tile_q, rows)
        pair = self.work(costs, first, tile_k), self.work(costs, rows - first, tile_k)
        supply = supply.behind(others * (pair[0].first_bytes(key_tiles) + pair[1].query_bytes))
        return two_tiles(machine, supply, *pair), pair[0].mask + pair[1].mask

    def _loads(self, cut: _Cut, tile_bytes: Array) -> Loads:
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
        fetched = fetched_share(problem, self.machine, cut)
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


def _times(loop: Loop, mask: Array, loads: Loads, blocks: Blocks, own: Array) -> ItemTimes:
    """Return the times of all blocks, of which the last one may have fewer rows."""
    last, part = own + len(loads.shared), loads.at(own)
    full = loop.at(own).times(blocks.key_tiles[:, :-1], part)
    rest = loop.at(last).times(blocks.key_tiles[:, -1:], part)
    times = ItemTimes(*(np.hstack(pair) for pair in zip(full, rest, strict=True)))
    masks = np.hstack([np.repeat(mask[own, None], blocks.masked.shape[1] - 1, 1), mask[last, None]])
    masked = masks * blocks.masked
    alone, steps, last_steps = (each + masked for each in times[:3])
    return times._replace(alone=alone, steps=steps, last_steps=last_steps)


def fetched_share(problem: AttentionProblem, machine: MachineSpec, cut: _Cut) -> Array:
    """Return the share of loads that the L2 cannot serve: what comes for the first time.

    Where K and V of all heads do not fit, heads that run at the same time share what they have in
    common, and every block of query rows asks for it again.
    """
    if machine.l2 is None:
        return np.ones(len(cut.counts))
    sizes = problem.tensor_bytes
    distinct = sizes["q"] + sizes["k"] + sizes["v"]
    is_kept = cut.tiling.order == "by_head" or sizes["k"] + sizes["v"] <= machine.l2.capacity
    share = np.asarray(distinct / cut.loaded_bytes)
    return np.minimum(1.0, share if is_kept else np.maximum(share, 1 / cut.heads.group))
