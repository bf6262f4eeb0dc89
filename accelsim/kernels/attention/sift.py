"""SiftAttention: decode that reads only the V rows above a learned threshold.

Warm-up steps attend to all keys and observe, for every query head, the tau-quantile of its softmax
weights: the smallest of the ceil((1 - tau) n) largest, found on the vector unit by radix select.
Afterwards each step computes the weights of all keys, predicts the quantile by the law fitted to
what was observed (`power_law`), and gathers from HBM only the V rows whose weight reaches it in any
head of the group. Source: Koley, Singhania, Bhatele, "SiftAttention" (2025, arXiv 2506.05300),
Algorithms 1 and 2. Beyond the paper: the rule c / t, a factor on the threshold, a guard on the kept
mass, and that a head never drops its largest weight.

The sums of the fit (a few numbers a head) and the thresholds live in the control core: reading a
quantile and writing a threshold are not charged.

HBM reads of a KV head in a step that sees n keys: group d b + n d b + U d b, where U is the union
of what its heads keep; U = n in the steps of the warm-up and where the guard falls back. Writes:
group d b.
"""

from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from accelsim.config.spec import PositiveValue, Size, SizeOrZero, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import StepFormats
from accelsim.kernels.attention.decode import DecodeKernel, DecodeParameters, Frame, Shape
from accelsim.kernels.attention.kept import note_columns, note_range, record_selection
from accelsim.kernels.attention.power_law import C_OVER_T, FIT, NUM_SUMS, fitted, observe, threshold
from accelsim.kernels.attention.selecting import (
    Picked,
    allocate_picked,
    attend_to_rows,
    count_of,
)
from accelsim.kernels.attention.steps import (
    attend_to_all,
    exponentials,
    load_queries,
    score_range,
    seen_keys,
)
from accelsim.kernels.base import Array
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    begin_item,
    divide_column,
    fill,
    minimum,
    multiply,
    row_sum,
    tile,
)
from accelsim.program.old.selection import (
    Ranking,
    compact,
    keep_at_least,
    kth_largest,
    read_element,
    write_column,
)
from accelsim.program.program import Program
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

_RADIX = Ranking.RADIX.value
_GIVEN = 2
_RULES = {"fit": FIT, "c_over_t": C_OVER_T, "given": _GIVEN}
_DEFAULT_WARMUP = 256


class SiftParameters(DecodeParameters):
    """Choices of the sift kernel."""

    tau: float = Field(default=0.75, gt=0, lt=1)
    """Quantile of the weights that becomes the threshold: about 1 - tau of the rows are kept."""
    warmup: SizeOrZero | None = None
    """First steps, with all keys, from which the threshold is learned; absent: 256, or none without
    tensors and with the rule `given`, which have nothing to learn."""
    rule: Literal["fit", "c_over_t", "given"] = "fit"
    """Threshold at context length t: a t^b fitted, c / t with c learned, or c / t with `c`."""
    c: PositiveValue | None = None
    """Numerator of the rule `given`; 1 keeps what is above the mean weight."""
    fit_from: Size = 16
    """Shortest context that is learned from: quantiles of a few weights are coarse."""
    threshold_factor: PositiveValue = 1.0
    """Factor on the threshold; below 1 keeps more."""
    renormalize: bool = True
    """Whether the output is divided by the kept mass instead of the whole."""
    guard: float = Field(default=0.0, ge=0, lt=1)
    """Kept mass of a head below which the step reads all of V; 0: never."""
    assumed_union: float | None = Field(default=None, gt=0, le=1)
    """Share that the heads of a group keep together, for runs without tensors; absent: 1 - tau."""

    @model_validator(mode="after")
    def _c_belongs_to_the_rule_given(self) -> "SiftParameters":
        if (self.rule == "given") != (self.c is not None):
            raise ValueError(
                f"found rule {self.rule} {'with' if self.c else 'without'} c, allowed: "
                "c with the rule given, and only with it"
            )
        return self

    def warmup_of(self, steps: int, *, with_numbers: bool) -> int:
        """Return the warm-up of a generation of `steps` steps."""
        learns = with_numbers and self.rule != "given"
        default = _DEFAULT_WARMUP if learns else 0
        return min(steps, default if self.warmup is None else self.warmup)


