"""Quest: decode that reads only pages of keys that can hold large scores.

Beside the KV cache lie the minimum and maximum of every key channel over each page of keys. Their
product with a query bounds the scores of the page from above: sum_i max(q_i min_i, q_i max_i), two
matrix products with the positive and the negative part of the query. Every head picks the pages
with the largest bounds; keys and values of the union of the group's pages, and of the page being
filled, are gathered, and all heads of the group attend to all of them. Source: Tang et al., "Quest:
query-aware sparsity" (2024, arXiv 2406.10774).

The bounds of full pages are inputs: whoever appends keys to the cache keeps them, which writes one
row of each for every page of keys and is not counted here.

HBM reads of a KV head in a step that sees n keys, m = floor((n - 1) / page) full pages among them:
group d b + 2 m d b + 2 (U page + n - m page) d b, where U is the size of the union; writes: group
d b. Exact steps read 2 n d b for K and V.
"""

from typing import NamedTuple

import numpy as np
from pydantic import Field

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import merging, pieces, selecting, steps
from accelsim.kernels.attention.decode.frame import OnChip
from accelsim.kernels.attention.decode.kept import note_range
from accelsim.kernels.attention.kernel import Task
from accelsim.kernels.attention.operands import as_cube_operand


class QuestParameters(selecting.SelectingParameters):
    """Choices of the quest kernel."""

    page: al.Size = 16
    """Keys of a page."""
    kept: float = Field(default=0.25, gt=0, le=1)
    """Share of the full pages that each head keeps, rounded up to whole pages."""
    pages: al.Size | None = None
    """Full pages that each head keeps; absent: the share `kept`."""

    @property
    def shortest_piece(self) -> int:
        """Fewest keys of a piece: whole pages."""
        return max(self.page, super().shortest_piece)


class _Own(NamedTuple):
    """What is kept, the bounds in HBM, and the tiles beside those of the frame."""

    page: int
    share: float
    wanted: int
    """Full pages that each head keeps; 0: `share` of them."""
    assumed_union: float
    pages: int
    """Rows of a KV head in the bounds: the full pages of the longest one at the end."""
    smallest: al.Tensor
    """Smallest key of every page in each channel, [kv_heads x pages, dim]."""
    largest: al.Tensor
    """Largest key, the same."""
    picked: selecting.Picked
    zero: al.Buffer
    positive: al.Buffer
    negative: al.Buffer
    rows: al.Buffer


@al.jit
def quest(p, k):
    """All steps, one after the other."""
    for item in range(k.steps * k.heads):
        at = steps.begin_step(p, item, k)
        full, wanted = _full(at, k), _wanted(at, k)
        if at.step < k.exact_steps or wanted >= full:
            note_range(k.mask, 0, at.seen, at, k)
            steps.exact_step(p, at, k)
        else:
            pages = selecting.pick(p, _bound_scores(p, full, at, k), wanted, k)
            _note_pages(k.mask, pages, 0, at, k)
            note_range(k.mask, full * k.own.page, at.seen, at, k)
            _attend_to_pages(p, pages, full, at, k)


@al.jit_inner
def _full(at, k):
    """Full pages that a step sees; the page of its own key is being filled."""
    return (at.seen - 1) // k.own.page


@al.jit_inner
def _wanted(at, k):
    """Full pages that each head keeps."""
    return k.own.wanted if k.own.wanted else selecting.count_of(k.own.share, _full(at, k))


