"""Predictions beside the values of a reference, and how far apart they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.errors import AccelsimError, ConfigError
from accelsim.hardware.machine import MachineSpec
from accelsim.loading import load_machine
from accelsim.runtime.workers import number_of_workers
from accelsim.validation.predictions import Progress, RowError, predictions
from accelsim.validation.reference import Reference
from accelsim.validation.table import read_rows

PERCENT = 100.0
_HIGH_PERCENTILE = 90


class DisagreementError(AccelsimError):
    """The model is further from a reference than the user, or the reference itself, allows."""

    exit_code = 1


@dataclass(frozen=True)
class Comparison:
    """One row of a reference file and what the model says to it."""

    line: int
    """Line of the file."""
    kind: str
    label: str
    predicted: float
    reference: float
    """In the unit of what is compared, as `predicted`."""
    unknown: str = ""
    """What is not known about the row."""

    @property
    def error_percent(self) -> float:
        """Predicted minus reference, in percent of the reference."""
        return PERCENT * (self.predicted - self.reference) / self.reference

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {**asdict(self), "error_percent": self.error_percent}


@dataclass(frozen=True)
class Statistics:
    """Absolute percentage errors of some rows."""

    count: int
    mape: float
    """Mean, in percent."""
    median: float
    """Median, in percent."""
    p90: float
    """90th percentile, linear between two rows, in percent."""
    bias: float
    """Mean of the errors with their sign, in percent: positive where the model says too much."""

    @classmethod
    def of(cls, rows: Sequence[Comparison]) -> "Statistics":
        """Return the statistics of one row or more."""
        errors = np.array([row.error_percent for row in rows])
        sizes = np.abs(errors)
        return cls(
            count=len(rows),
            mape=float(sizes.mean()),
            median=float(np.median(sizes)),
            p90=float(np.percentile(sizes, _HIGH_PERCENTILE)),
            bias=float(errors.mean()),
        )


@dataclass(frozen=True)
class Outcome:
    """A reference file with a prediction for each of its rows."""

    reference: str
    summary: str
    file: str
    machine: str | None
    quantity: str
    quantities: Mapping[str, str]
    """Kinds of rows of which something else is compared, and its name."""
    is_lower_bound: bool
    rows: tuple[Comparison, ...]

    def quantity_of(self, kind: str) -> str:
        """Return the name of what is compared in rows of a kind."""
        return self.quantities.get(kind, self.quantity)

    @cached_property
    def by_kind(self) -> dict[str, list[Comparison]]:
        """Rows by kind, kinds in the order of the file."""
        kinds: dict[str, list[Comparison]] = {}
        for row in self.rows:
            kinds.setdefault(row.kind, []).append(row)
        return kinds

    @cached_property
    def kinds(self) -> dict[str, Statistics]:
        """Errors by kind."""
        return {kind: Statistics.of(rows) for kind, rows in self.by_kind.items()}

    def to_dict(self, num_worst: int) -> dict[str, Any]:
        """Return everything as plain data, with the worst rows of each kind."""
        return {
            "reference": self.reference,
            "summary": self.summary,
            "file": self.file,
            "machine": self.machine,
            "quantity": self.quantity,
            "kinds": {
                kind: {
                    "quantity": self.quantity_of(kind),
                    **asdict(statistics),
                    "worst": [row.to_dict() for row in worst(self.by_kind[kind], num_worst)],
                }
                for kind, statistics in self.kinds.items()
            },
            "all": asdict(Statistics.of(self.rows)),
            "rows": [row.to_dict() for row in self.rows],
        }

    def check(self, max_error_percent: float | None) -> None:
        """Raise DisagreementError where the mean error of a kind, or a bound, is exceeded."""
        found = [
            f"{row.kind}, {row.label}: found {row.predicted:.6g}, below the bound of "
            f"{row.reference:.6g} (line {row.line} of {self.file})"
            for row in self.rows
            if self.is_lower_bound and not row.predicted >= row.reference
        ]
        if max_error_percent is not None:
            found += [
                f"{kind}: found a mean error of {each.mape:.4g} %, "
                f"allowed by --max-error: {max_error_percent:g} %"
                for kind, each in self.kinds.items()
                if not each.mape <= max_error_percent
            ]
        if found:
            raise DisagreementError("\n".join(found))


def worst(rows: Iterable[Comparison], count: int) -> list[Comparison]:
    """Return the rows with the largest errors, exact ones left out."""
    wrong = [row for row in rows if row.error_percent]
    return sorted(wrong, key=lambda row: -abs(row.error_percent))[:count]


def validate(
    reference: Reference[Any],
    file: str | Path | None = None,
    machine: MachineSpec | str | Path | None = None,
    progress: Progress = lambda done, total: None,
    workers: int | None = 1,
) -> Outcome:
    """Return what the model says to every row of `file`, by default the shipped one.

    `machine` replaces the one that the reference is about. `workers` is the number of processes,
    all cores if None; more than one is for references of the registry and a script that guards
    its main module. Raises ConfigError for a file with mistakes and for a machine where every row
    has its own, WorkersError for workers that cannot be had, LostWorkerError for those
    that are lost.
    """
    path = Path(file) if file is not None else reference.shipped_file
    arguments = _machine(reference, machine)
    rows = reference.select(read_rows(path, reference.row))
    num_workers = number_of_workers(workers)
    try:
        predicted = predictions(reference, rows, arguments, num_workers, progress)
    except RowError as error:
        row = rows[error.index]
        place = f"{path}:{row.line}: {reference.label_of(row)}"
        raise ConfigError([f"{place}: {error}"]) from error
    return Outcome(
        reference=reference.name,
        summary=reference.summary,
        file=path.name,
        machine=arguments[0].name if arguments else None,
        quantity=reference.quantity,
        quantities=reference.quantities,
        is_lower_bound=reference.is_lower_bound,
        rows=tuple(map(partial(_comparison, reference), rows, predicted)),
    )


def _machine(
    reference: Reference[Any], machine: MachineSpec | str | Path | None
) -> tuple[MachineSpec, ...]:
    """Return the machine that the predictions of a reference need, or nothing."""
    if reference.machine is None:
        if machine is not None:
            text = f"each row of the reference {reference.name} describes its own hardware"
            raise ConfigError([f"--machine {machine}: {text}, so none can be chosen"])
        return ()
    chosen = machine if machine is not None else reference.machine
    return (chosen if isinstance(chosen, MachineSpec) else load_machine(chosen),)


def _comparison(reference: Reference[Any], row: Any, predicted: float) -> Comparison:
    return Comparison(
        line=row.line,
        kind=reference.kind_of(row),
        label=reference.label_of(row),
        predicted=predicted,
        reference=float(reference.value_of(row)),
        unknown=reference.unknown_of(row),
    )
