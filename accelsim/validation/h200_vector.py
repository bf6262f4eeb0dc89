"""Vector functions measured on an NVIDIA H200 with inputs that the L2 does not hold.

The same kernels as those of `h200`, over a grid of rows and columns: few long rows, many short
ones, odd numbers of both. The model was made with these rows in sight; `h200_vector_held_out` has
others.
"""

from typing import Literal

from pydantic import PositiveFloat

from accelsim.bench import Bench
from accelsim.config.spec import Size
from accelsim.hardware.machine import MachineSpec
from accelsim.units import MICRO
from accelsim.validation.problems import vector
from accelsim.validation.reference import Reference, Row


class VectorRow(Row):
    """One measured kernel over a matrix in bf16."""

    function: Literal["copy", "gelu", "silu_mul", "softmax", "rmsnorm", "layernorm"]
    rows: Size
    cols: Size
    time_us: PositiveFloat


def predict(row: VectorRow, machine: MachineSpec) -> float:
    """Return the seconds of a run with what the library picks."""
    report, _ = Bench(machine).execute(vector(row.function, row.rows, row.cols))
    return report.time_s


REFERENCE = Reference(
    name="h200-vector",
    summary="vector functions of cold inputs measured on one NVIDIA H200 SXM",
    row=VectorRow,
    file="h200-vector.csv",
    quantity="time_s",
    kind_of=lambda row: row.function,
    label_of=lambda row: f"{row.rows} x {row.cols}",
    value_of=lambda row: row.time_us * MICRO,
    predict=predict,
    machine="h200-sxm",
)
