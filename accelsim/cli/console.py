"""What the commands print: results on stdout, everything about the way there on stderr."""

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from accelsim.errors import AccelsimWarning, printable

_PIPED_WIDTH = 140
"""Columns of a table that goes to a file or a pipe, which have no width of their own."""

results = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
"""Tables and other results, on stdout."""

messages = Console(stderr=True)
"""Notes and progress, on stderr; `--quiet` silences it."""

details = Console(stderr=True, quiet=True)
"""What `--verbose` adds, on stderr."""


def note(text: str) -> None:
    """Tell the user something worth knowing, unless `--quiet`."""
    messages.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def detail(text: str) -> None:
    """Tell the user something that only `--verbose` asks for."""
    details.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print `value` as JSON and nothing else; numbers that JSON cannot hold become null."""
    sys.stdout.write(json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: object) -> object:
    """Return plain data with None in the place of numbers that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [finite(member) for member in value]
    return value


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Show the first of accelsim's warnings of a kind as one line on stderr, and no other of it."""
    told: set[type[Warning]] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, AccelsimWarning):
            usual(message, category, filename, lineno, file, line)
        elif category not in told:
            sys.stderr.write(f"warning: {printable(str(message))}\n")
            told.add(category)

    with warnings.catch_warnings():
        warnings.simplefilter("always", AccelsimWarning)
        usual, warnings.showwarning = warnings.showwarning, show
        yield


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show that something is going on, and say so once if it has to compile first."""
    with messages.status(escape(printable(text))), compilation_noted():
        yield


@contextmanager
def compilation_noted() -> Iterator[None]:
    """Tell the user, once, when functions are compiled for the first use."""
    from accelsim.runtime.folders import code_folder
    from accelsim.runtime.jit import compilation_reported

    told = False

    def tell() -> None:
        nonlocal told
        if not told:
            note(f"compiling for the first use; kept in {code_folder()}")
        told = True

    with compilation_reported(tell):
        yield


@contextmanager
def progress(text: str, *, in_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with rate and time left; yield the function that takes (done, total).

    The bar of work that fails is taken away: what is said about the failure stands alone.
    """
    from rich.progress import DownloadColumn, TransferSpeedColumn

    amounts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), _RateColumn())
    if in_bytes:
        amounts = (DownloadColumn(), TransferSpeedColumn())
    label = TextColumn("{task.description}", markup=False)
    bar = Progress(label, BarColumn(), *amounts, TimeRemainingColumn(), console=messages)
    task: TaskID = bar.add_task(printable(text), total=None)
    bar.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    except BaseException:
        bar.live.transient = True
        bar.live.stop()  # Progress.stop would end the line of a bar that is no longer there
        raise
    bar.stop()


class _RateColumn(ProgressColumn):
    def render(self, task: object) -> Text:
        """Return the steps per second."""
        rate = getattr(task, "finished_speed", None) or getattr(task, "speed", None)
        return Text(f"{rate:.1f}/s" if rate else "", style="progress.data.speed")
