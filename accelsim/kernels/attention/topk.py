"""Decode with exact top-k: every head attends to its k largest scores.

All scores are computed, the k-th largest of each row is found on the vector unit, and what reaches
it is kept: exactly k keys a head, of equal scores the first ones. The softmax runs over the kept
keys alone. Query heads of a group share rows: V rows are gathered for the union of what they keep.
Source: the selection that sparse decode methods are compared with, such as Loki (Singhania et al.,
2024, arXiv 2406.02542).

HBM reads of a KV head in a step that sees n keys: group d b + n d b + U d b, where U, between k
and group k, is the size of the union; writes: group d b. Exact steps read 2 n d b for K and V.
"""

from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.decode import DecodeKernel, Frame
from accelsim.kernels.attention.kept import note_columns, note_range, record_selection
from accelsim.kernels.attention.selecting import (
    Picked,
    SelectingParameters,
    allocate_picked,
    attend_to_rows,
    count_of,
)
from accelsim.kernels.attention.steps import (
    exact_step,
    exponentials,
    load_queries,
    score_range,
    seen_keys,
)
from accelsim.kernels.base import Array
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import begin_item, tile
from accelsim.program.old.selection import Ranking, compact, keep_largest, kth_largest
from accelsim.program.program import Program
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


class TopKParameters(SelectingParameters):
    """Choices of the top-k kernel."""

    kept: float = Field(default=0.25, gt=0, le=1)
    """Share of the keys that each head keeps, rounded up to whole keys."""
    k: Size | None = None
    """Keys that each head keeps; absent: the share `kept`."""
    ranking: Literal["radix", "bitonic", "merge"] = "radix"
    """How the k-th largest score is found: radix select, sorting network, or merge sort."""


class _Choice(NamedTuple):
    share: float
    k: int
    ranking: int
    exact_steps: int
    assumed_union: float


@jit
def top_k(p, shape, fmt, choice, picked, mask, hbm, b):
    """All steps, one after the other."""
    for item in range(shape.steps * shape.heads):
        step, head = item // shape.heads, item % shape.heads
        begin_item(p, step)
        queries, cols = load_queries(p, step, head, shape, hbm, b), seen_keys(step, shape)
        k = choice.k if choice.k else count_of(choice.share, cols)
        if step < choice.exact_steps or k >= cols:
            note_range(mask, head * shape.group, step, shape.group, 0, cols)
            exact_step(p, step, head, queries, shape, fmt, hbm, b)
        else:
            _selecting_step(p, step, head, queries, k, shape, fmt, choice, mask, picked, hbm, b)


@jit_inner
def _selecting_step(p, step, head, queries, k, shape, fmt, choice, mask, picked, hbm, b):
    cols, group, vector = seen_keys(step, shape), shape.group, fmt.vector
    x, kept, bound = tile(b.x, 0), tile(picked.kept, 0), tile(picked.bound, 0)
    indices = tile(picked.indices, 0)
    score_range(p, x, 0, queries, head * shape.kv_len, cols, shape, fmt, hbm, b)
    kth_largest(p, bound, kept, x, k, choice.ranking, group, cols, vector)
    keep_largest(p, kept, x, bound, k, -np.inf, group, cols, vector)
    note_columns(mask, head * group, step, group, kept.data, -np.inf, cols)
    assumed = max(k, count_of(choice.assumed_union, cols))
    count = compact(p, kept, indices, kept, -np.inf, assumed, group, cols, vector)
    exponentials(p, kept, count, shape, fmt, b)
    total = tile(b.total, 0)
    attend_to_rows(p, step, head, kept, indices, count, total, shape, fmt, hbm, b)


class TopK(DecodeKernel):
    """Decode over the k largest scores of every head."""

    name: ClassVar[str] = "topk"
    summary: ClassVar[str] = "decode over the k largest scores of each head, found exactly"
    is_exact: ClassVar[bool] = False
    parameters: ClassVar[type[Spec]] = TopKParameters

    @classmethod
    def selects_by_values(cls, parameters: TopKParameters) -> bool:
        """Return True: the scores say it."""
        return True

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: TopKParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        is_sorted = parameters.ranking != "radix"

        def allocate(
            builder: ProgramBuilder, own: AttentionProblem, formats: StepFormats
        ) -> Picked:
            return allocate_picked(builder, own, formats, own.kv_len, is_sorted=is_sorted)

        frame = Frame.prepare(cls.name, problem, machine, parameters, tensors, allocate)
        exact_steps = min(parameters.exact_steps, problem.q_len)
        choice = _Choice(
            share=parameters.kept,
            k=parameters.k or 0,
            ranking=Ranking[parameters.ranking.upper()].value,
            exact_steps=exact_steps,
            assumed_union=parameters.assumed_union or 0.0,
        )
        program = record_selection(frame, top_k, exact_steps, choice, frame.own)
        return program, frame.output