@al.jit_inner
def _bound_scores(p, full, at, k):
    """Upper bounds of the scores of all full pages, in the first columns of x."""
    bounds = al.tile(k.x, 0, k.group, full)
    signed = _signed_queries(p, at, k)
    for j in range(-(-full // k.tile_k)):
        acc = _bound_product(p, signed, j, steps.Range(0, full), at, k)
        steps.take_scores(p, al.columns(bounds, j * k.tile_k, acc.cols), j, acc, k)
    return bounds


@al.jit_inner
def _bound_product(p, signed, turn, pages, at, k):
    """Both products of tile `turn` of some pages; returns the tile of the accumulator."""
    start = turn * k.tile_k
    count = min(k.tile_k, pages.size - start)
    row = at.head // k.blocks * k.own.pages + pages.first + start
    acc, (positive, negative) = al.tile(k.scores_acc, turn, k.group, count), signed
    largest, smallest = al.tile(k.keys, 0, count, k.dim), al.tile(k.keys, 1, count, k.dim)
    al.load(p, largest, k.own.largest, row, 0)
    largest = as_cube_operand(p, largest, k.key_operands, 0)
    al.matmul_transposed(p, acc, positive, largest, False)
    al.load(p, smallest, k.own.smallest, row, 0)
    smallest = as_cube_operand(p, smallest, k.key_operands, 1)
    al.matmul_transposed(p, acc, negative, smallest, True)
    return acc


@al.jit
def scored_pages(at, k):
    """Pages whose products go through HBM: all full ones, in a step that selects."""
    full = _full(at, k)
    return 0 if at.step < k.exact_steps or _wanted(at, k) >= full else full


@al.jit
def quest_in_pieces(p, k):
    """All steps, each with a phase that bounds pieces of the pages and one that selects."""
    for step in range(k.steps):
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            for turn in range(pieces.count(scored_pages(at, k), k)):
                al.begin_item(p, 2 * step)
                _store_bounds(p, turn, at, k)
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            al.begin_item(p, 2 * step + 1)
            steps.load_queries(p, at, k)
            if scored_pages(at, k):
                _select_in_pieces(p, at, k)
            else:
                note_range(k.mask, 0, at.seen, at, k)
                merging.exact_step(p, at, k)


@al.jit_inner
def _store_bounds(p, turn, at, k):
    """Bounds of the scores of a piece of the pages, to HBM."""
    start, size = pieces.piece(turn, scored_pages(at, k), k)
    steps.load_queries(p, at, k)
    signed = _signed_queries(p, at, k)
    for j in range(-(-size // k.tile_k)):
        acc = _bound_product(p, signed, j, steps.Range(start, size), at, k)
        products = al.tile(k.scores, j, acc.rows, acc.cols)
        al.move(p, products, acc)
        pieces.store_products(p, products, start + j * k.tile_k, at, k)


@al.jit_inner
def _select_in_pieces(p, at, k):
    """Attention over the pages whose bounds, read back piece by piece, are largest."""
    full, wanted, is_first = _full(at, k), _wanted(at, k), True
    bound = al.tile(k.own.picked.bound, 0, k.group, 1)
    pieces.kth_largest(p, bound, wanted, full, at, k)
    assumed = max(wanted, selecting.count_of(k.own.assumed_union, full))
    counted = selecting.Counted(full, assumed)
    for turn in range(pieces.count(full, k)):
        kept = selecting.keep_largest_of(p, turn, full, at, k)
        start, indices, count = selecting.list_piece(p, turn, kept, -np.inf, counted, k)
        if count > 0:
            picked = al.columns(indices, 0, count)
            _note_pages(k.mask, picked, start, at, k)
            is_first = _add_pages(p, picked, start, is_first, at, k)
    begin = full * k.own.page
    note_range(k.mask, begin, at.seen, at, k)
    latest = steps.Range(at.kv_row + begin, at.seen - begin)
    merging.add_attention(p, latest, is_first, at, k)
    merging.store_result(p, at, k)


@al.jit_inner
def _add_pages(p, picked, start, is_first, at, k):
    """Add attention over picked pages, counted from page `start`; as many at once as fit."""
    most = k.pieces.size // k.own.page
    for first in range(0, picked.cols, most):
        own = al.columns(picked, first, min(most, picked.cols - first))
        rows = al.tile(k.own.rows, 0, 1, own.cols * k.own.page)
        al.expand_runs(p, rows, own, k.own.page)
        listed = steps.Listed(at.kv_row + start * k.own.page, rows.cols, rows)
        is_first = merging.add_attention(p, listed, is_first, at, k)
    return is_first


@al.jit_inner
def _signed_queries(p, at, k):
    """The positive and the negative part of the queries."""
    zero, queries = al.tile(k.own.zero, 0, k.group, k.dim), steps.queries_of(at, k)
    positive = al.tile(k.own.positive, 0, k.group, k.dim)
    negative = al.tile(k.own.negative, 0, k.group, k.dim)
    al.fill(p, zero, 0.0)
    al.maximum(p, positive, queries, zero)
    al.minimum(p, negative, queries, zero)
    return positive, negative


@al.jit_inner
def _note_pages(mask, picked, first, at, k):
    """Note that all heads of a group keep the picked pages, counted from page `first`."""
    for i in range(picked.cols):
        start = (first + picked.data[0, i]) * k.own.page
        note_range(mask, start, start + k.own.page, at, k)


@al.jit_inner
def _attend_to_pages(p, pages, full, at, k):
    """Attention over the picked pages and the page being filled."""
    picked, begin = pages.cols * k.own.page, full * k.own.page
    rows = al.tile(k.own.rows, 0, 1, picked)
    al.expand_runs(p, rows, pages, k.own.page)
    latest = steps.Range(at.kv_row + begin, at.seen - begin)
    steps.attend_to_both(p, steps.Listed(at.kv_row, picked, rows), latest, at, k)


class Quest(selecting.SelectingKernel):
    """Decode over the pages that can hold large scores."""

    name = "quest"
    summary = "decode over pages of keys whose bounds on the scores are largest"
    parameters = QuestParameters
    loop = staticmethod(quest)
    loop_in_pieces = staticmethod(quest_in_pieces)
    scored_columns = staticmethod(scored_pages)
    through_hbm = pieces.ThroughHbm(products=True)

    @classmethod
    def declare(cls, chip: OnChip, task: Task[QuestParameters]) -> _Own:
        """Place the bounds in HBM and declare the tiles beside those of the frame."""
        problem, parameters = task.problem, task.parameters
        pages, dim, stored = _pages(problem, parameters.page), problem.head_dim, problem.dtype
        rows = problem.num_sequences * problem.kv_heads * pages
        tensors = task.tensors if chip.builder.with_numbers else None
        smallest, largest = _bounds_of(problem, parameters.page, tensors)

        def bound(name: str, data: al.Array | None) -> al.Tensor:
            return chip.builder.tensor(name, "input", rows, dim, problem.kv_format, data)

        return _Own(
            page=parameters.page,
            share=parameters.kept,
            wanted=parameters.pages or 0,
            assumed_union=parameters.assumed_union or 0.0,
            pages=pages,
            smallest=bound("k_min", smallest),
            largest=bound("k_max", largest),
            picked=selecting.allocate_picked(chip, chip.columns(pages)),
            zero=chip.rows("zero", dim, stored),
            positive=chip.rows("positive", dim, stored),
            negative=chip.rows("negative", dim, stored),
            rows=chip.builder.index_buffer("rows", chip.columns(problem.most_keys)),
        )


def _pages(problem: al.AttentionProblem, page: int) -> int:
    """Return the full pages of the longest KV head at the end; without any, one that is unused."""
    return max(1, problem.most_keys // page)


def _bounds_of(
    problem: al.AttentionProblem, page: int, tensors: al.AttentionTensors | None
) -> tuple[al.Array | None, al.Array | None]:
    """Return the smallest and the largest key of every full page in each channel.

    Heads with fewer pages than the longest one have rows that nobody reads.
    """
    if tensors is None:
        return None, None
    pages, dim = _pages(problem, page), problem.head_dim
    rows = [_in_pages(each.k, page, pages) for _, each in tensors.parts(problem)]
    keys = np.concatenate(rows)
    return keys.min(axis=2).reshape(-1, dim), keys.max(axis=2).reshape(-1, dim)


def _in_pages(keys: al.Array, page: int, most_pages: int) -> al.Array:
    """Return the keys of heads, [heads, rows, dim], as [heads, most_pages, page, dim]."""
    heads, rows, dim = keys.shape
    paged = np.zeros((heads, most_pages, page, dim), keys.dtype)
    full = rows // page
    paged[:, :full] = keys[:, : full * page].reshape(heads, full, page, dim)
    return paged
