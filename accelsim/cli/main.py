"""The entry point: the commands put together, and how each kind of failure ends."""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from accelsim.cli import calibrate, compare, listing, model, plot, quality, run, sweep, validate
from accelsim.cli.console import details, messages, warnings_in_a_line
from accelsim.errors import AccelsimError
from accelsim.interruption import is_work_abandoned
from accelsim.version import VERSION

INTERRUPTED = 130
"""Exit code of a shell command that Ctrl-C ended."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; a user's mistake is one message, never a traceback."""
        try:
            with warnings_in_a_line():
                return super().invoke(ctx)
        except AccelsimError as error:
            sys.stderr.write(f"{error}\n")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as interruption:
            sys.stderr.write("\ninterrupted\n")
            raise typer.Exit(INTERRUPTED) from interruption


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run.run,
    compare.compare,
    sweep.sweep,
    plot.plot,
    quality.quality,
    calibrate.calibrate,
    validate.validate,
    run.program,
    listing.kernels,
    listing.machines,
    listing.workloads,
    listing.schema,
):
    app.command()(command)
app.add_typer(model.app, name="model")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"accelsim {VERSION}")
        raise typer.Exit


@app.callback()
def accelsim(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on the way.")] = False,
) -> None:
    """Simulate kernels on an NPU: cycles, bytes, joules, and what it does to the numbers."""
    messages.quiet, details.quiet = quiet, not verbose


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="accelsim")
    except SystemExit as end:
        if end.code == INTERRUPTED and is_work_abandoned():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise
