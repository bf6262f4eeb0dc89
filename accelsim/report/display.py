"""A report as a table for the terminal."""

from collections.abc import Iterator, Mapping

from rich.markup import escape
from rich.table import Table

from accelsim.report.measured import SamplingReport
from accelsim.report.quantity import quantity_of
from accelsim.report.report import Report
from accelsim.report.shown import further_columns
from accelsim.report.subject import listed, subject_of

_TOTALS = (
    "cycles",
    "time_s",
    "bound_by",
    "macs",
    "hbm_read_bytes",
    "hbm_write_bytes",
    "hbm_utilization",
    "core_balance",
    "scratchpad_peak_bytes",
    "scratchpad_held_peak_bytes",
    "energy_j",
    "area_mm2",
)
"""Numbers in the order in which they are shown; others that are measured follow."""


def report_table(report: Report) -> Table:
    """Return what a reader asks first: totals, units, traffic, energy and accuracy."""
    # Names come from the user's files, and brackets in them are no markup.
    subject = subject_of(report.machine, report.workload, report.settings)
    table = Table(title=escape(f"{report.kernel}: {subject}"), title_justify="left")
    if report.parameters:
        table.caption = escape(f"parameters: {listed(report.parameters)}")
        table.caption_justify = "left"
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("share", justify="right")
    for section in (_totals, _units, _traffic, _dram, _energy, _statistics, _accuracy, _parts):
        for row in section(report):
            table.add_row(*map(escape, row))
        table.add_section()
    return table


Row = tuple[str, str, str]


def _share(value: float, total: float) -> str:
    return f"{value / total:.1%}" if total else "-"


def _totals(report: Report) -> Iterator[Row]:
    chosen = f" (picked by library {report.library})" if report.library else ""
    yield "recipe", f"{report.recipe}{chosen}", ""
    yield from _sampling(report.sampling)
    if report.one_program:
        yield "run as", "one program", ""
        yield from _reads(report.reads)
    if report.power_cap != "none":
        yield quantity_of("power_cap").title, report.power_cap, ""
    further = [(name, getattr(report, name)) for name in further_columns(_TOTALS)]
    numbers = [name for name, value in further if isinstance(value, int | float)]
    for name in (*_TOTALS, *numbers):
        quantity = quantity_of(name)
        value = getattr(report, name)
        if name.endswith("utilization"):
            yield quantity.title, "", f"{value:.1%}"
        else:
            yield quantity.title, quantity.show(value), ""


def _sampling(sampling: SamplingReport | None) -> Iterator[Row]:
    """Say what of the totals is an estimate, and how far off it may be."""
    if sampling is None:
        return
    share = f"{sampling.scheduled_share:.1%}"
    yield "sampled", "estimates: this share of the ops was scheduled", share
    if sampling.note:
        yield "", sampling.note, ""
    for name, low, high in (
        ("time_s", sampling.time_low_s, sampling.time_high_s),
        ("hbm_bytes", sampling.hbm_low_bytes, sampling.hbm_high_bytes),
        ("energy_j", sampling.energy_low_j, sampling.energy_high_j),
    ):
        if low is None or high is None:
            continue
        quantity = quantity_of(name)
        interval = f"{quantity.show(low)} to {quantity.show(high)}"
        yield f"{quantity.title}, 95 % interval", interval, ""


def _reads(reads: Mapping[str, str] | None) -> Iterator[Row]:
    """Say what flows from part to part of a layer."""
    if reads is not None and not any(reads.values()):
        yield "activations", "no part reads where one stored", ""
    for name, source in (reads or {}).items():
        yield f"{name} is", source or "stored in another form, apart", ""


def _units(report: Report) -> Iterator[Row]:
    for name, unit in report.units.items():
        if unit.busy_cycles:
            yield f"{name} busy", f"{unit.busy_cycles:,} cycles", f"{unit.utilization:.1%}"


def _traffic(report: Report) -> Iterator[Row]:
    for group in ("hbm_bytes_by_tensor", "requested_bytes_by_tensor"):
        by_tensor = getattr(report, group)
        for name, num_bytes in by_tensor.items():
            quantity = quantity_of(f"{group}.{name}")
            share = _share(num_bytes, sum(by_tensor.values()))
            yield quantity.title, quantity.show(num_bytes), share
    for name, value in report.l2.items():
        quantity = quantity_of(f"l2.{name}")
        if name.endswith("fraction"):
            yield quantity.title, "", f"{value:.1%}"
        else:
            yield quantity.title, quantity.show(value), ""


def _dram(report: Report) -> Iterator[Row]:
    if report.dram is None:
        return
    for name in report.dram.__dataclass_fields__:
        quantity = quantity_of(f"dram.{name}")
        value = getattr(report.dram, name)
        is_share = name.endswith("_share")
        shown = "" if is_share else quantity.show(value)
        yield quantity.title, shown, f"{value:.1%}" if is_share else ""


def _energy(report: Report) -> Iterator[Row]:
    for name, joules in report.energy_by_component_j.items():
        shown = quantity_of("energy_j").show(joules)
        yield f"energy of {name}", shown, _share(joules, report.energy_j)


def _statistics(report: Report) -> Iterator[Row]:
    for name, value in report.statistics.items():
        quantity = quantity_of(f"statistics.{name}")
        yield quantity.title, quantity.show(value), ""


def _accuracy(report: Report) -> Iterator[Row]:
    if report.accuracy is None:
        yield "accuracy", "no tensors", ""
        return
    for name in report.accuracy.__dataclass_fields__:
        value = getattr(report.accuracy, name)
        yield quantity_of(name).title, "-" if value is None else f"{value:.3g}", ""
    if report.inputs_out_of_range:
        yield "inputs out of range", f"{report.inputs_out_of_range:,}", ""


def _parts(report: Report) -> Iterator[Row]:
    for part in report.parts:
        alone = " alone" if report.one_program else ""
        yield f"{part.kernel}: {part.workload}", f"{part.cycles:,} cycles{alone}", ""
