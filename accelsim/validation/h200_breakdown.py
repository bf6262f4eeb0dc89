"""The kernels of whole steps by class, as a profiler saw them on an NVIDIA H200.

A graph was replayed once under the profiler. The time between two kernels, which belongs to none of
them, is `launch` of the machine in the model, so it is left out of both. A class is all kernels of
a step that compute products, the head, attention, or vector functions; copies and clears of memory
that libraries add are vector functions.
"""

from collections.abc import Sequence
from typing import Literal

from accelsim.config.spec import Size
from accelsim.hardware.machine import MachineSpec
from accelsim.inference.step_cost import OperationCost
from accelsim.units import MICRO
from accelsim.validation.h200_steps import MeasuredStep, label_of, model_of, step_of
from accelsim.validation.reference import Reference

_WHOLE_STEP = "span"


class KernelsRow(MeasuredStep):
    """Kernels of a step that are alike, or all of a class."""

    kernel_class: Literal["vector", "gemm", "attention", "lm_head", "span"]
    """The head is apart from other products; span: from the first kernel to the end of the last."""
    part: str
    """What they compute."""
    launches: Size
    """Kernels."""


def by_class(rows: Sequence[KernelsRow]) -> list[KernelsRow]:
    """Return one row for each class of kernels of a step, in the order of the file."""
    sums: dict[tuple[str, str], KernelsRow] = {}
    for row in rows:
        if row.kernel_class == _WHOLE_STEP:
            continue
        key = (label_of(row), row.kernel_class)
        known = sums.get(key)
        sums[key] = row if known is None else _together(known, row)
    return list(sums.values())


def _together(one: KernelsRow, other: KernelsRow) -> KernelsRow:
    return one.model_copy(
        update={
            "part": f"{one.part}, {other.part}",
            "launches": one.launches + other.launches,
            "time_us": one.time_us + other.time_us,
        }
    )


def class_of(operation: OperationCost) -> str:
    """Return the class of the kernels that compute an operation."""
    if operation.name == "head":
        return "lm_head"
    return operation.problem.kind


def predict(row: KernelsRow, machine: MachineSpec) -> float:
    """Return the seconds of the operations of a class, without launches."""
    cost = model_of(row, machine).cost(step_of(row))
    return sum(
        each.time_s - each.count * machine.launch
        for each in cost.operations
        if class_of(each) == row.kernel_class
    )


REFERENCE = Reference(
    name="h200-breakdown",
    summary="kernels of whole steps of dense models by class, under a profiler on one NVIDIA H200",
    row=KernelsRow,
    file="h200-breakdown.csv",
    quantity="time_s",
    kind_of=lambda row: row.kernel_class,
    label_of=label_of,
    value_of=lambda row: row.time_us * MICRO,
    predict=predict,
    machine="h200-sxm",
    select=by_class,
)
