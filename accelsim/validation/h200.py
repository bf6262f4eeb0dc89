"""Kernels measured on an NVIDIA H200 SXM, against runs of the machine `h200-sxm`.

Times are of short bursts: medians of a few replays, before the board's power control settles. That
is what the machine says of single runs. The library of the machine picks the kernels, as for a
user. Attention is compared with the faster of the measured variants of a shape.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import PositiveFloat, model_validator

from accelsim.bench import Bench
from accelsim.config.spec import Size
from accelsim.hardware.machine import MachineSpec
from accelsim.units import MICRO
from accelsim.validation.problems import Dtype, attention, gemm, vector, with_its_shape
from accelsim.validation.reference import Reference, Row
from accelsim.workload.problem import Problem

_COLUMNS = {
    "gemm": ("M", "N", "K"),
    "vector": ("variant", "M", "N"),
    "attention_prefill": ("B", "H", "KVH", "Sq", "Sk", "D", "causal"),
    "attention_decode": ("B", "H", "KVH", "Sq", "Sk", "D", "causal"),
}
"""Kind -> the columns that its rows need."""
_INPUTS_IN_L2 = 1 << 17
"""Elements of the largest matrix whose graph read its inputs from the L2."""


class KernelRow(Row):
    """One measured kernel."""

    kind: Literal["gemm", "vector", "attention_prefill", "attention_decode"]
    dtype: Dtype
    variant: str | None = None
    M: Size | None = None
    N: Size | None = None
    K: Size | None = None
    B: Size | None = None
    H: Size | None = None
    KVH: Size | None = None
    Sq: Size | None = None
    Sk: Size | None = None
    D: Size | None = None
    causal: bool | None = None
    time_us: PositiveFloat

    @model_validator(mode="after")
    def _has_its_shape(self) -> Self:
        return with_its_shape(self, self.kind, _COLUMNS[self.kind])

    @property
    def shape(self) -> tuple[object, ...]:
        """Values of the columns that say what was computed."""
        return tuple(getattr(self, column) for column in _COLUMNS[self.kind])


def problem_of(row: KernelRow) -> Problem:
    """Return what a row measured."""
    match row.kind, row.shape:
        case "gemm", (int(m), int(n), int(k)):
            return gemm(row.dtype, m, n, k)
        case "vector", (str(function), int(rows), int(cols)):
            return vector(function, rows, cols)
        case _, (int(b), int(h), int(kvh), int(sq), int(sk), int(d), bool(causal)):
            return attention(b, h, kvh, sq, sk, d, causal)
    raise ValueError(f"no problem for a row of kind {row.kind}")


def predict(row: KernelRow, machine: MachineSpec) -> float:
    """Return the seconds of a run as a user gets it, with what the library picks."""
    report, _ = Bench(machine).execute(problem_of(row))
    return report.time_s


def kind_of(row: KernelRow) -> str:
    """Return the kind of a row; small vector functions are one of their own.

    All inputs of their graphs were in the L2. Measured again, they take as long as in the file with
    a hundred inputs in turn, 26 MB in all, and up to 3.8 us longer with 1,440 (docs/h200.md).
    """
    is_small = row.kind == "vector" and (row.M or 1) * (row.N or 1) <= _INPUTS_IN_L2
    return "vector, inputs in the L2" if is_small else row.kind


def faster_variants(rows: Sequence[KernelRow]) -> list[KernelRow]:
    """Return all rows, but of attention only the fastest of each shape."""
    best: dict[object, KernelRow] = {}
    for row in rows:
        key = (row.kind, row.dtype, row.shape) if row.kind.startswith("attention") else row.line
        if key not in best or row.time_us < best[key].time_us:
            best[key] = row
    return sorted(best.values(), key=lambda row: row.line)


def label_of(row: KernelRow) -> str:
    """Return what was computed, in a few words."""
    names = _COLUMNS[row.kind]
    if row.kind == "gemm":
        return f"{row.dtype} {row.M} x {row.N} x {row.K}"
    if row.kind == "vector":
        return f"{row.variant} {row.M} x {row.N}"
    return " ".join(f"{name}{int(getattr(row, name))}" for name in names)


REFERENCE = Reference(
    name="h200",
    summary="kernels measured on one NVIDIA H200 SXM",
    row=KernelRow,
    file="h200.csv",
    quantity="time_s",
    kind_of=kind_of,
    label_of=label_of,
    value_of=lambda row: row.time_us * MICRO,
    predict=predict,
    machine="h200-sxm",
    select=faster_variants,
)
