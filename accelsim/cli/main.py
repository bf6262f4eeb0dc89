"""The entry point: the commands put together, and how each kind of failure ends."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from accelsim.cli import (
    calibrate,
    compare,
    explore,
    generate,
    infer,
    listing,
    model,
    models,
    needle,
    plot,
    quality,
    run,
    speculate,
    sweep,
    thresholds,
    validate,
)
from accelsim.cli.console import details, messages, warnings_in_a_line
from accelsim.cli.groups import spread
from accelsim.errors import AccelsimError, printable
from accelsim.runtime.interruption import interrupts_raised, is_work_abandoned
from accelsim.runtime.leaving import INTERRUPTED, MESSAGE
from accelsim.version import VERSION

CLOSED_PIPE = 1
"""Exit code where nobody reads what is printed."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; a user's mistake is one message, never a traceback."""
        try:
            with interrupts_raised() as is_interrupted, warnings_in_a_line():
                return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(_told(error, is_interrupted())) from error


def _told(error: BaseException, is_interrupted: bool) -> int:
    """Tell the user what ended a command; return its exit code, or raise what is a defect."""
    if isinstance(error, AccelsimError) and (not is_interrupted or error.exit_code == INTERRUPTED):
        sys.stderr.write(f"{printable(str(error))}\n")
        return error.exit_code
    if is_interrupted or isinstance(error, KeyboardInterrupt):
        sys.stderr.write(MESSAGE)
        return INTERRUPTED
    raise error


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
    explore.explore,
    plot.plot,
    quality.quality,
    needle.needle,
    generate.generate,
    speculate.speculate,
    calibrate.calibrate,
    thresholds.thresholds,
    validate.validate,
    infer.infer,
    run.program,
    listing.kernels,
    listing.machines,
    listing.workloads,
    listing.formats,
    listing.schema,
):
    app.command()(spread(command))
app.add_typer(model.app, name="model")
app.add_typer(models.app, name="models")


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
    """Run the command line and end the process."""
    code = _code_of(lambda: app(prog_name="accelsim")) or _code_of(sys.stdout.flush)
    if code == INTERRUPTED and is_work_abandoned():
        sys.stderr.flush()
        os._exit(INTERRUPTED)
    sys.exit(code)


def _code_of(work: Callable[[], Any]) -> Any:
    """Return the exit code after `work`, which may be output outside of any command."""
    try:
        work()
    except SystemExit as end:
        return end.code
    except BrokenPipeError:
        return CLOSED_PIPE
    except AccelsimError as error:
        return _told(error, is_interrupted=False)
    return 0
