"""An outcome as tables for the terminal."""

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from accelsim.report.quantity import quantity_of
from accelsim.validation.outcome import Comparison, Outcome, Statistics, worst


def outcome_tables(outcome: Outcome, num_worst: int) -> Group:
    """Return the errors of each kind and, where there are any, the worst rows and unknowns."""
    tables = [_errors(outcome)]
    rows = [row for kind in outcome.by_kind.values() for row in worst(kind, num_worst)]
    if rows:
        tables.append(_worst_rows(outcome, rows))
    if any(row.unknown for row in outcome.rows):
        tables.append(_unknown(outcome))
    return Group(*tables)


def _errors(outcome: Outcome) -> Table:
    machine = f" on {outcome.machine}" if outcome.machine else ""
    title = f"{quantity_of(outcome.quantity).title} against {outcome.reference}{machine}"
    table = Table(
        title=escape(title),
        caption=escape(f"{outcome.file}: {outcome.summary}"),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("kind")
    for name in ("rows", "mean error", "median", "90th percentile", "bias"):
        table.add_column(name, justify="right")
    for kind, statistics in outcome.kinds.items():
        table.add_row(escape(kind), *_cells(statistics))
    if len(outcome.kinds) > 1:
        table.add_section()
        table.add_row("all", *_cells(Statistics.of(outcome.rows)))
    return table


def _cells(each: Statistics) -> list[str]:
    shares = [_percent(value, ".2f") for value in (each.mape, each.median, each.p90)]
    return [str(each.count), *shares, _percent(each.bias, "+.2f")]


def _percent(value: float, form: str) -> str:
    """Return a share that reads `0 %` only where it is exact."""
    return f"{value:{form}} %" if value else "0 %"


def _worst_rows(outcome: Outcome, rows: list[Comparison]) -> Table:
    table = Table(title="Worst rows of each kind", title_justify="left")
    table.add_column("kind")
    table.add_column("line", justify="right")
    table.add_column("row")
    for name in ("predicted", "reference", "error"):
        table.add_column(name, justify="right")
    for row in rows:
        quantity = quantity_of(outcome.quantity_of(row.kind))
        numbers = (quantity.show(row.predicted), quantity.show(row.reference))
        error = _percent(row.error_percent, "+.2f")
        table.add_row(escape(row.kind), str(row.line), escape(row.label), *numbers, error)
    return table


def _unknown(outcome: Outcome) -> Table:
    """Return what is not known, once for all lines that it is said of."""
    lines: dict[str, list[int]] = {}
    for row in outcome.rows:
        lines.setdefault(row.unknown, []).append(row.line)
    table = Table(title="What is not known", title_justify="left")
    table.add_column("lines", justify="right")
    table.add_column("what is not known")
    for unknown, found in lines.items():
        if unknown:
            table.add_row(_ranges(sorted(set(found))), escape(unknown))
    return table


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers, those that follow each other by their first and last."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
