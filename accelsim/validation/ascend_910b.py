"""What is published for the Ascend 910B class, against runs of the machine `ascend-910b`.

Nothing in the machine was fitted to these rows. What is not known about each is in the column
`unknown` of the file; docs/ascend-910b.md tells it with the sources.
"""

from typing import Literal, Self

from pydantic import PositiveFloat, model_validator

from accelsim.bench import Bench
from accelsim.config.spec import Size
from accelsim.hardware.machine import MachineSpec
from accelsim.numerics.formats import Format
from accelsim.units import MICRO
from accelsim.validation.problems import attention, gemm, with_its_shape
from accelsim.validation.reference import Reference, Row
from accelsim.workload.problem import AttentionProblem, Problem

_ATTENTION = ("H", "KVH", "Sk", "D")
_COLUMNS = {
    "gemm": ("M", "N", "K"),
    "attention": (*_ATTENTION, "Sq"),
    "decode layers": (*_ATTENTION, "M", "hidden", "ffn", "layers"),
}
"""Kind -> the columns that its rows need."""


class PublishedRow(Row):
    """A published time: of a product or of attention in fp16, or of a decode step of a model."""

    kind: Literal["gemm", "attention", "decode layers"]
    of: str
    """Whose kernel or engine, and on which chip."""
    M: Size | None = None
    """Rows of a product; sequences of a decode step."""
    N: Size | None = None
    K: Size | None = None
    H: Size | None = None
    KVH: Size | None = None
    Sq: Size | None = None
    Sk: Size | None = None
    D: Size | None = None
    hidden: Size | None = None
    ffn: Size | None = None
    layers: Size | None = None
    time_us: PositiveFloat
    unknown: str
    """What is not known about the row."""

    @model_validator(mode="after")
    def _has_its_shape(self) -> Self:
        return with_its_shape(self, self.kind, _COLUMNS[self.kind])

    def sizes(self, *columns: str) -> list[int]:
        """Return the values of columns that the kind of the row has."""
        return [int(getattr(self, column)) for column in columns]


def predict(row: PublishedRow, machine: MachineSpec) -> float:
    """Return the seconds of a run with what the library picks, or of the layers of a model."""
    count, problems = _work_of(row)
    return count * sum(Bench(machine).execute(problem)[0].time_s for problem in problems)


def _work_of(row: PublishedRow) -> tuple[int, list[Problem]]:
    """Return what runs one after the other, and how often all of it runs."""
    if row.kind == "gemm":
        return 1, [gemm("fp16", *row.sizes("M", "N", "K"))]
    heads, kv_heads, context, head_dim = row.sizes(*_ATTENTION)
    if row.kind == "attention":
        (queries,) = row.sizes("Sq")
        return 1, [_in_fp16(attention(1, heads, kv_heads, queries, context, head_dim, False))]
    batch, hidden, ffn, layers = row.sizes("M", "hidden", "ffn", "layers")
    return layers, [
        gemm("fp16", batch, (heads + 2 * kv_heads) * head_dim, hidden),
        _in_fp16(attention(batch, heads, kv_heads, 1, context, head_dim, False)),
        gemm("fp16", batch, hidden, heads * head_dim),
        gemm("fp16", batch, 2 * ffn, hidden),
        gemm("fp16", batch, hidden, ffn),
    ]


def _in_fp16(problem: AttentionProblem) -> AttentionProblem:
    return problem.model_copy(update={"dtype": Format.FP16})


def _label_of(row: PublishedRow) -> str:
    """Return the source and the shape of a row, in a few words."""
    if row.kind == "gemm":
        shape = " x ".join(map(str, row.sizes("M", "N", "K")))
    elif row.kind == "attention":
        shape = f"{row.Sq} tokens"
    else:
        shape = f"{row.M} sequences of {row.Sk}"
    return f"{row.of}, {shape}"


REFERENCE = Reference(
    name="ascend-910b",
    summary="times published for the Ascend 910B class",
    row=PublishedRow,
    file="ascend-910b.csv",
    quantity="time_s",
    kind_of=lambda row: row.kind,
    label_of=_label_of,
    value_of=lambda row: row.time_us * MICRO,
    predict=predict,
    unknown_of=lambda row: row.unknown,
    machine="ascend-910b",
)
