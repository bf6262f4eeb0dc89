"""`accelsim explore`: the best designs of a space, without running all of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from accelsim.cli import options
from accelsim.cli.console import note, print_json, progress, results
from accelsim.report.quantity import quantity_of, words

if TYPE_CHECKING:
    from accelsim.exploring.explore import ExploreResult

MOST_SHOWN = 20
"""Designs of the front in the printed table; front.csv has all."""


def explore(
    file: Annotated[
        Path, typer.Argument(help="YAML file with the axes, objectives and the budget.")
    ],
    out: options.Out,
    executor: options.ExecutorOption = options.Executor.LOCAL,
    address: options.Address = None,
    workers: options.Workers = None,
    output: options.FormatOption = options.OutputFormat.TABLE,
    *,
    notes: options.Notes,
) -> None:
    """Look for the best designs of a space; run it again to continue where it stopped."""
    options.start_workers(executor, address, workers)
    from accelsim.exploring.explore import FRONT_NAME, PROGRESS_NAME
    from accelsim.exploring.explore import explore as run_exploration
    from accelsim.exploring.spec import load_exploration

    with progress(f"exploring {load_exploration(file).name}") as advance:
        found = run_exploration(
            file,
            out,
            executor=executor.value,
            workers=workers,
            address=address,
            progress=advance,
        )
    if output is options.OutputFormat.JSON:
        print_json(found.front)
    else:
        _print(found)
    note(f"wrote results.csv, {FRONT_NAME} and {PROGRESS_NAME} to {found.folder}")


def _print(found: "ExploreResult") -> None:
    results.print(summary(found), markup=False, highlight=False, soft_wrap=True)
    if found.front:
        results.print(front_table(found))
    if found.importance:
        results.print(importance_line(found), markup=False, highlight=False, soft_wrap=True)


def summary(found: "ExploreResult") -> str:
    """Return one line: how much of the space was looked at, and why no more."""
    states = ", ".join(f"{count} {status}" for status, count in found.num_by_status.items())
    excluded = f"; {found.num_excluded} excluded by constraints" if found.num_excluded else ""
    return (
        f"{found.num_points} of {found.num_designs} designs: {states} ({found.num_run} run now)"
        f"{excluded}; {found.ended_because}; {len(found.front)} on the front"
    )


def front_table(found: "ExploreResult") -> Table:
    """Return the first designs of the front: what their axes are, and their objectives."""
    shown = found.front[:MOST_SHOWN]
    more = f" ({MOST_SHOWN} of {len(found.front)})" if len(found.front) > MOST_SHOWN else ""
    table = Table(title=escape(f"{found.spec.name}: front{more}"), title_justify="left")
    columns = [key for name in found.axes for key in name.split(" + ")]
    for name in (*columns, *found.spec.objectives):
        table.add_column(quantity_of(name).title, justify="right")
    for row in shown:
        cells = (quantity_of(name).show(row.get(name)) for name in columns)
        costs = (quantity_of(name).show(row.get(name)) for name in found.spec.objectives)
        table.add_row(*cells, *costs)
    return table


def importance_line(found: "ExploreResult") -> str:
    """Return which axes decide how good a design is."""
    shares = ", ".join(f"{words(name)} {share:.0%}" for name, share in found.importance.items())
    return f"importance of the axes: {shares}"
