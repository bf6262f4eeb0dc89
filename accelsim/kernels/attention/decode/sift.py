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

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from accelsim.kernels import language as al
from accelsim.kernels.attention.decode import pieces, selecting, steps
from accelsim.kernels.attention.decode.frame import DecodeParameters, Layout, OnChip
from accelsim.kernels.attention.decode.kept import note_columns, note_range
from accelsim.kernels.attention.decode.power_law import (
    C_OVER_T,
    FIT,
    NUM_SUMS,
    fitted,
    observe,
    threshold,
)
from accelsim.kernels.attention.decode.thresholds import load_thresholds
from accelsim.kernels.attention.kernel import Task

_GIVEN = 2
_RULES = {"fit": FIT, "c_over_t": C_OVER_T, "given": _GIVEN}
_DEFAULT_WARMUP = 256


class SiftParameters(DecodeParameters):
    """Choices of the sift kernel."""

    tau: float = Field(default=0.75, gt=0, lt=1)
    """Quantile of the weights that becomes the threshold: about 1 - tau of the rows are kept."""
    thresholds: Path | None = None
    """What `accelsim thresholds` wrote: laws of each head of a model, which the warm-up adds to;
    absent: they are learned in the warm-up alone."""
    warmup: al.SizeOrZero | None = None
    """First steps, with all keys, from which the threshold is learned; absent: 256, or none without
    tensors, with `thresholds` and with the rule `given`, which have nothing to learn."""
    rule: Literal["fit", "c_over_t", "given"] = "fit"
    """Threshold at context length t: a t^b fitted, c / t with c learned, or c / t with `c`."""
    c: al.PositiveValue | None = None
    """Numerator of the rule `given`; 1 keeps what is above the mean weight."""
    fit_from: al.Size = 16
    """Shortest context that is learned from: quantiles of a few weights are coarse."""
    threshold_factor: al.PositiveValue = 1.0
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

    @model_validator(mode="after")
    def _thresholds_belong_to_a_law(self) -> "SiftParameters":
        if self.thresholds is not None and self.rule == "given":
            raise ValueError("found thresholds with rule given, allowed: with fit or c_over_t")
        return self

    def warmup_of(self, steps: int, *, with_numbers: bool) -> int:
        """Return the warm-up of a generation of `steps` steps."""
        learns = with_numbers and self.rule != "given" and self.thresholds is None
        default = _DEFAULT_WARMUP if learns else 0
        return min(steps, default if self.warmup is None else self.warmup)


class _Own(NamedTuple):
    """How thresholds come about, the state that lives from step to step, and the tiles of both."""

    tau: float
    rule: int
    c: float
    fit_from: int
    factor: float
    renormalize: bool
    guard: float
    assumed_union: float
    learned: Any
    """float64 [q_heads, NUM_SUMS], the sums of the fits before the first step."""
    sums: Any
    """The same as they are in the step at hand."""
    thresholds: Any
    """float64 [group], of the step at hand."""
    fallbacks: Any
    """int64 [1], work items that fell back to all of V."""
    picked: selecting.Picked
    one: al.Buffer
    kept_total: al.Buffer


@al.jit
def sift(p, k):
    """All steps, one after the other. The state is reset first: recording may run twice."""
    k.own.sums[:] = k.own.learned
    k.own.fallbacks[:] = 0
    for item in range(k.steps * k.heads):
        at = steps.begin_step(p, item, k)
        x = al.tile(k.x, 0, k.group, at.seen)
        steps.score(p, x, steps.all_rows(at), at, k)
        total = steps.exponentials(p, x, k)
        if at.step < k.exact_steps:
            _learn(p, x, total, at, k)
            note_range(k.mask, 0, at.seen, at, k)
            steps.attend(p, x, steps.all_rows(at), total, at, k)
        else:
            _sift_values(p, x, total, at, k)


@al.jit_inner
def _learn(p, x, total, at, k):
    """Observe the tau-quantile of the softmax weights of every head of a group."""
    if at.seen < k.own.fit_from:
        return
    quantile = selecting.kth_largest(p, x, selecting.count_of(1 - k.own.tau, at.seen), k)
    _observe(p, quantile, total, at, k)


@al.jit_inner
def _observe(p, quantile, total, at, k):
    """Add quantiles of the exponentials, over their totals, to the sums of the fits."""
    al.divide(p, quantile, quantile, total)
    for r in range(k.group):
        observe(k.own.sums[at.q_row + r], at.seen, al.read_element(p, quantile, r))


