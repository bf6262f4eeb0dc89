"""`accelsim sweep`: every point of a design space, on all cores or on a cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import note, progress, results

if TYPE_CHECKING:
    from accelsim.sweeps.run import SweepResult


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file that names the axes.")],
    out: options.Out,
    executor: options.ExecutorOption = options.Executor.LOCAL,
    address: options.Address = None,
    workers: options.Workers = None,
    *,
    notes: options.Notes,
) -> None:
    """Run a sweep; run it again to continue where it stopped."""
    options.start_workers(executor, address, workers)
    from accelsim.sweeps.contents import load_sweep
    from accelsim.sweeps.run import sweep as run_sweep

    with progress(f"sweeping {load_sweep(file).name}") as advance:
        outcome = run_sweep(
            file,
            out,
            executor=executor.value,
            workers=workers,
            address=address,
            progress=advance,
        )
    results.print(summary(outcome), markup=False, highlight=False, soft_wrap=True)
    for text in remarks(outcome):
        note(text)
    note(f"wrote {outcome.csv} and {outcome.parquet}")


def summary(outcome: "SweepResult") -> str:
    """Return one line: how many points there are, and what became of them."""
    states = ", ".join(f"{count} {status}" for status, count in outcome.num_by_status.items())
    excluded = f"; {outcome.num_excluded} excluded by constraints" if outcome.num_excluded else ""
    return f"{outcome.num_points} points: {states} ({outcome.num_run} run now){excluded}"


def remarks(outcome: "SweepResult") -> list[str]:
    """Return what a reader of the table has to know and cannot see in it."""
    found = []
    if outcome.num_set_aside:
        results_are = "result is" if outcome.num_set_aside == 1 else "results are"
        found.append(
            f"{outcome.num_set_aside} older {results_are} kept and not shown: made by other code, "
            f"or from files that have changed since"
        )
    if outcome.free_keys:
        found.append(
            f"the area does not change with {', '.join(outcome.free_keys)}: "
            f"what is best costs nothing, and wins every front (docs/sweeps.md)"
        )
    return found
