"""Steps of models on two NVIDIA H200s in tensor parallel, against sums of operations and rings.

As `h200_steps`, with two all-reduces a layer and an all-gather of the logits by NCCL in the graph.
Joules are those of both boards.
"""

from collections.abc import Sequence

from accelsim.config.spec import Size, SizeOrZero
from accelsim.hardware.machine import MachineSpec
from accelsim.inference.cost import StepModel
from accelsim.loading import LoadedSystem, load_system
from accelsim.models.parallel import Parallel
from accelsim.models.plan import Plan
from accelsim.runtime.kept import once_for_each
from accelsim.validation.h200_steps import REFERENCE as STEPS
from accelsim.validation.h200_steps import EnergyRow, StepRow, step_of, stored_in
from accelsim.validation.reference import Reference


class ParallelRow(StepRow):
    """A step over several devices."""

    tp: Size
    """Devices that share each matrix."""
    chunk_tokens: SizeOrZero = 0
    chunk_prior: SizeOrZero = 0


class ParallelEnergyRow(EnergyRow, ParallelRow):
    """The same step, of which the joules are compared."""


def model_of(row: ParallelRow, machine: MachineSpec) -> StepModel:
    """Return the model of a row on as many devices, with what it has simulated."""
    return _models(machine)(row)


class _Models:
    """Models over devices of a machine, each with what it has simulated."""

    def __init__(self, machine: MachineSpec) -> None:
        self._system = LoadedSystem(load_system("h200-x8"), machine)
        self._known: dict[tuple[str, str, int], StepModel] = {}

    def __call__(self, row: ParallelRow) -> StepModel:
        key = (row.model, row.weights, row.tp)
        if key not in self._known:
            architecture = stored_in(row.model, row.weights).architecture
            plan = Plan(parallel=Parallel(row.tp))
            self._known[key] = StepModel(architecture, self._system, plan=plan)
        return self._known[key]


_models = once_for_each(_Models)


def predict(row: ParallelRow, machine: MachineSpec) -> float:
    """Return the seconds of a step, or the joules of all devices."""
    cost = model_of(row, machine).cost(step_of(row))
    return cost.energy_j if isinstance(row, EnergyRow) else cost.measured.time_s


def label_of(row: ParallelRow) -> str:
    """Return what was computed, in a few words."""
    return f"{STEPS.label_of(row)}, {row.tp} devices"


def select(rows: Sequence[ParallelRow]) -> Sequence[ParallelRow]:
    """Return the rows, and once more those whose energy was measured."""
    measured = [row for row in rows if row.joule_per_step is not None]
    return [*rows, *(ParallelEnergyRow(**dict(row)) for row in measured)]


REFERENCE = Reference(
    name="h200-tp2",
    summary="steps of dense models on two NVIDIA H200s in tensor parallel, each one CUDA graph",
    row=ParallelRow,
    file="h200-tp2.csv",
    quantity=STEPS.quantity,
    quantities=STEPS.quantities,
    kind_of=STEPS.kind_of,
    label_of=label_of,
    value_of=STEPS.value_of,
    predict=predict,
    machine=STEPS.machine,
    select=select,
)