@al.jit_inner
def _sift_values(p, x, total, at, k):
    """Finish a step from its exponentials with the V rows above the threshold."""
    kept, kept_total = selecting.kept_tile(at.seen, k), al.tile(k.own.kept_total, 0, k.group, 1)
    al.keep_at_least(p, kept, x, _bounds(p, total, at, k), 0.0)
    al.row_sum(p, kept_total, kept)
    if _is_below_guard(p, kept_total, total, k):
        k.own.fallbacks[0] += 1
        note_range(k.mask, 0, at.seen, at, k)
        selecting.attend_to_kept(p, selecting.list_columns(p, x, -1.0, at.seen, k), total, at, k)
        return
    indices = selecting.list_columns(
        p, kept, 0.0, selecting.count_of(k.own.assumed_union, at.seen), k
    )
    note_columns(k.mask, kept, indices, 0.0, 0, at)
    selecting.attend_to_kept(p, indices, kept_total if k.own.renormalize else total, at, k)


@al.jit_inner
def _bounds(p, total, at, k):
    """Smallest weight, before division by the total, that each head of a group keeps."""
    bound, one = al.tile(k.own.picked.bound, 0, k.group, 1), al.tile(k.own.one, 0, k.group, 1)
    for r in range(k.group):
        if k.own.rule == _GIVEN:
            theta = k.own.c / at.seen
        else:
            theta = threshold(k.own.sums[at.q_row + r], k.own.rule, at.seen)
        k.own.thresholds[r] = k.own.factor * theta
    al.write_column(p, bound, k.own.thresholds)
    al.multiply(p, bound, bound, total)
    # The largest weight is 1, so that a threshold above all of them keeps this one.
    al.fill(p, one, 1.0)
    al.minimum(p, bound, bound, one)
    return bound


@al.jit_inner
def _is_below_guard(p, kept_total, total, k):
    """Whether any head of a group keeps too little of its weight."""
    for r in range(k.group):
        if al.read_element(p, kept_total, r) < k.own.guard * al.read_element(p, total, r):
            return True
    return False


@al.jit
def scored_columns(at, _k):
    """Columns whose products go through HBM: all keys."""
    return at.seen


@al.jit
def sift_in_pieces(p, k):
    """All steps, each with a phase that scores pieces of the keys and one that selects."""
    k.own.sums[:] = k.own.learned
    k.own.fallbacks[:] = 0
    for step in range(k.steps):
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            for turn in range(pieces.count(at.seen, k)):
                al.begin_item(p, 2 * step)
                pieces.store_statistics(p, pieces.score_keys(p, turn, at, k), turn, at, k)
        for item in range(step * k.heads, (step + 1) * k.heads):
            at = steps.item_at(item, k)
            al.begin_item(p, 2 * step + 1)
            largest, total = pieces.load_statistics(p, at.seen, at, k)
            if at.step < k.exact_steps:
                _learn_in_pieces(p, largest, total, at, k)
                _attend_to_all(p, largest, total, at, k)
            else:
                _sift_in_pieces(p, largest, total, at, k)


@al.jit_inner
def _learn_in_pieces(p, largest, total, at, k):
    """Observe the tau-quantile of the softmax weights: that of the scores, which they rise with."""
    if at.seen < k.own.fit_from:
        return
    quantile = al.tile(k.own.picked.bound, 0, k.group, 1)
    rank = selecting.count_of(1 - k.own.tau, at.seen)
    pieces.kth_largest(p, quantile, rank, at.seen, at, k)
    pieces.as_exponentials(p, quantile, quantile, largest, k)
    _observe(p, quantile, total, at, k)


@al.jit_inner
def _exponentials_of(p, turn, largest, at, k):
    """Read the products of a piece back; returns their exponentials."""
    products = pieces.load_products(p, turn, at.seen, at, k)
    x = al.tile(k.x, 0, k.group, products.cols)
    pieces.as_exponentials(p, x, products, largest, k)
    return x


@al.jit_inner
def _attend_to_all(p, largest, total, at, k):
    """Finish a step with all rows of V."""
    note_range(k.mask, 0, at.seen, at, k)
    for turn in range(pieces.count(at.seen, k)):
        start, size = pieces.piece(turn, at.seen, k)
        x = _exponentials_of(p, turn, largest, at, k)
        rows = steps.part_of(steps.all_rows(at), start, size)
        steps.add_values(p, steps.as_operand(p, x, k), rows, turn > 0, k)
    steps.store_output(p, total, at, k)


@al.jit_inner
def _sift_in_pieces(p, largest, total, at, k):
    """Finish a step with the V rows above the threshold, or with all of them."""
    bound = _bounds(p, total, at, k)
    if k.own.guard > 0:
        kept_total = _kept_total(p, bound, largest, at, k)
        if _is_below_guard(p, kept_total, total, k):
            k.own.fallbacks[0] += 1
            _attend_to_all(p, largest, total, at, k)
            return
    _attend_above(p, bound, largest, total, at, k)


