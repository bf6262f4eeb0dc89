"""What the model is held against: the rows of a file, and what the model says to each of them.

A reference is one module of this package with a `Row` model and a `REFERENCE`, one shipped file in
`data` (its origin goes into `data/NOTICE`), and one line in `registry`. All of it, for a file of
copies with the columns `bytes` and `time_us` that runs on a machine:

    class CopyRow(Row):
        bytes: PositiveInt
        time_us: PositiveFloat

    REFERENCE = Reference(
        name="copies",
        summary="copies measured on ...",
        row=CopyRow,
        file="copies.csv",
        quantity="time_s",
        kind_of=lambda row: "copy",
        label_of=lambda row: f"{row.bytes} bytes",
        value_of=lambda row: row.time_us * 1e-6,
        predict=lambda row, machine: row.bytes / machine.hbm.bandwidth,
        machine="ascend-910b",
    )
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveInt

DATA = Path(__file__).parent / "data"
"""Folder of the shipped reference files."""


class Row(BaseModel):
    """One row of a reference file: a field a column, checked as it is read.

    A column without a default must be in the file; an empty cell counts as absent; columns that no
    field names are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    line: PositiveInt
    """Line of the file, which the reader fills in."""


R = TypeVar("R", bound=Row)


def every_row(rows: Sequence[R]) -> Sequence[R]:
    """Compare all rows of a file."""
    return rows


@dataclass(frozen=True, kw_only=True)
class Reference(Generic[R]):
    """Something to hold the model against.

    Contract: `value_of` is positive; `predict` has the same unit, depends on nothing but its
    arguments, and raises an AccelsimError for a row that the model cannot do.
    """

    name: str
    summary: str
    """What the rows are and who said so."""
    row: type[R]
    """Columns of the file."""
    file: str
    """Shipped file, in `DATA`."""
    quantity: str
    """Name of what is compared; its last part is the unit, as in `cycles` or `time_s`."""
    quantities: Mapping[str, str] = field(default_factory=dict)
    """Kinds of rows of which something else is compared, and its name."""
    kind_of: Callable[[R], str]
    """Group of a row; every group has errors of its own."""
    label_of: Callable[[R], str]
    """The row in a few words, such as its shape."""
    value_of: Callable[[R], float]
    """What the reference says."""
    predict: Callable[..., float]
    """What the model says, from a row and, for references with a machine, a MachineSpec."""
    unknown_of: Callable[[R], str] = lambda row: ""
    """What is not known about a row, where somebody else published it."""
    machine: str | None = None
    """Shipped machine that the reference is about; None: each row describes its own hardware."""
    select: Callable[[Sequence[R]], Sequence[R]] = every_row
    """Rows that are compared, of all rows of a file."""
    is_lower_bound: bool = False
    """Whether the reference is a bound: then a prediction below it is wrong by itself."""

    @property
    def shipped_file(self) -> Path:
        """The reference file that ships with accelsim."""
        return DATA / self.file
