"""The result of one run: a frozen record that becomes JSON, a table row, or a rich table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from accelsim.numerics.metrics import Accuracy
from accelsim.report.quantity import quantity_of
from accelsim.report.timeline import Timeline

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table


PowerCap = Literal["none", "met", "not met"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReport:
    """What one kind of unit did, on all cores together."""

    busy_cycles: int
    """Cycles with work, summed over cores."""
    utilization: float
    """Share of the cycles of all cores with work."""
    stall_cycles: Mapping[str, int]
    """Cycles a compute unit was free while its next op waited, by what it waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DramReport:
    """What a banked memory did."""

    activations: int
    """Rows opened."""
    bursts: int
    """Bursts read and written."""
    row_hit_share: float
    """Share of the bursts whose row had been opened for an earlier one."""
    refresh_share: float
    """Share of the time in which a bank was being refreshed."""
    energy_pj_per_bit: float
    """Energy of all commands, in picojoules for each bit that the queues asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One kernel, or the kernels of a layer, on one machine."""

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
    ops: int
    """Ops of the tile program."""
    cycles: int
    time_s: float
    clock_hz: float
    """Clock of the run, lower than the machine's where a power cap binds."""
    power_cap: PowerCap
    """Whether the run keeps the machine's power cap: where it does not, the lowest clock allowed
    draws more."""
    bound_by: str
    """Busiest of the units, l2 and hbm; latency if none is half busy."""
    hbm_read_bytes: int
    hbm_write_bytes: int
    compulsory_bytes: int
    """Every input read once and every output written once, in the formats the kernel stores."""
    hbm_bytes_by_tensor: Mapping[str, int]
    """Bytes read from and written to the HBM; of what an L2 holds at the end, what is dirty."""
    requested_bytes_by_tensor: Mapping[str, int]
    """Bytes that the cores asked the L2 to read and write; empty without an L2."""
    l2: Mapping[str, float]
    """`read_bytes`, `write_bytes` and `hit_fraction` of the reads; empty without an L2."""
    macs: int
    peak_macs_per_s: float
    """Rate of the cubes for the formats of this run."""
    peak_hbm_bytes_per_s: float
    hbm_utilization: float
    """Share of the HBM's peak bandwidth that was used, at most 1."""
    units: Mapping[str, UnitReport]
    core_balance: float
    """Work of the mean core over that of the busiest, on the compute unit with most work."""
    scratchpad_peak_bytes: int
    """Bytes of all buffers of the scratchpad."""
    scratchpad_held_peak_bytes: int
    """Most bytes of tiles in use at once on a core, each from its write to its last read."""
    accumulator_peak_bytes: int
    energy_j: float
    energy_by_component_j: Mapping[str, float]
    area_mm2: float
    is_exact: bool
    """Whether the kernel computes attention or the product up to rounding, leaving nothing out."""
    selection: Mapping[str, float]
    """What a data-dependent kernel selected, such as kept_fraction; empty for others."""
    selection_assumed: bool
    """Whether that is assumed, because the run had no tensors to select by."""
    accuracy: Accuracy | None
    """Output against the float64 oracle; None without tensors."""
    inputs_out_of_range: int = 0
    """Values of the tensors beyond the largest number of their format, which saturate in FP8 and
    become infinite in others. The oracle has the inputs as they are stored."""
    dram: DramReport | None = None
    """Rows, refreshes and energy per bit of a banked memory; None where the memory is flat."""
    parts: "tuple[Report, ...]" = ()
    """Reports of the problems of a layer, each for one of its `count` equal ones."""
    timeline: Timeline | None = field(default=None, repr=False, compare=False)
    """When every op happened, if asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the timeline as plain nested data for JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("timeline", "parts", "units", "accuracy", "dram"):
            del fields[name]
        plain = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in fields.items()
        }
        plain["units"] = {name: asdict(unit) for name, unit in self.units.items()}
        plain["accuracy"] = asdict(self.accuracy) if self.accuracy else None
        if self.dram:
            plain["dram"] = asdict(self.dram)
        if self.parts:
            plain["parts"] = [part.to_dict() for part in self.parts]
        return plain

    def to_row(self) -> dict[str, Any]:
        """Return one flat row of scalars with dotted keys, for tables."""
        nested = self.to_dict()
        nested.pop("parts", None)
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
