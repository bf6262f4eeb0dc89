"""Keys of a query tile split over work items: online softmax over each range, then a merge.

A range is a work item of its own; it stores its unnormalised output, row maxima and row sums, and a
second phase merges those of a query tile. Few query tiles behind many keys leave cores without work
otherwise. Sources: Dao et al., "Flash-Decoding for long-context inference" (2023); DeepSeek-AI,
FlashMLA (2025), whose decode kernel reads latent rows once, as keys and as values.

HBM traffic beside that of `flash`, for a query tile of r rows in s > 1 ranges with a vector path of
v bytes: s r (d_v + 2) v written and read again, and the queries s times.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode.merging import Merge, Result, add_result
from accelsim.kernels.attention.flash import online_softmax as online
from accelsim.kernels.attention.flash.items import Blocks, Places, blocks_in_order
from accelsim.kernels.attention.folding import query_heads
from accelsim.kernels.attention.operands import TilesOf
from accelsim.kernels.attention.precision import StepFormats
from accelsim.kernels.estimate.choice import Array
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memory import (
    launch_cycles,
    miss_cycles,
    sustained_bytes_per_cycle,
)
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.attention import RowWidths

_BLOCK = len(Blocks._fields)
_TILES, _RESULT, _FIRST, _COUNT = range(_BLOCK, _BLOCK + 4)
"""Columns behind those of `Blocks`: key tiles of a range, where its result is, whether it is the
first one of its query tile, and how many that has."""


class Ranges(NamedTuple):
    """Work items of both phases: ranges of keys, and query tiles."""

    ranges: Places
    """A row of `Blocks` for each range, whose keys are those of the range and all behind it, then
    the columns above."""
    tiles: Places
    """A row of `Blocks` for each query tile with several ranges, then the columns above: its first
    result, and how many."""


class Own(NamedTuple):
    """What is beside the layout of `flash`."""

    partials: Result
    """In HBM, `tile_q` rows for each range."""
    merge: Merge


class Extent(NamedTuple):
    """Rows and columns of what is merged."""

    group: int
    value_dim: int


def ranges_of(
    problem: al.AttentionProblem, tile_q: int, tile_k: int, splits: int, *, fold: bool
) -> Ranges:
    """Return the work items: ranges are as long as those of the query tile that sees most keys.

    Those of the same keys follow each other, so that an L2 reads these once.
    """
    blocks = blocks_in_order(problem, tile_q, fold=fold, by_head=True)
    seen = Blocks(*blocks.T).seen(causal=problem.causal)
    tiles = -(-seen // tile_k)
    length = int(-(-tiles.max() // splits))
    counts = -(-tiles // length)
    block, number = np.repeat(np.arange(len(blocks)), counts), _counted(counts)
    kv_row, kv_len = (Blocks._fields.index(name) for name in ("kv_row", "kv_len"))
    order = np.lexsort((block, number, blocks[block, kv_row]))
    ranges = np.hstack([blocks[block], np.zeros((len(order), 4), np.int64)])
    ranges[:, kv_row] += number * length * tile_k
    ranges[:, kv_len] -= number * length * tile_k
    ranges[:, _TILES] = np.minimum(length, tiles[block] - number * length)
    ranges[:, _RESULT] = np.arange(len(order))
    ranges[:, _FIRST], ranges[:, _COUNT] = number == 0, counts[block]
    firsts = np.cumsum(counts) - counts
    several = counts > 1
    merged = np.hstack([blocks, np.zeros((len(blocks), 4), np.int64)])[several]
    merged[:, _RESULT], merged[:, _COUNT] = firsts[several], counts[several]
    return Ranges(np.ascontiguousarray(ranges[order]), np.ascontiguousarray(merged))


def _counted(counts: Places) -> Places:
    """Return 0, 1, .. for each of the counts, one after the other."""
    begins = np.cumsum(counts) - counts
    numbers: Places = np.arange(counts.sum()) - np.repeat(begins, counts)
    return numbers


def allocate_ranges(
    builder: al.ProgramBuilder, widths: RowWidths, formats: StepFormats, tile_q: int, tile_k: int
) -> dict[str, al.Buffer]:
    """Declare the buffers of `online_softmax`, with one slot of queries, and columns of a merge.

    What a merge needs besides is free then.
    """
    rows = TilesOf(builder, tile_q, formats.vector)
    return {
        **online.allocate(builder, widths, formats, tile_q, tile_k, query_slots=1),
        "next_largest": rows("next_largest", 1, slots=2),
        "new_largest": rows("new_largest", 1),
    }


def merge_of(buffers: dict[str, al.Buffer]) -> Merge:
    """Return the buffers of a merge, and leave those of `online_softmax` in `buffers`."""
    next_largest, new_largest = buffers.pop("next_largest"), buffers.pop("new_largest")
    following = Result(buffers["product"], next_largest, buffers["tile_sum"])
    return Merge(following, new_largest, buffers["rescale"])


def partials_of(
    builder: al.ProgramBuilder, layout: online.Layout, fmt: al.Format, num_ranges: int
) -> Result:
    """Place the results of ranges in HBM, in the format of the vector path."""
    rows = num_ranges * layout.tile_q

    def partial(name: str, cols: int) -> al.Tensor:
        return builder.tensor(name, "intermediate", rows, cols, fmt)

    return Result(
        partial("partial_o", layout.value_dim), partial("partial_max", 1), partial("partial_sum", 1)
    )


def merge_cycles(
    problem: al.AttentionProblem,
    machine: al.MachineSpec,
    formats: StepFormats,
    tile_q: Array,
    splits: int,
) -> Array:
    """Return the estimated time of the second phase, for query tiles of so many rows."""
    costs, vector, cols = OpCosts(machine), formats.vector, problem.widths.value
    bits, own = 3 * vector.bits, query_heads(problem, fold=True)
    work = 2 * costs.vector("multiply", vector, tile_q, cols, bits)
    work = work + costs.vector("add", vector, tile_q, cols, bits)
    moved_bytes = tile_q * (cols + 2) * vector.bits / BITS_PER_BYTE
    step = np.maximum(work, moved_bytes / machine.load.bandwidth)
    tiles = own.heads * np.ceil(own.rows / tile_q)
    alone = 2 * miss_cycles(machine) + splits * step
    by_memory = tiles * splits * moved_bytes / sustained_bytes_per_cycle(machine)
    cycles = np.maximum(np.ceil(tiles / machine.cores) * alone, by_memory)
    return np.asarray(launch_cycles(machine, with_products=False) + cycles)


@al.jit
def flash_ranges(p, items, k, own):
    """All ranges of all query tiles, then a merge of each query tile that has several."""
    for item in range(len(items.ranges)):
        if al.begin_item(p, 0):
            _range(p, _rows_of(item, items.ranges), items.ranges[item], k, own)
    for item in range(len(items.tiles)):
        if al.begin_item(p, 1):
            _merge(p, _rows_of(item, items.tiles), items.tiles[item], k, own)


@al.jit_inner
def _rows_of(item, table):
    row = table[item]
    return online.Rows(item, row[0], row[1], row[2], row[3], row[4], row[5], row[6])


@al.jit_inner
def _range(p, at, place, k, own):
    """One tile of query rows against a range of keys."""
    tiles, turn = place[_TILES], 0
    online.load_queries(p, at, k)
    if k.has_sink_logits and place[_FIRST]:
        online.begin_with_sinks(p, at, k)
    else:
        online.reset_rows(p, at.rows, k.lowest, k)
    online.multiply_keys(p, 0, 0, at, k)
    alike = online.alike_turns(at, tiles, k)
    while turn < tiles:
        if turn + 1 < tiles:
            online.multiply_keys(p, turn + 1, turn + 1, at, k)
        online.update_weights(p, turn, turn, at, k)
        online.add_values(p, turn, turn, at, k)
        turn = al.next_turn(p, turn, 1, alike, online.SLOTS)
    if place[_COUNT] == 1:
        online.finish_rows(p, at, k)
    else:
        row, partials = place[_RESULT] * k.tile_q, own.partials
        al.store(p, partials.output, row, 0, al.tile(k.output, 0, at.rows, k.value_dim))
        al.store(p, partials.largest, row, 0, al.tile(k.row_max, tiles, at.rows, 1))
        al.store(p, partials.total, row, 0, al.tile(k.row_sum, 0, at.rows, 1))


@al.jit_inner
def _merge(p, at, place, k, own):
    """Merge the results of all ranges of a query tile, divide and store."""
    extent, rows, merge = Extent(at.rows, k.value_dim), at.rows, own.merge
    merged = Result(
        al.tile(k.output, 0, rows, k.value_dim),
        al.tile(k.row_max, 0, rows, 1),
        al.tile(k.row_sum, 0, rows, 1),
    )
    _load(p, merged, place[_RESULT], k, own)
    for number in range(1, place[_COUNT]):
        following = Result(
            al.tile(merge.following.output, number, rows, k.value_dim),
            al.tile(merge.following.largest, number, rows, 1),
            al.tile(merge.following.total, number, rows, 1),
        )
        _load(p, following, place[_RESULT] + number, k, own)
        add_result(p, merged, following, merge, extent)
    online.finish_rows(p, at, k)


@al.jit_inner
def _load(p, result, number, k, own):
    row = number * k.tile_q
    al.load(p, result.output, own.partials.output, row, 0)
    al.load(p, result.largest, own.partials.largest, row, 0)
    al.load(p, result.total, own.partials.total, row, 0)
