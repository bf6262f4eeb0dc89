"""Mixture-of-experts models measured on NVIDIA H200s: whole steps, and products of experts alone.

A step is one CUDA graph, replayed again and again, so nothing of the host is in its time and the
power cap of the board holds. A product alone is in a graph too, over several loads of experts in
turn; windows of 0.08 s and more (`repeat` 0) were under the cap, shorter ones were not. What a row
does not tell of its load is made from what it tells: `load_of`.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from accelsim.bench import Bench
from accelsim.config.spec import Size, SizeOrZero
from accelsim.hardware.machine import MachineSpec
from accelsim.inference.cost import StepModel, sustained
from accelsim.loading import LoadedSystem, load_system
from accelsim.models.expert_files import counts_of, expert_load
from accelsim.models.expert_load import Balanced, Counted, ExpertLoad
from accelsim.models.feed_forward import ExpertFeedForward
from accelsim.models.loading import load_architecture
from accelsim.models.plan import DEFAULT_PLAN
from accelsim.numerics.formats import Format
from accelsim.runtime.kept import once_for_each
from accelsim.units import MICRO
from accelsim.validation.h200_steps import StepRow, step_of
from accelsim.validation.h200_steps import label_of as label_of_step
from accelsim.validation.problems import with_its_shape
from accelsim.validation.reference import Reference, Row
from accelsim.validation.skewed_counts import held_to, skewed_counts
from accelsim.workload.problem import GroupedGemmProblem

_STEP = ("batch", "prompt_tokens", "context", "chunk_tokens", "chunk_prior")
_PRODUCT = ("gemm", "tokens", "top_k")
_FORCED = ("uniform", "zipf", "balanced")
_SPREAD = "spread_"


class MoeRow(Row):
    """One measured step, or one measured product of experts."""

    model: str | None = None
    """Name of a shipped architecture."""
    shape: str | None = None
    """The same, as files of products alone call it."""
    phase: Literal["prefill", "decode", "mixed", "grouped_gemm"] = "grouped_gemm"
    batch: Size | None = None
    prompt_tokens: Size | None = None
    context: SizeOrZero | None = None
    chunk_tokens: SizeOrZero | None = None
    chunk_prior: SizeOrZero | None = None
    """Of a step; as in `StepRow`."""
    routing: str
    """How experts were chosen: forced (uniform, zipf, balanced, spread_<experts>), or by a random
    router (router, router_zipf)."""
    variant: str | None = None
    """A kernel that was forced in the place of the fastest one."""
    gemm: Literal["gate_up", "down", "gather_rows"] | None = None
    tokens: Size | None = None
    top_k: Size | None = None
    """Of a product alone."""
    chosen: bool = True
    """Whether steps have the kernel of a product."""
    repeat: NonNegativeInt = 0
    experts_touched_mean: PositiveFloat | None = None
    experts_touched: PositiveFloat | None = None
    """Experts with rows, mean over layers or loads; the latter of products alone."""
    largest_share_mean: PositiveFloat | None = None
    largest_share: PositiveFloat | None = None
    """Share of all rows that the largest expert has."""
    sorted_counts: str | None = None
    """Rows of experts in falling order, mean over layers."""
    time_us: PositiveFloat

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not (self.model or self.shape):
            raise ValueError("found no model, which every row needs")
        if not (self.routing in _FORCED or self.routing.startswith((_SPREAD, "router"))):
            raise ValueError(
                f"found routing '{self.routing}', allowed: {', '.join(_FORCED)}, "
                f"{_SPREAD}<experts>, router, router_zipf"
            )
        is_product = self.phase == "grouped_gemm"
        return with_its_shape(self, self.phase, _PRODUCT if is_product else _STEP)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model or self.shape or ""


def load_of(row: MoeRow, part: ExpertFeedForward, tokens: int) -> ExpertLoad:
    """Return the load of a row: as it was forced, as it was counted, or like what is told of it.

    Counts are means over layers, of which some touch more experts than others; the load has as many
    as the mean layer. Of a router without counts the experts that have rows and the largest share
    are known; rows of the others are taken to fall by a power of the rank.
    """
    if row.routing in _FORCED or row.routing.startswith(_SPREAD):
        return expert_load(row.routing)
    touched = row.experts_touched_mean or row.experts_touched
    if row.sorted_counts:
        counts = counts_of(row.sorted_counts, f"line {row.line}")
        return Counted(held_to(touched, counts) if touched else counts)
    share = row.largest_share_mean or row.largest_share
    if touched is None or share is None:
        return expert_load("zipf" if row.routing == "router_zipf" else "uniform")
    return Counted(skewed_counts(touched, share, tokens * part.experts_per_token, part.experts))


def predict(row: MoeRow, machine: MachineSpec) -> float:
    """Return the seconds of the device."""
    if row.phase == "grouped_gemm":
        return _product_s(row, machine)
    model = _models(machine)(row.name)
    step = step_of(_as_step(row))
    model.plan = replace(model.plan, experts=load_of(row, _experts(model), step.tokens))
    return model.cost(step).measured.time_s


def _as_step(row: MoeRow) -> StepRow:
    """Return the same step as a row of dense models, which knows no experts."""
    known = {name: getattr(row, name) for name in ("line", "phase", "time_us", *_STEP)}
    return StepRow(model=row.name, weights="bf16", **known)


def _experts(model: StepModel) -> ExpertFeedForward:
    parts = (layer.feed_forward for layer in model.architecture.layers)
    return next(each for each in parts if isinstance(each, ExpertFeedForward))


def _product_s(row: MoeRow, machine: MachineSpec) -> float:
    """Return the mean seconds of a product over loads that stand for those that took turns."""
    models = _models(machine)
    architecture, part = models(row.name).architecture, _experts(models(row.name))
    tokens, top_k = row.tokens or 1, row.top_k or 1
    experts, load = part.experts, load_of(row, part, tokens)
    if row.routing.startswith(_SPREAD) and top_k == 1:
        # So many rows in equal parts, and no other experts.
        experts, load = int(row.routing.removeprefix(_SPREAD)), Balanced()
    width, hidden = part.expert.width, architecture.hidden
    n, k = (2 * width, hidden) if row.gemm == "gate_up" else (hidden, width)
    bench = Bench(machine if row.repeat else sustained(machine))
    problems = [
        GroupedGemmProblem(
            kind="grouped_gemm", name="experts", rows=rows, n=n, k=k, dtype=Format.BF16
        )
        for rows in load.loads(tokens, experts, top_k, DEFAULT_PLAN.draws)
    ]
    return fmean(bench.execute(each)[0].time_s for each in problems)


class _Models:
    """Models on a machine, each with what it has simulated."""

    def __init__(self, machine: MachineSpec) -> None:
        self._system = LoadedSystem(load_system("h200"), machine)
        self._known: dict[str, StepModel] = {}

    def __call__(self, name: str) -> StepModel:
        if name not in self._known:
            self._known[name] = StepModel(load_architecture(name), self._system)
        return self._known[name]


_models = once_for_each(_Models)


def of_the_fastest(rows: Sequence[MoeRow]) -> list[MoeRow]:
    """Return the rows of kernels that were chosen because they are the fastest."""
    return [row for row in rows if row.chosen and row.variant is None and row.gemm != "gather_rows"]


def label_of(row: MoeRow) -> str:
    """Return what was computed, in a few words."""
    if row.phase == "grouped_gemm":
        what = f"{row.name} {row.gemm} of {row.tokens} tokens"
    else:
        what = label_of_step(_as_step(row))
    return f"{what}, {row.routing}"


REFERENCE = Reference(
    name="h200-moe",
    summary="steps of mixture-of-experts models and their products, measured on NVIDIA H200s",
    row=MoeRow,
    file="h200-moe.csv",
    quantity="time_s",
    kind_of=lambda row: row.phase,
    label_of=label_of,
    value_of=lambda row: row.time_us * MICRO,
    predict=predict,
    machine="h200-sxm",
    select=of_the_fastest,
)
