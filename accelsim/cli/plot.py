"""`accelsim plot`: figures from a saved table, without simulating again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import note

if TYPE_CHECKING:
    import pandas as pd

Columns = list[str] | None


def plot(
    folder: Annotated[Path, typer.Argument(help="Folder that compare or sweep wrote.")],
    x: Annotated[str | None, typer.Option("--x", help="Column along the horizontal axis.")] = None,
    y: Annotated[str | None, typer.Option("--y", help="Column along the vertical axis.")] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Draw the points that no other point beats.")
    ] = False,
    by: Annotated[Columns, typer.Option(help="Column that tells series apart. Repeatable.")] = None,
    maximize: Annotated[
        Columns, typer.Option(help="Column where more is better. Repeatable.")
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Draw figures from the table in a folder, as PNG and SVG beside it.

    Without --x and --y: traffic, energy, roofline and timelines of a comparison; the Pareto front
    of time and energy and the roofline of a sweep.
    """
    from accelsim.plotting.table import COMPARE_TABLE, find_table

    if (x is None) != (y is None):
        given, missing = ("--x", "--y") if y is None else ("--y", "--x")
        raise options.OptionError(f"{given} needs {missing} as well")
    table = find_table(folder)
    if x is not None and y is not None:
        paths = draw_columns(table, x, y, pareto=pareto, by=by or (), maximize=maximize or ())
    elif table.name == COMPARE_TABLE:
        paths = draw_comparison(folder)
    else:
        paths = draw_sweep(table)
    note("\n".join(f"wrote {path}" for path in paths))


def draw_comparison(folder: Path) -> list[Path]:
    """Draw what compare.csv and its timelines hold; return the files."""
    from accelsim.cli.compare import timeline_name
    from accelsim.plotting.bars import energy_figure, traffic_figure
    from accelsim.plotting.gantt import timeline_figure
    from accelsim.plotting.roofline import roofline_figure
    from accelsim.plotting.style import save_figure
    from accelsim.plotting.table import COMPARE_TABLE, read_table

    frame = read_table(folder / COMPARE_TABLE)
    paths = save_figure(traffic_figure(frame), folder, "traffic")
    paths += save_figure(energy_figure(frame), folder, "energy")
    paths += save_figure(roofline_figure(frame), folder, "roofline")
    for kernel in frame["kernel"]:
        table = folder / timeline_name(kernel)
        if table.is_file():
            paths += save_figure(timeline_figure(read_table(table)), folder, table.stem)
    return paths


def draw_sweep(table: Path) -> list[Path]:
    """Draw the usual figures of a sweep; return the files."""
    from accelsim.plotting.roofline import roofline_figure
    from accelsim.plotting.style import save_figure
    from accelsim.plotting.table import read_table

    paths = draw_columns(table, "time_s", "energy_j", pareto=True)
    return paths + save_figure(roofline_figure(read_table(table)), table.parent, "roofline")


def draw_columns(
    table: Path,
    x: str,
    y: str,
    *,
    pareto: bool,
    by: Sequence[str] = (),
    maximize: Sequence[str] = (),
) -> list[Path]:
    """Draw column `y` of a table over column `x`; return the files."""
    from accelsim.plotting.style import save_figure
    from accelsim.plotting.table import read_table
    from accelsim.plotting.tradeoff import curve_figure, pareto_figure

    frame = read_table(table)
    if not pareto:
        return save_figure(curve_figure(frame, x, y, by), table.parent, f"{y}-over-{x}")
    front = front_of(frame, x, y, maximize)
    settings = _settings(frame)
    figure = pareto_figure(frame, x, y, front, maximize=maximize, by=by, settings=settings)
    return save_figure(figure, table.parent, f"pareto-{y}-{x}")


def front_of(frame: "pd.DataFrame", x: str, y: str, maximize: Sequence[str]) -> list[bool]:
    """Return for each row whether no other row of its problem with both values beats it."""
    from accelsim.plotting.table import finished, numbers, problems
    from accelsim.sweeps.pareto import pareto_front

    rows = finished(frame, [x, y])
    values = rows[[]].assign(**{name: numbers(rows, name)[0] for name in (x, y)})
    more = [name for name in (x, y) if name in maximize]
    less = [name for name in (x, y) if name not in maximize]
    best: list[object] = []
    for _, group in values.groupby(problems(rows)):
        columns = {name: group[name] for name in (x, y)}
        best += list(group.index[pareto_front(columns, minimize=less, maximize=more)])
    return [bool(flag) for flag in frame.index.isin(best)]


def _settings(frame: "pd.DataFrame") -> list[str]:
    """Return the columns that a sweep can vary: fields of specs and parameters of kernels."""
    from accelsim.kernels.registry import get_kernel, kernel_names

    parameters = {
        field for name in kernel_names() for field in get_kernel(name).parameters.model_fields
    }
    fields = ("machine.", "workload.")
    return [name for name in frame.columns if name.startswith(fields) or name in parameters]
