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

from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.decode import Declare, DecodeKernel, Frame
from accelsim.kernels.attention.kept import note_range, record_selection
from accelsim.kernels.attention.selecting import (
    Picked,
    SelectingParameters,
    allocate_picked,
    count_of,
)
from accelsim.kernels.attention.steps import (
    add_value_range,
    add_value_rows,
    as_operand,
    exact_step,
    exponentials,
    load_queries,
    score_range,
    score_rows,
    seen_keys,
    store_output,
)
from accelsim.kernels.base import Array
from accelsim.numerics.formats import FP32
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    begin_item,
    columns,
    fill,
    load,
    matmul_transposed,
    maximum,
    minimum,
    move,
    scale,
    tile,
)
from accelsim.program.old.selection import Ranking, compact, expand_runs, keep_largest, kth_largest
from accelsim.program.program import Program
from accelsim.program.recording import Tensor
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

_RADIX = Ranking.RADIX.value


class QuestParameters(SelectingParameters):
    """Choices of the quest kernel."""

    page: Size = 16
    """Keys of a page."""
    kept: float = Field(default=0.25, gt=0, le=1)
    """Share of the full pages that each head keeps, rounded up to whole pages."""
    pages: Size | None = None
    """Full pages that each head keeps; absent: the share `kept`."""


class _Choice(NamedTuple):
    page: int
    share: float
    pages: int
    exact_steps: int
    assumed_union: float


class _Bounds(NamedTuple):
    """Smallest and largest key of every full page in HBM, [kv_heads x pages, dim]."""

    smallest: Tensor
    largest: Tensor
    pages: int


class _Own(NamedTuple):
    """On-chip tiles beside those of the frame."""

    picked: Picked
    zero: Any
    positive: Any
    negative: Any
    rows: Any


@jit
def quest(p, shape, fmt, choice, bounds, own, mask, hbm, b):
    """All steps, one after the other."""
    for item in range(shape.steps * shape.heads):
        step, head = item // shape.heads, item % shape.heads
        begin_item(p, step)
        queries, cols = load_queries(p, step, head, shape, hbm, b), seen_keys(step, shape)
        full = (cols - 1) // choice.page
        wanted = choice.pages if choice.pages else count_of(choice.share, full)
        if step < choice.exact_steps or wanted >= full:
            note_range(mask, head * shape.group, step, shape.group, 0, cols)
            exact_step(p, step, head, queries, shape, fmt, hbm, b)
        else:
            _bound_scores(p, head, full, queries, shape, fmt, bounds, own, b)
            count = _pick_pages(p, full, wanted, shape, fmt, choice, own, b)
            _note_pages(mask, step, head, full, count, cols, shape, choice, own)
            _attend_to_pages(p, step, head, queries, full, count, shape, fmt, choice, own, hbm, b)


