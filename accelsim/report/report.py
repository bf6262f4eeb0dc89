"""The result of one run: a frozen record that becomes JSON, a table row, or a rich table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from accelsim.numerics.metrics import Accuracy
from accelsim.report.columns import column_names, plain_columns
from accelsim.report.measured import Measured
from accelsim.report.peaks import Peaks
from accelsim.report.quantity import quantity_of
from accelsim.report.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


PowerCap = Literal["none", "met", "not met"]


@dataclass(frozen=True, kw_only=True)
class Report(Measured, Peaks):
    """One kernel, or the kernels of a layer, on one machine: what was measured, with its names.

    The sum of reports is a `Measured`; `accelsim.report.sequence` gives it names again.
    """

    machine: str
    workload: str
    kernel: str
    """Name of the kernel, or of those of a layer."""
    recipe: str
    """The kernel with all that was asked of it, by the caller or by the library of the machine."""
    library: str
    """Name of the library that picked the kernel; empty where the caller did."""
    version: str
    seed: int | None
    """Seed of the tensors; None for captured tensors and for runs without."""
    engine: str
    settings: Mapping[str, Any]
    """What the caller changed: machine.* and workload.*."""
    parameters: Mapping[str, Any]
    """All parameters of the kernel as it ran, those that it chose included; empty for a layer,
    whose parts have theirs."""
    cores: int
    power_cap: PowerCap
    """Whether the run keeps the machine's power cap: where it does not, the lowest clock allowed
    draws more."""
    bound_by: str
    """Busiest of the units, l2 and hbm; latency if none is half busy."""
    peak_hbm_bytes_per_s: float
    area_mm2: float
    is_exact: bool
    """Whether the kernel computes attention or the product up to rounding, leaving nothing out."""
    statistics: Mapping[str, float]
    """What a kernel says of its values, such as kept_fraction or accumulator_overflows."""
    selection_assumed: bool
    """Whether what is selected is assumed, because the run had no tensors to select by."""
    accuracy: Accuracy | None
    """Output against the float64 oracle; None without tensors."""
    parts: "tuple[Report, ...]" = ()
    """Reports of the problems of a layer, each for one of its `count` equal ones, run alone."""
    one_program: bool = False
    """Whether a layer ran as one program, so that it is not the sum of its parts."""
    reads: Mapping[str, str] | None = None
    """Of a layer as one program, the inputs that an earlier part stores and its name, empty where
    a kernel stores one of both in another form. All other inputs, and those, lie at addresses of
    their own and are read from the HBM. None for what is no such layer."""
    timeline: Timeline | None = field(default=None, repr=False, compare=False)
    """When every op happened, if asked for."""

    def __repr__(self) -> str:
        """Show every column."""
        names = column_names(type(self))
        return f"Report({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def repeated(self, count: int) -> "Report":
        """Return the report of so many equal runs one after the other."""
        return replace(self, **vars(count * self))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the timeline as plain nested data for JSON."""
        plain = plain_columns(self) | {"parts": [part.to_dict() for part in self.parts]}
        absent = [name for name in ("dram", "parts", "one_program", "sampling") if not plain[name]]
        absent += ["reads"] if self.reads is None else []
        return {name: value for name, value in plain.items() if name not in absent}

    def to_row(self) -> dict[str, Any]:
        """Return one flat row of scalars with dotted keys, for tables."""
        nested = self.to_dict()
        nested.pop("parts", None)
        nested.pop("reads", None)
        nested.pop("settings")
        nested["accuracy"] = nested["accuracy"] or dict.fromkeys(Accuracy.__dataclass_fields__)
        return dict(_flat(nested))

    def to_frame(self) -> "pd.DataFrame":
        """Return a table with one row, or one for each part of a layer."""
        import pandas as pd

        return pd.DataFrame([part.to_row() for part in self.parts or (self,)])

    def __rich__(self) -> "Table":
        from accelsim.report.display import report_table

        return report_table(self)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(quantity_of(name).title)}</th>"
            f"<td>{escape(quantity_of(name).show(value))}</td></tr>"
            for name, value in self.to_row().items()
        )
        return f"<table>{rows}</table>"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            pairs.append((f"{prefix}{name}", value))
    return pairs
