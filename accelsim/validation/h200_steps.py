"""Whole steps of dense language models measured on NVIDIA H200s, against sums of their operations.

A step is one CUDA graph, so nothing of the host is in its time. Graphs were replayed one after the
other, so the power cap of the board holds. Where the energy was measured it is a row of its own.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import PositiveFloat

from accelsim.config.spec import Size, SizeOrZero
from accelsim.hardware.machine import MachineSpec
from accelsim.inference.cost import StepModel
from accelsim.loading import LoadedSystem, load_system
from accelsim.models.model import Model
from accelsim.models.step import Sequences, Step
from accelsim.numerics.formats import Format
from accelsim.runtime.kept import once_for_each
from accelsim.units import MICRO
from accelsim.validation.reference import Reference, Row

Weights = Literal["bf16", "fp8"]


class MeasuredStep(Row):
    """A step that was measured."""

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
    weights: Weights
    """Format of the linear maps of layers; in FP8 what they read is in FP8, too."""
    time_us: PositiveFloat


class StepRow(MeasuredStep):
    """A step, and perhaps its energy."""

    joule_per_step: PositiveFloat | None = None
    """Of the board, over steps for 1.6 s, where it was measured."""


def step_of(row: MeasuredStep) -> Step:
    """Return what a row measured."""
    if row.phase == "prefill":
        return Step.prefill(row.batch, row.prompt_tokens)
    decode = Step.decode(row.batch, row.context - 1)
    if row.phase == "decode":
        return decode
    return Step((*decode.sequences, Sequences(row.chunk_tokens, row.chunk_prior)))


def predict(row: StepRow, machine: MachineSpec) -> float:
    """Return the seconds of the device, or its joules."""
    measured = model_of(row, machine).cost(step_of(row)).measured
    return measured.energy_j if isinstance(row, EnergyRow) else measured.time_s


class EnergyRow(StepRow):
    """The same step, of which the joules are compared."""


def with_energy(rows: Sequence[StepRow]) -> list[StepRow]:
    """Return the rows, and once more those whose energy was measured."""
    measured = [row for row in rows if row.joule_per_step is not None]
    return [*rows, *(EnergyRow(**dict(row)) for row in measured)]


def kind_of(row: StepRow) -> str:
    """Return what is compared: energy, or the time of a phase, by the format of the weights."""
    if isinstance(row, EnergyRow):
        return "energy"
    return row.phase if row.weights == "bf16" else f"{row.phase} {row.weights}"


def value_of(row: StepRow) -> float:
    """Return the measured joules or seconds."""
    if isinstance(row, EnergyRow) and row.joule_per_step is not None:
        return row.joule_per_step
    return row.time_us * MICRO


def model_of(row: MeasuredStep, machine: MachineSpec) -> StepModel:
    """Return the model of a row on a machine, with what it has simulated."""
    return _models(machine)(row.model, row.weights)


def stored_in(name: str, weights: Weights) -> Model:
    """Return a model with the weights of a row."""
    return Model(name, Format.FP8_E4M3 if weights == "fp8" else None)


class _Models:
    """Models on a machine, each with what it has simulated."""

    def __init__(self, machine: MachineSpec) -> None:
        self._system = LoadedSystem(load_system("h200"), machine)
        self._known: dict[tuple[str, str], StepModel] = {}

    def __call__(self, name: str, weights: Weights) -> StepModel:
        if (name, weights) not in self._known:
            model = StepModel(stored_in(name, weights).architecture, self._system)
            self._known[name, weights] = model
        return self._known[name, weights]


_models = once_for_each(_Models)


def label_of(row: MeasuredStep) -> str:
    """Return what was computed, in a few words."""
    weights = "" if row.weights == "bf16" else f" {row.weights}"
    if row.phase == "prefill":
        return f"{row.model}{weights} {row.batch} x {row.prompt_tokens}"
    steps = f"{row.model}{weights} {row.batch} x {row.context} keys"
    if row.phase == "decode":
        return steps
    return f"{steps} + {row.chunk_tokens} behind {row.chunk_prior}"


REFERENCE = Reference(
    name="h200-steps",
    summary="whole steps of dense models, each one CUDA graph, measured on NVIDIA H200s",
    row=StepRow,
    file="h200-steps.csv",
    quantity="time_s",
    quantities={"energy": "energy_j"},
    kind_of=kind_of,
    label_of=label_of,
    value_of=value_of,
    predict=predict,
    machine="h200-sxm",
    select=with_energy,
)
