"""A quality report as a table for the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from accelsim.report.quantity import quantity_of, words

if TYPE_CHECKING:
    from accelsim.quality.report import QualityReport
    from accelsim.report.report import Report

_COST = ("recipe", "cycles", "time_s", "bound_by", "hbm_read_bytes", "hbm_write_bytes", "energy_j")

Row = tuple[str, str]


def quality_table(report: "QualityReport") -> Table:
    """Return what happened to the text, and what the kernels selected and cost."""
    costs = [cost for cost in (report.attention, report.linears) if cost is not None]
    kernels = " and ".join(cost.kernel for cost in costs)
    table = Table(
        title=f"{kernels} in {report.model} on {costs[0].machine}",
        caption=f"{report.text}, SHA-256 {report.text_sha256[:16]}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("quantity")
    table.add_column("value", justify="right")
    sections = [_text(report), _quality(report)]
    for part, cost in (("attention", report.attention), ("linears", report.linears)):
        if cost is not None:
            sections += [_statistics(cost), _cost(part, cost)]
    for section in sections:
        for row in section:
            table.add_row(*map(escape, row))
        table.add_section()
    return table


def _text(report: "QualityReport") -> Iterator[Row]:
    yield "tokens", f"{report.tokens:,} in windows of {report.window:,}"
    yield "tensors in HBM", str(report.dtype)


def _quality(report: "QualityReport") -> Iterator[Row]:
    yield "perplexity in FP32", _number(report.fp32_perplexity, ".4f")
    yield "perplexity", _number(report.perplexity, ".4f")
    yield "change of the perplexity", _number(report.perplexity_change, "+.3%")
    yield "change of the NLL in nats", _number(report.nll_change, "+.2e")
    yield "its standard error", _number(report.nll_change_se, ".2e")
    yield "tokens without a finite loss", f"{report.nonfinite_losses:,}"
    yield "outputs not finite", f"{report.nonfinite_outputs:,}"


def _statistics(cost: "Report") -> Iterator[Row]:
    for name, value in cost.statistics.items():
        yield f"mean {words(name)}", f"{value:.4g}"


def _cost(part: str, cost: "Report") -> Iterator[Row]:
    for name in _COST:
        quantity = quantity_of(name)
        yield f"{part}: {quantity.title}", quantity.show(getattr(cost, name))
    for name, joules in cost.energy_by_component_j.items():
        yield f"{part}: energy of {words(name)}", quantity_of("energy_j").show(joules)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