class _Law(NamedTuple):
    """How thresholds come about, with the state that lives from step to step."""

    tau: float
    warmup: int
    rule: int
    c: float
    fit_from: int
    factor: float
    renormalize: bool
    guard: float
    assumed_union: float
    sums: Any
    """float64 [q_heads, NUM_SUMS], the sums of the fits."""
    thresholds: Any
    """float64 [group], of the step at hand."""
    fallbacks: Any
    """int64 [1], work items that fell back to all of V."""


class _Own(NamedTuple):
    """On-chip tiles beside those of the frame."""

    picked: Picked
    one: Any
    kept_total: Any


@jit
def sift(p, shape, fmt, law, own, mask, hbm, b):
    """All steps, one after the other. The state is reset first: recording may run twice."""
    law.sums[:] = 0.0
    law.fallbacks[:] = 0
    for item in range(shape.steps * shape.heads):
        step, head = item // shape.heads, item % shape.heads
        begin_item(p, step)
        queries, cols, x = (
            load_queries(p, step, head, shape, hbm, b),
            seen_keys(step, shape),
            tile(b.x, 0),
        )
        score_range(p, x, 0, queries, head * shape.kv_len, cols, shape, fmt, hbm, b)
        exponentials(p, x, cols, shape, fmt, b)
        if step < law.warmup:
            _learn(p, head, x, cols, shape, fmt, law, own, b)
            note_range(mask, head * shape.group, step, shape.group, 0, cols)
            attend_to_all(p, step, head, x, cols, shape, fmt, hbm, b)
        else:
            _sift_values(p, step, head, x, cols, shape, fmt, law, mask, own, hbm, b)


@jit_inner
def _learn(p, head, x, cols, shape, fmt, law, own, b):
    """Observe the tau-quantile of the softmax weights of every head of a group."""
    if cols < law.fit_from:
        return
    bound, kept, group, vector = (
        tile(own.picked.bound, 0),
        tile(own.picked.kept, 0),
        shape.group,
        fmt.vector,
    )
    kth_largest(p, bound, kept, x, count_of(1 - law.tau, cols), _RADIX, group, cols, vector)
    divide_column(p, bound, bound, tile(b.total, 0), group, 1, vector)
    for r in range(group):
        observe(law.sums[head * group + r], cols, read_element(p, bound, r))


@jit_inner
def _bounds(p, head, cols, shape, fmt, law, own, b):
    """Smallest weight, before division by the total, that each head of a group keeps."""
    bound, one, group, vector = tile(own.picked.bound, 0), tile(own.one, 0), shape.group, fmt.vector
    for r in range(group):
        if law.rule == _GIVEN:
            theta = law.c / cols
        else:
            theta = threshold(law.sums[head * group + r], law.rule, cols)
        law.thresholds[r] = law.factor * theta
    write_column(p, bound, law.thresholds, group, vector)
    multiply(p, bound, bound, tile(b.total, 0), group, 1, vector)
    # The largest weight is 1, so that a threshold above all of them keeps this one.
    fill(p, one, 1.0, group, 1, vector)
    minimum(p, bound, bound, one, group, 1, vector)
    return bound


