"""`accelsim validate`: the model held against a reference, row by row."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import compilation_noted, note, print_json, progress, results
from accelsim.validation.registry import REFERENCE_NAMES, get_reference

if TYPE_CHECKING:
    from accelsim.validation.outcome import Outcome


def _references(incomplete: str) -> list[str]:
    return [name for name in REFERENCE_NAMES if name.startswith(incomplete)]


def validate(
    against: Annotated[
        str,
        typer.Option(
            "--against", help=f"One of {', '.join(REFERENCE_NAMES)}.", autocompletion=_references
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="File with the columns of the shipped one.",
            show_default="the shipped one",
        ),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            "-m",
            help="Name or file of the machine to validate.",
            show_default="the one that the reference is about",
        ),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error", min=0, help="Fail where the mean error of a kind exceeds it, in percent."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for rows, summary and figure.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Rows of each kind to list.")] = 10,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=1, help="Processes to use.", show_default="all cores"),
    ] = None,
    output: options.FormatOption = options.OutputFormat.TABLE,
    *,
    notes: options.Notes,
) -> None:
    """Hold the model against measurements or another simulator: errors of each kind of row.

    Any file with the columns of the shipped one can be the reference, and for measured ones any
    machine the model. Exits with 1 where --max-error is exceeded.
    """
    chosen = get_reference(against)
    folder = options.writable_folder(out) if out is not None else None
    with progress(f"against {against}") as advance, compilation_noted():
        from accelsim.validation import outcome as validation

        outcome = validation.validate(chosen, reference, machine, advance, workers)
    if output is options.OutputFormat.JSON:
        print_json(outcome.to_dict(worst))
    else:
        from accelsim.validation.display import outcome_tables

        results.print(outcome_tables(outcome, worst))
    if folder is not None:
        _save(outcome, folder, worst)
    outcome.check(max_error)


def _save(outcome: "Outcome", folder: Path, num_worst: int) -> None:
    """Write rows, summary and figure, which has the kinds of one quantity."""
    import pandas as pd

    from accelsim.cli.files import write_csv, write_json
    from accelsim.plotting.agreement import agreement_figure
    from accelsim.plotting.style import save_figure

    write_csv(pd.DataFrame([row.to_dict() for row in outcome.rows]), folder / "rows.csv")
    write_json(outcome.to_dict(num_worst), folder / "summary.json")
    pairs = {
        kind: [(row.reference, row.predicted) for row in rows]
        for kind, rows in outcome.by_kind.items()
        if outcome.quantity_of(kind) == outcome.quantity
    }
    machine = f" on {outcome.machine}" if outcome.machine else ""
    title = f"Predicted against {outcome.reference}{machine}"
    save_figure(agreement_figure(pairs, outcome.quantity, title), folder, "agreement")
    note(f"wrote rows.csv, summary.json and the figure agreement to {folder}")
