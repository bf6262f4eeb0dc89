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
from accelsim.kernels.attention.decode import selecting, steps
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
        full = (at.seen - 1) // k.own.page
        wanted = k.own.wanted if k.own.wanted else selecting.count_of(k.own.share, full)
        if at.step < k.exact_steps or wanted >= full:
            note_range(k.mask, 0, at.seen, at, k)
            steps.exact_step(p, at, k)
        else:
            pages = selecting.pick(p, _bound_scores(p, full, at, k), wanted, k)
            _note_pages(k.mask, pages, full, at, k)
            _attend_to_pages(p, pages, full, at, k)


@al.jit_inner
def _bound_scores(p, full, at, k):
    """Upper bounds of the scores of all full pages, in the first columns of x."""
    bounds = al.tile(k.x, 0, k.group, full)
    positive, negative = _signed_queries(p, at, k)
    for j in range(-(-full // k.tile_k)):
        start = j * k.tile_k
        count, row = min(k.tile_k, full - start), at.head * k.own.pages + start
        acc = al.tile(k.scores_acc, j, k.group, count)
        largest, smallest = al.tile(k.keys, 0, count, k.dim), al.tile(k.keys, 1, count, k.dim)
        al.load(p, largest, k.own.largest, row, 0)
        largest = as_cube_operand(p, largest, k.key_operands, 0)
        al.matmul_transposed(p, acc, positive, largest, False)
        al.load(p, smallest, k.own.smallest, row, 0)
        smallest = as_cube_operand(p, smallest, k.key_operands, 1)
        al.matmul_transposed(p, acc, negative, smallest, True)
        steps.take_scores(p, al.columns(bounds, start, count), j, acc, k)
    return bounds


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
def _note_pages(mask, pages, full, at, k):
    for i in range(pages.cols):
        start = pages.data[0, i] * k.own.page
        note_range(mask, start, start + k.own.page, at, k)
    note_range(mask, full * k.own.page, at.seen, at, k)


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
            picked=selecting.allocate_picked(chip, pages),
            zero=chip.rows("zero", dim, stored),
            positive=chip.rows("positive", dim, stored),
            negative=chip.rows("negative", dim, stored),
            rows=chip.builder.index_buffer("rows", problem.most_keys),
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
