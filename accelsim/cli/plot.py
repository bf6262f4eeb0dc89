"""`accelsim plot`: figures from a saved table, without simulating again."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import note

if TYPE_CHECKING:
    import pandas as pd

Columns = list[str] | None
INFER_TABLE, OPERATIONS_TABLE = "infer.csv", "operations.csv"


def plot(
    folder: Annotated[Path, typer.Argument(help="Folder that compare, sweep or infer wrote.")],
    x: Annotated[str | None, typer.Option("--x", help="Column along the horizontal axis.")] = None,
    y: Annotated[str | None, typer.Option("--y", help="Column along the vertical axis.")] = None,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Draw the points that no other point beats.")
    ] = False,
    by: Annotated[Columns, typer.Option(help="Column that tells series apart. Repeatable.")] = None,
    maximize: Annotated[
        Columns, typer.Option(help="Column where more is better. Repeatable.")
    ] = None,
    *,
    notes: options.Notes,
) -> None:
    """Draw figures from the table in a folder, as PNG and SVG beside it.

    Without --x and --y: traffic, energy, roofline and timelines of a comparison; the Pareto front
    of time and energy and the roofline of a sweep; of whole models time and energy of the prefill
    and of a step.
    """
    from accelsim.plotting.table import COMPARE_TABLE, find_table

    if x is None and y is None and (folder / INFER_TABLE).is_file():
        note("\n".join(f"wrote {path}" for path in draw_inference(folder)))
        return
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
    from accelsim.plotting.style import save_figure, titled
    from accelsim.plotting.table import COMPARE_TABLE, comparison_subject, read_table

    frame = read_table(folder / COMPARE_TABLE)
    subject, paths = comparison_subject(frame), list[Path]()
    figures = {"traffic": traffic_figure, "energy": energy_figure, "roofline": roofline_figure}
    for name, draw in figures.items():
        paths += save_figure(titled(draw(frame), subject), folder, name)
    for kernel in frame["kernel"]:
        table = folder / timeline_name(kernel)
        if os.path.isfile(table):
            figure = titled(timeline_figure(read_table(table)), f"{kernel}: {subject}")
            paths += save_figure(figure, folder, table.stem)
    return paths


def draw_inference(folder: Path) -> list[Path]:
    """Draw what the tables of an inference hold; return the files."""
    from accelsim.plotting.phases import phase_energy_figure, phase_time_figure
    from accelsim.plotting.roofline import roofline_figure
    from accelsim.plotting.style import save_figure, titled
    from accelsim.plotting.table import comparison_subject, read_table

    frame, operations = (read_table(folder / name) for name in (INFER_TABLE, OPERATIONS_TABLE))
    figures = {
        "time": phase_time_figure(frame),
        "energy": phase_energy_figure(frame),
        "roofline": roofline_figure(operations[operations["macs"] > 0]),
    }
    subject, paths = comparison_subject(frame), list[Path]()
    for name, figure in figures.items():
        paths += save_figure(titled(figure, subject), folder, name)
    return paths


def draw_sweep(table: Path) -> list[Path]:
    """Draw the usual figures of a sweep; return the files."""
    from accelsim.plotting.bars import MOST_BARS
    from accelsim.plotting.phases import phase_energy_figure, phase_time_figure
    from accelsim.plotting.roofline import roofline_figure
    from accelsim.plotting.style import save_figure
    from accelsim.plotting.table import read_table

    frame = read_table(table)
    if "time_per_token_s" in frame.columns:
        paths = draw_columns(table, "time_per_token_s", "energy_per_token_j", pareto=True)
        figures = {"time": phase_time_figure, "energy": phase_energy_figure}
        for name, draw in figures.items() if len(frame) <= MOST_BARS else ():
            paths += save_figure(draw(frame), table.parent, name)
        return paths
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
        name = _file_name(f"{y}-over-{x}", by, ())
        return save_figure(curve_figure(frame, x, y, by), table.parent, name)
    figure = pareto_figure(
        frame,
        x,
        y,
        front_of(frame, x, y, maximize, exact_only=True),
        wider_front=front_of(frame, x, y, maximize),
        maximize=maximize,
        by=by,
        settings=_settings(frame),
    )
    return save_figure(figure, table.parent, _file_name(f"pareto-{y}-{x}", by, maximize))


def _file_name(stem: str, by: Sequence[str], maximize: Sequence[str]) -> str:
    """Return a name that says all that was chosen, so that no figure replaces another one."""
    chosen = [f"most-{name}" for name in maximize] + [f"by-{name}" for name in by]
    return "-".join([stem, *chosen])


def front_of(
    frame: "pd.DataFrame", x: str, y: str, maximize: Sequence[str], *, exact_only: bool = False
) -> list[bool]:
    """Return for each row whether no other row of its problem with both values beats it.

    exact_only: as if there were none but exact rows.
    """
    from accelsim.plotting.table import finished, is_exact, numbers, problems
    from accelsim.sweeps.pareto import pareto_front

    rows = finished(frame, [x, y])
    if exact_only:
        rows = rows[is_exact(rows)]
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
