"""Whole steps of dense language models measured on NVIDIA H200s, against sums of their operations.

A step is one CUDA graph, so nothing of the host is in its time. Graphs were replayed one after the
other, so the power cap of the board holds. Steps with weights in FP8 are left out: their operations
are not known yet.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import PositiveFloat

from accelsim.config.spec import Size, SizeOrZero
from accelsim.hardware.machine import MachineSpec
from accelsim.loading import load_system
from accelsim.models.cost import StepModel, sustained
from accelsim.models.loading import load_architecture
from accelsim.models.step import Sequences, Step
from accelsim.runtime.kept import once_for_each
from accelsim.units import MICRO
from accelsim.validation.reference import Reference, Row


class StepRow(Row):
    """One measured step."""

    model: str
    """Name of a shipped architecture."""
    phase: Literal["prefill", "decode", "mixed"]
    batch: Size
    """Prompts of a prefill, or sequences with one new token."""
    prompt_tokens: Size
    """New tokens of each of them."""
    context: SizeOrZero
    """Keys that a token sees in a decode step, its own among them."""
    chunk_tokens: SizeOrZero
    """New tokens of the chunk of a mixed step."""
    chunk_prior: SizeOrZero
    """Tokens before them."""
    weights: str
    time_us: PositiveFloat


def step_of(row: StepRow) -> Step:
    """Return what a row measured."""
    if row.phase == "prefill":
        return Step.prefill(row.batch, row.prompt_tokens)
    decode = Step.decode(row.batch, row.context - 1)
    if row.phase == "decode":
        return decode
    return Step((*decode.sequences, Sequences(row.chunk_tokens, row.chunk_prior)))


def predict(row: StepRow, machine: MachineSpec) -> float:
    """Return the seconds of the device."""
    return _models(machine)(row.model).cost(step_of(row)).measured.time_s


class _Models:
    """Models on a machine, each with what it has simulated."""

    def __init__(self, machine: MachineSpec) -> None:
        self._machine = sustained(machine)
        self._known: dict[str, StepModel] = {}

    def __call__(self, name: str) -> StepModel:
        if name not in self._known:
            system = load_system("h200")
            self._known[name] = StepModel(load_architecture(name), system, self._machine)
        return self._known[name]


_models = once_for_each(_Models)


def in_bf16(rows: Sequence[StepRow]) -> list[StepRow]:
    """Return the rows whose weights are BF16."""
    return [row for row in rows if row.weights == "bf16"]


def label_of(row: StepRow) -> str:
    """Return what was computed, in a few words."""
    if row.phase == "prefill":
        return f"{row.model} {row.batch} x {row.prompt_tokens}"
    steps = f"{row.model} {row.batch} x {row.context} keys"
    if row.phase == "decode":
        return steps
    return f"{steps} + {row.chunk_tokens} behind {row.chunk_prior}"


REFERENCE = Reference(
    name="h200-steps",
    summary="whole steps of dense models in BF16, each one CUDA graph, measured on NVIDIA H200s",
    row=StepRow,
    file="h200-steps.csv",
    quantity="time_s",
    kind_of=lambda row: row.phase,
    label_of=label_of,
    value_of=lambda row: row.time_us * MICRO,
    predict=predict,
    machine="h200-sxm",
    select=in_bf16,
)
