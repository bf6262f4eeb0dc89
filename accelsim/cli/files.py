"""Files that commands write: whole, or not at all."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from accelsim.cli.console import finite
from accelsim.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd


def write_csv(frame: "pd.DataFrame", path: Path) -> None:
    """Write a table; raises OutputError."""
    write_text(frame.to_csv(index=False), path)


def write_json(value: object, path: Path) -> None:
    """Write plain data as `--format json` prints it; raises OutputError."""
    write_text(json.dumps(finite(value), indent=2, allow_nan=False) + "\n", path)


def remove_file(path: Path) -> None:
    """Remove a file of an earlier run, where there is one; raises OutputError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot remove the file: {error.strerror}") from error


def write_text(text: str, path: Path) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError(f"{path}: cannot write the file: {error.strerror}") from error
