"""How long candidates of tiles of `flash` and its kin take."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import Tiling
from accelsim.kernels.attention.flash.cuts import Run, write_extents
from accelsim.kernels.attention.flash.known import BYTES, CYCLES, NUM_STEPS, ROOM
from accelsim.kernels.attention.flash.online_estimate import Units, Work, orders_of_items
from accelsim.kernels.attention.flash.placing import NUM_ROOM, estimate
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import ALIKE_ITEMS, Estimate
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
from accelsim.kernels.estimate.rates import rates_of
from accelsim.kernels.estimate.timeline import room_for, units_of
from accelsim.workload.problem import AttentionProblem

DIM, VALUE_DIM, KEYS, ROWS, SECOND_ROWS, LAST_KEYS = range(ONE + 1, ONE + 7)
"""Extents: elements of a row of Q and K and of V, key rows of a tile, query rows of both tiles of a
work item, and key rows of the last tile."""


@cache
def online_costs(formats: StepFormats, *, scale_query: bool) -> CostTable:
    """Return the costs of `online_softmax`."""
    return of_items(lambda *sizes: online_work(formats, *sizes, scale_query=scale_query))


def of_items(work_of: Callable[[int, int], Work]) -> CostTable:
    """Return the costs of items; work_of: of a query tile and a key tile, by their rows."""
    found: list[Any] = []
    for keys in (KEYS, LAST_KEYS):
        first, second = (work_of(rows, keys) for rows in (ROWS, SECOND_ROWS))
        found += [*first._replace(softmax=first.softmax + first.widen), *second]
    return CostTable(found, ROOM)


def online_work(formats: StepFormats, rows: int, keys: int, *, scale_query: bool) -> Work:
    """Return the ops of a query tile of `online_softmax`, and of a key tile that it meets."""
    vector, stored, width = formats.vector, formats.stored, formats.vector.bits

    def on(op: str, cols: int, moved_bits: int) -> Cost:
        return vector_op(op, vector, rows, cols, moved_bits)

    begin = 2 * on("fill", ONE, width) + on("fill", VALUE_DIM, width)
    if scale_query:
        begin += vector_op("multiply", stored, rows, DIM, 2 * stored.bits)
    softmax = 2 * on("reduce", keys, width) + on("exp", keys, 2 * width)
    softmax += on("add", keys, 2 * width) + on("maximum", ONE, 3 * width)
    softmax += 2 * on("add", ONE, 3 * width) + on("exp", ONE, 2 * width)
    softmax += on("multiply", ONE, 3 * width)
    if not scale_query:
        softmax += on("multiply", keys, width + formats.scores.bits)
    elif formats.scores != vector:
        softmax += on("convert", keys, width + formats.scores.bits)
    if formats.weights != vector:
        softmax += on("convert", keys, width + formats.weights.bits)
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
        key_bytes=moved_bytes(keys, DIM, formats.kv.bits),
        scores=product(rows, keys, DIM, stored, (stored.bits, formats.keys.bits)),
        scores_move=move(rows, keys, formats.scores),
        softmax=softmax,
        widen=widen_op(formats.kv, formats.keys, keys, DIM)
        + (() if formats.values_in_keys else widen_op(formats.kv, formats.values, keys, VALUE_DIM)),
        mask=on("select", keys, 2 * width),
        value_bytes=() if formats.values_in_keys else moved_bytes(keys, VALUE_DIM, formats.kv.bits),
        weighted=product(rows, VALUE_DIM, keys, operand, bits),
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
    """Or those of several parts, which differ in their lengths only."""
    machine: MachineSpec
    costs: CostTable
    units: Units = Units()
    shares_weights: bool = False
    """Whether weights are in the buffer where scores become weights."""
    order: Order = "longest_first"
    near: float = ALIKE_ITEMS
    """By which factor estimates may be beyond the best one and are still asked for."""

    def of(self, tiling: Tiling) -> Estimate:
        """Return the estimate of all candidates; those that are not near the best may be at a
        bound."""
        problem, machine = self.problem, self.machine
        run, parts = self._run(), np.array(problem.lengths, np.int64)
        candidates = np.array(tiling, np.int64)
        extents = np.empty((LAST_KEYS + 1, 2 * len(parts) * candidates.shape[1]))
        extents[ONE], extents[DIM], extents[VALUE_DIM] = 1, *problem.widths
        write_extents(run, parts, candidates, extents[KEYS:])
        known = self.costs.filled(machine, extents)
        rows, begins, _ = orders = orders_of_items(
            self.units,
            shares_weights=self.shares_weights,
            values_in_keys=problem.values_in_keys,
        )
        times, runs = room_for(orders)
        room = np.empty((NUM_ROOM, max(len(times), self._most_kinds(parts, tiling))))
        estimate(run, parts, candidates, rows, begins, units_of(machine), known, room, runs)
        found = known[:, : candidates.shape[1]]
        return Estimate(found[CYCLES], found[BYTES], found[NUM_STEPS])

    def _run(self) -> Run:
        problem, machine = self.problem, self.machine
        sizes, l2 = problem.tensor_bytes, machine.l2
        cube = machine.cube.latency_cycles if machine.cube else 0
        return Run(
            q_heads=problem.q_heads,
            group=problem.q_heads // problem.kv_heads,
            causal=problem.causal,
            by_head=self.order == "by_head",
            stays=l2 is not None and sizes["k"] + sizes.get("v", 0) <= l2.capacity,
            compulsory_bytes=float(problem.compulsory_bytes),
            output_bytes=float(sizes["o"]),
            step_latency_cycles=float(machine.vector.pipeline_depth_cycles + cube),
            near=self.near,
            rates=rates_of(machine),
        )

    def _most_kinds(self, parts: Any, tiling: Tiling) -> int:
        """Return the most kinds of items that a candidate has, or the cores if they are more."""
        group = self.problem.q_heads // self.problem.kv_heads
        blocks = -(-group * parts[:, 1] // int((tiling.tile_q * tiling.query_tiles).min()))
        return max(int(blocks.sum()), self.machine.cores)
