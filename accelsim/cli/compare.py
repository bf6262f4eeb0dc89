"""`accelsim compare`: several kernels side by side, as a table, a CSV file and figures."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, note, print_json, progress, results
from accelsim.cli.files import remove_file, write_csv
from accelsim.report.quantity import quantity_of
from accelsim.report.shown import further_columns
from accelsim.report.subject import subject_of

if TYPE_CHECKING:
    from accelsim.library.recipe import Recipe
    from accelsim.report.timeline import Timeline

TIMELINE_OPS = 300
_LONGEST_NAME_BYTES = 200
"""Of a recipe in the name of a file, which may have 255 bytes."""
SHOWN = (
    "cycles",
    "time_s",
    "bound_by",
    "hbm_read_bytes",
    "hbm_write_bytes",
    "hbm_bytes_by_tensor.",
    "requested_bytes_by_tensor.",
    "macs",
    "units.cube.utilization",
    "units.vector.utilization",
    "units.load.utilization",
    "units.store.utilization",
    "core_balance",
    "scratchpad_peak_bytes",
    "scratchpad_held_peak_bytes",
    "energy_j",
    "energy_by_component_j.",
    "area_mm2",
    "is_exact",
    "selection_assumed",
    "sampling.",
    *(f"parameters.{name}" for name in ("tile_q", "tile_k", "tile_m", "tile_n", "tile_rows")),
    *(f"parameters.{name}" for name in ("tile_cols", "tile_elements", "softmax_rows", "block")),
    *(f"parameters.{name}" for name in ("query_tiles", "fold", "splits", "stages", "swizzle")),
    "statistics.",
    "accuracy.",
)
"""Rows of the table, in order; a name that ends with a dot stands for all columns below it.

Other numbers that are measured follow."""
_LEFT_OUT = ("hbm_utilization",)
"""Measured as well; the bytes say it for each kernel."""

Row = dict[str, object]


@dataclass(frozen=True)
class Compared:
    """What is compared, and where the results go."""

    machine: options.Machine
    workload: options.Workload
    kernels: Annotated[
        str,
        typer.Option(
            "--kernels",
            "-k",
            help='Kernels, separated by commas: dense,flash or "flash(tile_q=64),pasa".',
        ),
    ]
    out: options.Out
    settings: options.Settings = None


def compare(
    compared: Compared,
    scheduling: options.Scheduling,
    output: options.FormatOption = options.OutputFormat.TABLE,
    timeline: Annotated[
        bool,
        typer.Option(
            "--timeline",
            help="Also draw the first ops of each kernel; a layer runs as one program.",
        ),
    ] = False,
    *,
    notes: options.Notes,
) -> None:
    """Simulate several kernels on one workload: table, compare.csv and figures."""
    recipes = recipe_list(compared.kernels)
    chosen = options.parse_settings(compared.settings)
    folder = options.writable_folder(compared.out)
    subjects = compared.machine, compared.workload
    rows = []
    with progress("comparing") as advance, compilation_noted():
        from accelsim.runtime.interruption import interruptible
        from accelsim.simulation import check_comparison, simulate

        interruptible(check_comparison, *subjects, recipes, chosen)
        for count, recipe in enumerate(recipes):
            advance(count, len(recipes))
            report = interruptible(
                simulate,
                *subjects,
                recipe,
                chosen,
                **scheduling.arguments,
                timeline=timeline,
            )
            name = str(recipe or f"library ({report.kernel})")
            rows.append({**chosen, **report.to_row(), "kernel": name})
            _save_timeline(report.timeline, folder / timeline_name(name))
        advance(len(recipes), len(recipes))
    _finish(rows, folder, output)


def timeline_name(recipe: str) -> str:
    """Return the name of the file with the first ops of a kernel; another one for each recipe."""
    name = recipe.replace("%", "%25").replace("/", "%2F")
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        name = hashlib.sha256(name.encode()).hexdigest()
    return f"timeline-{name}.csv"


def _save_timeline(timeline: "Timeline | None", path: Path) -> None:
    """Write the first ops, or remove those of an earlier comparison in this folder."""
    if timeline is None:
        remove_file(path)
    else:
        write_csv(timeline.first_ops(TIMELINE_OPS), path)


def _finish(rows: list[Row], folder: Path, output: options.OutputFormat) -> None:
    import pandas as pd

    from accelsim.cli.plot import draw_comparison

    write_csv(pd.DataFrame(rows), folder / "compare.csv")
    if output is options.OutputFormat.JSON:
        print_json(rows)
    else:
        results.print(side_by_side(rows))
    paths = draw_comparison(folder)
    note(f"wrote compare.csv and {len(paths)} figures to {folder}")


def recipe_list(text: str) -> list["Recipe | None"]:
    """Return the recipes in `text`, None for what the library of the machine is to pick.

    Raises OptionError, or what a recipe raises that is wrong.
    """
    from accelsim.library.recipe import asked_for, split_recipes

    names = [name.strip() for name in split_recipes(text)]
    recipes = [asked_for(name) for name in names if name]
    if len(set(recipes)) < len(names):
        raise options.OptionError(
            f"--kernels {text}: found an empty or repeated kernel; allowed: --kernels dense,flash"
        )
    for recipe in filter(None, recipes):
        recipe.parameters()
    return recipes


def side_by_side(rows: list[Row]) -> Table:
    """Return a table with one column a kernel and one line a result."""
    title = subject_of(str(rows[0]["machine"]), str(rows[0]["workload"]), rows[0])
    table = Table(title=escape(title), title_justify="left")
    table.add_column("")
    for row in rows:
        table.add_column(str(row["kernel"]), justify="right")
    for name in _shown(rows):
        quantity = quantity_of(name)
        table.add_row(quantity.title, *(quantity.show(row.get(name)) for row in rows))
    return table


def _shown(rows: list[Row]) -> list[str]:
    known = list(dict.fromkeys(name for row in rows for name in row))
    return [
        name
        for wanted in (*SHOWN, *further_columns((*SHOWN, *_LEFT_OUT)))
        for name in known
        if name == wanted or (wanted.endswith(".") and name.startswith(wanted))
    ]
