"""`accelsim run` and `accelsim program`: one kernel, one workload, one machine."""

import sys
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from accelsim.cli import options
from accelsim.cli.console import detail, note, print_json, results, working


def run(
    asked: options.Asked,
    scheduling: options.Scheduling,
    output: options.FormatOption = options.OutputFormat.TABLE,
    as_one: Annotated[
        bool, typer.Option("--as-one", help="Run a layer as one program, as --trace does.")
    ] = False,
    with_parts: Annotated[
        bool,
        typer.Option("--with-parts", help="Of one program, also say what each part takes alone."),
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Write the timeline to this file, for Perfetto.")
    ] = None,
    *,
    notes: options.Notes,
) -> None:
    """Simulate one kernel, or a layer: cycles, bytes, joules and what it does to the numbers."""
    arguments = asked.arguments
    started = perf_counter()
    with working(f"simulating {asked.name}"):
        from accelsim.runtime.interruption import interruptible
        from accelsim.simulation import simulate

        report = interruptible(
            simulate,
            *arguments,
            **scheduling.arguments,
            timeline=trace is not None,
            one_program=as_one,
            with_parts=with_parts,
        )
    detail(f"simulated in {perf_counter() - started:.2f} s")
    if output is options.OutputFormat.JSON:
        print_json(report.to_dict())
    else:
        results.print(report)
    if trace is not None and report.timeline is not None:
        from accelsim.report.trace import write_trace

        write_trace(report.timeline, trace)
        note(f"wrote {trace}; open it with Perfetto")


def program(
    asked: options.Asked,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Print only so many ops.", show_default="all")
    ] = None,
    *,
    notes: options.Notes,
) -> None:
    """Print the verified tile program of a kernel, or of all parts of a layer, one op a line."""
    arguments = asked.arguments
    with working(f"recording {asked.name}"):
        from accelsim.program.printer import format_program
        from accelsim.runtime.interruption import interruptible
        from accelsim.simulation import record

        recorded = interruptible(record, *arguments)
        text = format_program(recorded, limit=limit)
    sys.stdout.write(text.rstrip("\n") + "\n")