@al.jit_inner
def _keep_piece(p, turn, bound, largest, kept_total, at, k):
    """Keep the weights of a piece above the threshold, and add them to the kept total."""
    x = _exponentials_of(p, turn, largest, at, k)
    kept = selecting.kept_tile(x.cols, k)
    al.keep_at_least(p, kept, x, bound, 0.0)
    pieces.add_sums(p, kept_total, kept, k)
    return kept


@al.jit_inner
def _kept_total(p, bound, largest, at, k):
    """The weight above the threshold, for which all scores are read once more."""
    kept_total = al.tile(k.own.kept_total, 0, k.group, 1)
    al.fill(p, kept_total, 0.0)
    for turn in range(pieces.count(at.seen, k)):
        _keep_piece(p, turn, bound, largest, kept_total, at, k)
    return kept_total


@al.jit_inner
def _attend_above(p, bound, largest, total, at, k):
    """Finish a step with the V rows above the threshold."""
    kept_total, is_empty = al.tile(k.own.kept_total, 0, k.group, 1), True
    al.fill(p, kept_total, 0.0)
    assumed = selecting.count_of(k.own.assumed_union, at.seen)
    counted = selecting.Counted(at.seen, assumed)
    for turn in range(pieces.count(at.seen, k)):
        kept = _keep_piece(p, turn, bound, largest, kept_total, at, k)
        start, indices, count = selecting.list_piece(p, turn, kept, 0.0, counted, k)
        if count > 0:
            weights, indices = selecting.kept_tile(count, k), al.columns(indices, 0, count)
            note_columns(k.mask, weights, indices, 0.0, start, at)
            selecting.add_kept(p, weights, indices, start, is_empty, at, k)
            is_empty = False
    selecting.store_sum(p, is_empty, kept_total if k.own.renormalize else total, at, k)


class Sift(selecting.SelectingKernel):
    """SiftAttention."""

    name = "sift"
    summary = "decode that reads only the V rows above a learned threshold"
    parameters = SiftParameters
    loop = staticmethod(sift)
    loop_in_pieces = staticmethod(sift_in_pieces)
    scored_columns = staticmethod(scored_columns)
    through_hbm = pieces.ThroughHbm(products=True, largest=True, total=True)

    @classmethod
    def exact_steps(cls, task: Task[SiftParameters]) -> int:
        """Return the steps of the warm-up."""
        with_numbers = task.tensors is not None
        return task.parameters.warmup_of(task.problem.steps, with_numbers=with_numbers)

    @classmethod
    def told(cls, program: al.Program, task: Task[SiftParameters], k: Layout) -> al.Program:
        """Return the program with the warm-up and, with tensors, what became of the thresholds."""
        warmup, shares = cls.exact_steps(task), dict(program.statistics)
        if task.tensors is not None and warmup < task.problem.steps:
            shares |= _shares(k, task.problem.steps - warmup)
        return program.with_parameters(warmup=warmup).with_statistics(shares)

    @classmethod
    def declare(cls, chip: OnChip, task: Task[SiftParameters]) -> _Own:
        """Return the choices of the kernel with empty state, and declare its tiles."""
        problem, parameters = task.problem, task.parameters
        learned = _learned(task)
        return _Own(
            tau=parameters.tau,
            rule=_RULES[parameters.rule],
            c=parameters.c or 0.0,
            fit_from=parameters.fit_from,
            factor=parameters.threshold_factor,
            renormalize=parameters.renormalize,
            guard=parameters.guard,
            assumed_union=parameters.assumed_union or 1 - parameters.tau,
            learned=learned,
            sums=learned.copy(),
            thresholds=np.zeros(chip.rows.height),
            fallbacks=np.zeros(1, np.int64),
            picked=selecting.allocate_picked(chip, chip.columns(problem.most_keys)),
            one=chip.rows("one", 1),
            kept_total=chip.rows("kept_total", 1),
        )


def _learned(task: Task[SiftParameters]) -> al.Array:
    """Return the sums of the fits of all heads of all sequences before the first step."""
    sequences, heads = task.problem.num_sequences, task.problem.q_heads
    named, tensors = task.parameters.thresholds, task.tensors
    if named is None or tensors is None:
        return np.zeros((sequences * heads, NUM_SUMS))
    own = load_thresholds(named).of_layer(task.parameters.tau, tensors.reader, heads)
    return np.tile(own, (sequences, 1))


def _shares(k: Layout, selecting_steps: int) -> dict[str, float]:
    """Return what a report shows of the thresholds, once they were computed."""
    own = k.own
    shares = {"fallback_fraction": float(own.fallbacks[0] / (selecting_steps * k.heads))}
    if own.rule != _GIVEN:
        slopes = [fitted(sums, own.rule)[1] for sums in own.sums]
        shares["unfitted_fraction"] = float(np.isnan(slopes).mean())
    return shares