@jit_inner
def _sift_values(p, step, head, x, cols, shape, fmt, law, mask, own, hbm, b):
    """Finish a step from its exponentials with the V rows above the threshold."""
    group, vector, total = shape.group, fmt.vector, tile(b.total, 0)
    kept, indices, kept_total = (
        tile(own.picked.kept, 0),
        tile(own.picked.indices, 0),
        tile(own.kept_total, 0),
    )
    bound = _bounds(p, head, cols, shape, fmt, law, own, b)
    keep_at_least(p, kept, x, bound, 0.0, group, cols, vector)
    row_sum(p, kept_total, kept, group, cols, vector)
    if _is_below_guard(p, kept_total, total, group, law):
        law.fallbacks[0] += 1
        note_range(mask, head * group, step, group, 0, cols)
        count = compact(p, kept, indices, x, -1.0, cols, group, cols, vector)
        attend_to_rows(p, step, head, kept, indices, count, total, shape, fmt, hbm, b)
        return
    note_columns(mask, head * group, step, group, kept.data, 0.0, cols)
    assumed = count_of(law.assumed_union, cols)
    count = compact(p, kept, indices, kept, 0.0, assumed, group, cols, vector)
    divisor = kept_total if law.renormalize else total
    attend_to_rows(p, step, head, kept, indices, count, divisor, shape, fmt, hbm, b)


@jit_inner
def _is_below_guard(p, kept_total, total, group, law):
    """Whether any head of a group keeps too little of its weight."""
    for r in range(group):
        if read_element(p, kept_total, r) < law.guard * read_element(p, total, r):
            return True
    return False


class Sift(DecodeKernel):
    """SiftAttention."""

    name: ClassVar[str] = "sift"
    summary: ClassVar[str] = "decode that reads only the V rows above a learned threshold"
    is_exact: ClassVar[bool] = False
    parameters: ClassVar[type[Spec]] = SiftParameters

    @classmethod
    def selects_by_values(cls, parameters: SiftParameters) -> bool:
        """Return True: the scores say it."""
        return True

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: SiftParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        frame = Frame.prepare(cls.name, problem, machine, parameters, tensors, _allocate)
        law = _law(problem, parameters, with_numbers=tensors is not None)
        program = record_selection(frame, sift, law.warmup, law, frame.own)
        program = program.with_parameters(warmup=law.warmup)
        if tensors is not None:
            shares = _shares(law, frame.shape)
            program = replace(program, selection={**program.selection, **shares})
        return program, frame.output


def _shares(law: _Law, shape: Shape) -> dict[str, float]:
    """Return what a report shows of the thresholds, once they were computed."""
    if law.warmup == shape.steps:
        return {}
    selecting = (shape.steps - law.warmup) * shape.heads
    shares = {"fallback_fraction": float(law.fallbacks[0] / selecting)}
    if law.rule != _GIVEN:
        slopes = [fitted(sums, law.rule)[1] for sums in law.sums]
        shares["unfitted_fraction"] = float(np.isnan(slopes).mean())
    return shares


def _law(problem: AttentionProblem, parameters: SiftParameters, *, with_numbers: bool) -> _Law:
    """Return the choices of the kernel with empty state."""
    heads, group = problem.batch * problem.q_heads, problem.q_heads // problem.kv_heads
    return _Law(
        tau=parameters.tau,
        warmup=parameters.warmup_of(problem.q_len, with_numbers=with_numbers),
        rule=_RULES[parameters.rule],
        c=parameters.c or 0.0,
        fit_from=parameters.fit_from,
        factor=parameters.threshold_factor,
        renormalize=parameters.renormalize,
        guard=parameters.guard,
        assumed_union=parameters.assumed_union or 1 - parameters.tau,
        sums=np.zeros((heads, NUM_SUMS)),
        thresholds=np.zeros(group),
        fallbacks=np.zeros(1, np.int64),
    )


def _allocate(builder: ProgramBuilder, problem: AttentionProblem, formats: StepFormats) -> _Own:
    group, vector = problem.q_heads // problem.kv_heads, formats.vector
    return _Own(
        picked=allocate_picked(builder, problem, formats, problem.kv_len),
        one=builder.buffer("one", group, 1, vector),
        kept_total=builder.buffer("kept_total", group, 1, vector),
    )
