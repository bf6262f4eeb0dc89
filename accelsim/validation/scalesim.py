"""Matrix products on systolic arrays, against the cycles that SCALE-Sim prints.

SCALE-Sim v3 (Raj et al., "SCALE-Sim v3: A modular cycle-accurate systolic accelerator simulator for
end-to-end system analysis", 2025) with ideal bandwidth prints the index of the last cycle, counted
from 0: one less than the cycles that the array is occupied, which is what the engine counts.
"""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from accelsim.hardware.counts import Count
from accelsim.hardware.units.cube import Dataflow, MatrixUnit, matrix_steps
from accelsim.validation.reference import Reference, Row

_DATAFLOWS = {
    "os": Dataflow.OUTPUT_STATIONARY.value,
    "ws": Dataflow.WEIGHT_STATIONARY.value,
    "is": Dataflow.INPUT_STATIONARY.value,
}


Size = Annotated[int, Field(gt=0, le=2**20)]
"""Far above any layer, and low enough that the cycles of an array of one element can be counted."""


class ScaleSimRow(Row):
    """A product of M x K and K x N on an array of R x C."""

    dataflow: Literal["os", "ws", "is"]
    array_rows: Count
    array_cols: Count
    M: Size
    N: Size
    K: Size
    cycles: PositiveInt


def predict(row: ScaleSimRow) -> int:
    """Return the index of the last cycle in which the array works."""
    dataflow = _DATAFLOWS[row.dataflow]
    unit = MatrixUnit(dataflow, row.array_rows, row.array_cols, 1, overlaps_folds=False)
    cycles: int = matrix_steps(row.M, row.N, row.K, unit)
    return cycles - 1


REFERENCE = Reference(
    name="scalesim",
    summary="cycles printed by SCALE-Sim 3.0.0, ideal bandwidth",
    row=ScaleSimRow,
    file="scalesim.csv",
    quantity="cycles",
    kind_of=lambda row: row.dataflow,
    label_of=lambda row: f"{row.array_rows} x {row.array_cols}: {row.M} x {row.N} x {row.K}",
    value_of=lambda row: row.cycles,
    predict=predict,
)
