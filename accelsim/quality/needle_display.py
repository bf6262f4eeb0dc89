"""A needle report as a table for the terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from accelsim.quality.display import with_error
from accelsim.report.quantity import words

if TYPE_CHECKING:
    from accelsim.quality.needle_report import NeedleReport, Retrieval
    from accelsim.report.report import Report

_COLUMNS = ("found in FP32", "found", "lost", "gained", "change", "NLL of the key, nats")


def needle_table(report: "NeedleReport") -> Table:
    """Return what was found, a row a length and depth, and what the kernels selected."""
    costs = [cost for cost in (report.attention, report.linears) if cost is not None]
    kernels = " and ".join(cost.recipe for cost in costs)
    table = Table(
        title=escape(f"pass keys found by {report.model} with {kernels}"),
        caption=escape("\n".join(_notes(report, costs))),
        title_justify="left",
        caption_justify="left",
    )
    for name in ("tokens", "depth", *_COLUMNS):
        table.add_column(name, justify="right")
    for length, depth, found in report.places:
        table.add_row(f"{length:,}", f"{depth:.0%}", *_row(found))
    table.add_section()
    table.add_row("all", "", *_row(report.total))
    return table


def _row(found: "Retrieval") -> Iterator[str]:
    yield f"{found.fp32_found} of {found.prompts}"
    yield f"{found.found} of {found.prompts}"
    yield str(found.lost)
    yield str(found.gained)
    yield with_error(found.change, "+.0%")
    yield with_error(found.nll_change, "+.2f")


def _notes(report: "NeedleReport", costs: "list[Report]") -> Iterator[str]:
    for text, sha256 in report.texts:
        yield f"{text}, SHA-256 {sha256[:16]}"
    if report.search["decode"]:
        yield "the text is read at once, question and answer are decoded one by one"
    for cost in costs:
        for name, value in cost.statistics.items():
            yield f"mean {words(name)} {value:.4g}"