@jit_inner
def _bound_scores(p, head, full, queries, shape, fmt, bounds, own, b):
    """Upper bounds of the scores of all full pages, into the first columns of x."""
    zero, positive, negative = tile(own.zero, 0), tile(own.positive, 0), tile(own.negative, 0)
    group, dim, x = shape.group, shape.dim, tile(b.x, 0)
    fill(p, zero, 0.0, group, dim, fmt.stored)
    maximum(p, positive, queries, zero, group, dim, fmt.stored)
    minimum(p, negative, queries, zero, group, dim, fmt.stored)
    for j in range(-(-full // shape.tile)):
        start = j * shape.tile
        rows, row = min(shape.tile, full - start), head * bounds.pages + start
        acc, scores = tile(b.scores_acc, j), tile(b.scores, j)
        largest, smallest = tile(b.keys, 0), tile(b.keys, 1)
        load(p, largest, bounds.largest, row, 0, rows, dim)
        matmul_transposed(p, acc, positive, largest, group, rows, dim, fmt.stored, FP32, False)
        load(p, smallest, bounds.smallest, row, 0, rows, dim)
        matmul_transposed(p, acc, negative, smallest, group, rows, dim, fmt.stored, FP32, True)
        move(p, scores, acc, group, rows, FP32, fmt.scores)
        scale(p, columns(x, start), scores, shape.factor, group, rows, fmt.vector)


@jit_inner
def _pick_pages(p, full, wanted, shape, fmt, choice, own, b):
    """Put the numbers of the pages that any head picks into `indices`; return how many."""
    x, kept, bound = tile(b.x, 0), tile(own.picked.kept, 0), tile(own.picked.bound, 0)
    indices, group, vector = tile(own.picked.indices, 0), shape.group, fmt.vector
    kth_largest(p, bound, kept, x, wanted, _RADIX, group, full, vector)
    keep_largest(p, kept, x, bound, wanted, -np.inf, group, full, vector)
    assumed = max(wanted, count_of(choice.assumed_union, full))
    return compact(p, kept, indices, kept, -np.inf, assumed, group, full, vector)


@jit_inner
def _note_pages(mask, step, head, full, count, cols, shape, choice, own):
    first, page, indices = head * shape.group, choice.page, tile(own.picked.indices, 0)
    for i in range(count):
        start = indices.data[0, i] * page
        note_range(mask, first, step, shape.group, start, start + page)
    note_range(mask, first, step, shape.group, full * page, cols)


@jit_inner
def _attend_to_pages(p, step, head, queries, full, count, shape, fmt, choice, own, hbm, b):
    """Attention over the picked pages and the page being filled."""
    x, rows, row = tile(b.x, 0), tile(own.rows, 0), head * shape.kv_len
    picked, begin = count * choice.page, full * choice.page
    latest = seen_keys(step, shape) - begin
    expand_runs(p, rows, tile(own.picked.indices, 0), count, choice.page)
    score_rows(p, x, queries, rows, row, picked, shape, fmt, hbm, b)
    score_range(p, x, picked, queries, row + begin, latest, shape, fmt, hbm, b)
    exponentials(p, x, picked + latest, shape, fmt, b)
    weights = as_operand(p, x, picked + latest, shape, fmt, b)
    add_value_rows(p, weights, rows, row, picked, shape, fmt, hbm, b)
    add_value_range(p, weights, picked, row + begin, latest, True, shape, fmt, hbm, b)
    store_output(p, step, head, tile(b.total, 0), shape, fmt, hbm, b)


class Quest(DecodeKernel):
    """Decode over the pages that can hold large scores."""

    name: ClassVar[str] = "quest"
    summary: ClassVar[str] = "decode over pages of keys whose bounds on the scores are largest"
    is_exact: ClassVar[bool] = False
    parameters: ClassVar[type[Spec]] = QuestParameters

    @classmethod
    def selects_by_values(cls, parameters: QuestParameters) -> bool:
        """Return True: the scores say it."""
        return True

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: QuestParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        frame = Frame.prepare(
            cls.name, problem, machine, parameters, tensors, _own(parameters.page)
        )
        bounds = _declare_bounds(frame.builder, problem, parameters.page, tensors)
        exact_steps = min(parameters.exact_steps, problem.q_len)
        choice = _Choice(
            page=parameters.page,
            share=parameters.kept,
            pages=parameters.pages or 0,
            exact_steps=exact_steps,
            assumed_union=parameters.assumed_union or 0.0,
        )
        program = record_selection(frame, quest, exact_steps, choice, bounds, frame.own)
        return program, frame.output


def _declare_bounds(
    builder: ProgramBuilder, problem: AttentionProblem, page: int, tensors: AttentionTensors | None
) -> _Bounds:
    """Place the bounds of all full pages in HBM; a cache without one has a page that is unused."""
    heads, dim = problem.batch * problem.kv_heads, problem.head_dim
    pages = max(1, problem.kv_len // page)

    def bound(name: str, extreme: Any) -> Tensor:
        data = None
        if tensors is not None:
            keys = tensors.k[:, : pages * page].reshape(heads, pages, -1, dim)
            data = extreme(keys, axis=2).reshape(-1, dim)
        return builder.tensor(name, "input", heads * pages, dim, problem.dtype, data)

    return _Bounds(bound("k_min", np.min), bound("k_max", np.max), pages)


def _own(page: int) -> Declare:
    """Return what declares the tiles beside those of the frame, for pages of some keys."""
    return lambda builder, problem, formats: _allocate(builder, problem, formats, page)


def _allocate(
    builder: ProgramBuilder, problem: AttentionProblem, formats: StepFormats, page: int
) -> _Own:
    pages = max(1, problem.kv_len // page)
    group, dim = problem.q_heads // problem.kv_heads, problem.head_dim
    return _Own(
        picked=allocate_picked(builder, problem, formats, pages),
        zero=builder.buffer("zero", group, dim, formats.stored),
        positive=builder.buffer("positive", group, dim, formats.stored),
        negative=builder.buffer("negative", group, dim, formats.stored),
        rows=builder.index_buffer("rows", problem.kv_len),
    )
