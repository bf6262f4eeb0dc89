"""Attention with online softmax: scores and probabilities never leave the chip.

Sources: Dao et al., "FlashAttention" (2022), Algorithm 1; Dao, "FlashAttention-2" (2023), section
3.1 (one division by the row sum, at the end); Shah et al., "FlashAttention-3" (2024), section 3.2
(the scores of the next key tile are computed while the vector unit works on the current one).

HBM reads of one head with query tiles of B_r rows: S_q d b + ceil(S_q / B_r) 2 S_k d b, under a
causal mask only the key tiles at or below the diagonal; writes: S_q d b. Where the G query heads of
a KV head are folded, it is G S_q rows that are cut into tiles: G S_q d b + ceil(G S_q / B_r) 2 S_k
d b for all of them. With K and V of c bytes an element and values of d_v elements, S_k (d + d_v) c
stands for 2 S_k d b, and S_q d_v b is written. A window leaves out the key tiles before the first
key of the first row of a query tile, but for those of sinks.
"""

from functools import partial
from typing import Any

from accelsim.kernels import language as al
from accelsim.kernels.attention.coded import CodedHeads
from accelsim.kernels.attention.flash import online_softmax as online
from accelsim.kernels.attention.flash.items import block_of, blocks_in_order
from accelsim.kernels.attention.flash.ranges import (
    Own,
    allocate_ranges,
    flash_ranges,
    merge_of,
    partials_of,
    ranges_of,
)
from accelsim.kernels.attention.flash.tiles import (
    FlashParameters,
    flash_rivals,
    flash_tiles,
    ranges_asked,
    with_splits,
)
from accelsim.kernels.attention.flash.turns import allocate_turns, query_tiles_in_turn
from accelsim.kernels.attention.kernel import AttentionKernel, Recording, Task
from accelsim.kernels.attention.operands import declare_operands
from accelsim.kernels.attention.precision import formats_of


@al.jit
def flash(p, blocks, k):
    """All query tiles of all heads, one a work item."""
    for item in range(len(blocks)):
        if not al.begin_item(p, 0):
            continue
        _query_tile(p, block_of(item, blocks), k)


@al.jit_inner
def _query_tile(p, at, k):
    """One tile of query rows against all the keys it sees."""
    skipped = online.skipped_tiles(at, k)
    tiles_k = online.seen_tiles(at, k) - skipped[0]
    online.begin_rows(p, at, k)
    online.multiply_keys(p, 0, online.tile_of(0, skipped), at, k)
    alike, turn = online.alike_turns(at, tiles_k, k), 0
    while turn < tiles_k:
        if turn + 1 < tiles_k:
            online.multiply_keys(p, turn + 1, online.tile_of(turn + 1, skipped), at, k)
        j = online.tile_of(turn, skipped)
        online.update_weights(p, turn, j, at, k)
        online.add_values(p, turn, j, at, k)
        turn = al.next_turn(p, turn, 1, alike, online.SLOTS)
    online.finish_rows(p, at, k)


@al.jit
def flash_turns(p, blocks, first, second):
    """All pairs of query tiles of all heads, one pair a work item."""
    for item in range(len(blocks)):
        if not al.begin_item(p, 0):
            continue
        query_tiles_in_turn(p, block_of(item, blocks), first, second)


class Flash(AttentionKernel):
    """Attention with online softmax."""

    name = "flash"
    summary = "attention with online softmax; scores never leave the chip"
    parameters = FlashParameters
    leaves_open = "tile_q", "tile_k", "query_tiles", "fold"
    takes_sequences = True
    takes_any_kv = True
    windows = "any"
    caps_scores = True
    takes_sink_logits = True
    takes_values_in_keys = True

    @classmethod
    def stored_dtypes(
        cls, problem: al.AttentionProblem, parameters: FlashParameters
    ) -> dict[str, al.Format]:
        """Return the format of a coded output."""
        return parameters.stored_dtypes

    @classmethod
    def recorded(cls, task: Task[FlashParameters]) -> Recording:
        """Return the program and, with tensors, the output [rows of Q, value_dim]."""
        problem, machine = task.problem, task.machine
        parameters = with_splits(problem, machine, task.parameters)
        if ranges_asked(parameters) > 1:
            return _in_ranges(task._replace(parameters=parameters))
        form = parameters.form
        formats = formats_of(problem, machine, parameters.precision, form)
        tiles = flash_tiles(problem, machine, parameters)
        tile_q, tile_k, query_tiles, fold, _ = tiles
        declare: Any = allocate_turns if query_tiles == 2 else online.allocate
        builder = task.builder()
        hbm = declare_operands(builder, problem, task.tensors, is_coded=form is not None)
        coded = form and CodedHeads.placed(builder, problem, form, task.tensors)
        buffers = declare(builder, problem.widths, formats, tile_q, tile_k)
        own = buffers if query_tiles == 2 else (buffers,)
        own = [coded.with_coder(builder, each) for each in own] if coded else own
        layout = partial(online.layout_of, problem, formats, hbm, fold=fold, scales=task.scales)
        scale_query = parameters.scale_at == "query"
        layouts = [layout(each, scale_query=scale_query) for each in own]
        by_head = parameters.order == "by_head"
        blocks = blocks_in_order(problem, query_tiles * tile_q, fold=fold, by_head=by_head)
        kernel = flash_turns if query_tiles == 2 else flash
        program = builder.record(kernel, len(blocks), blocks, *layouts)
        output = coded.values(builder.data) if coded and task.tensors else hbm.o.data
        own = {"splits": 1} if task.parameters.splits == "chosen" else {}
        return program.with_parameters(**tiles.parameters, **own), output

    @classmethod
    def rivals(
        cls, problem: al.AttentionProblem, machine: al.MachineSpec, parameters: FlashParameters
    ) -> list[dict[str, int | bool]]:
        """Return the tiles that may be the fastest, those that `record` takes first."""
        return [each.parameters for each in flash_rivals(problem, machine, parameters)]

    @classmethod
    def estimated_cycles(
        cls, problem: al.AttentionProblem, machine: al.MachineSpec, parameters: FlashParameters
    ) -> float:
        """Return the estimated time with the tiles that `record` takes; raises as it does."""
        return flash_rivals(problem, machine, parameters)[0].cycles


def _in_ranges(task: Task[FlashParameters]) -> Recording:
    """Record with the keys of a query tile split over work items."""
    problem, parameters = task.problem, task.parameters
    splits = ranges_asked(parameters)
    formats = formats_of(problem, task.machine, parameters.precision)
    tiles, builder = flash_tiles(problem, task.machine, parameters), task.builder()
    hbm = declare_operands(builder, problem, task.tensors)
    buffers = allocate_ranges(builder, problem.widths, formats, tiles.tile_q, tiles.tile_k)
    merge = merge_of(buffers)
    layout = online.layout_of(
        problem,
        formats,
        hbm,
        buffers,
        fold=tiles.fold,
        scale_query=parameters.scale_at == "query",
        scales=task.scales,
    )
    # Under a causal mask a row may see no key of a range: exp(-inf + inf) is no number.
    layout = layout._replace(lowest=-formats.vector.layout.largest)
    items = ranges_of(problem, tiles.tile_q, tiles.tile_k, splits, fold=tiles.fold)
    partials = partials_of(builder, layout, formats.vector, len(items.ranges))
    num_items = len(items.ranges) + len(items.tiles)
    program = builder.record(flash_ranges, num_items, items, layout, Own(partials, merge))
    return program.with_parameters(**tiles.parameters, splits=splits), hbm.o.data
