"""A quality report as tables for the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from accelsim.report.quantity import quantity_of, words

if TYPE_CHECKING:
    from accelsim.quality.losses import Quality
    from accelsim.quality.report import QualityReport
    from accelsim.report.report import Report

_COST = ("recipe", "cycles", "time_s", "bound_by", "hbm_read_bytes", "hbm_write_bytes", "energy_j")

Row = tuple[str, str]


def quality_tables(report: "QualityReport") -> Group:
    """Return the table of the whole; of several texts that of the texts before it."""
    parts = [texts_table(report)] if len(report.texts) > 1 else []
    return Group(*parts, quality_table(report))


def texts_table(report: "QualityReport") -> Table:
    """Return what happened to each text, a row a text."""
    table = _table(
        report, title=f"change of the perplexity, {report.texts[0].tokens:,} tokens a text"
    )
    table.add_column("text")
    for name in ("in FP32", "with kernels", "change", "its standard error"):
        table.add_column(name, justify="right")
    table.add_column("calibrated on")
    table.add_column("SHA-256")
    for text in report.texts:
        known = "yes" if text.is_calibrated_on else "no"
        table.add_row(*map(escape, (text.text, *_changes(text), known, text.text_sha256[:16])))
    return table


def quality_table(report: "QualityReport") -> Table:
    """Return what happened to all text, and what the kernels selected and cost."""
    costs = [cost for cost in (report.attention, report.linears) if cost is not None]
    kernels = " and ".join(cost.kernel for cost in costs)
    table = _table(report, title=f"{kernels} in {report.model} on {costs[0].machine}")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    sections = [_headline(report), _text(report), _quality(report)]
    for part, cost in (("attention", report.attention), ("linears", report.linears)):
        if cost is not None:
            sections += [_statistics(cost), _cost(part, cost)]
    for section in sections:
        for row in section:
            table.add_row(*map(escape, row))
        table.add_section()
    return table


def _table(report: "QualityReport", title: str) -> Table:
    names = [f"{text.text}, SHA-256 {text.text_sha256[:16]}" for text in report.texts]
    caption = names[0] if len(names) == 1 else None
    return Table(title=title, caption=caption, title_justify="left", caption_justify="left")


def _headline(report: "QualityReport") -> Iterator[Row]:
    """Yield the loss on what was not calibrated on, where that is not simply all there is."""
    if any(text.is_calibrated_on for text in report.texts):
        unseen = report.unseen
        change = se = "-"
        if unseen is not None:
            _, _, change, se = _changes(unseen)
        yield "change on texts not calibrated on", change
        yield "its standard error", se
    if len(report.texts) > 1:
        yield "spread over those texts", _number(report.spread, ".3%")


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


def _changes(quality: "Quality") -> tuple[str, str, str, str]:
    """Return perplexity in FP32 and with kernels, its change and the standard error of that."""
    return (
        _number(quality.fp32_perplexity, ".4f"),
        _number(quality.perplexity, ".4f"),
        _number(quality.perplexity_change, "+.3%"),
        _number(quality.perplexity_change_se, ".3%"),
    )


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
