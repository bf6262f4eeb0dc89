"""The saved table of a sweep: what figures are made from."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import OutputError

if TYPE_CHECKING:
    import pandas as pd

CSV_NAME = "results.csv"
PARQUET_NAME = "results.parquet"


def to_frame(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """Return one row per point, with every column that any row has, in order of appearance."""
    import pandas as pd

    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> "pd.Series[Any]":
    """One column of one type: integers stay integers where a point has none, mixtures are text."""
    import pandas as pd

    types = {type(value) for value in values if value is not None}
    if types == {int} and None in values:
        return pd.Series(values, dtype="Int64")
    if str in types and len(types) > 1:
        return pd.Series([None if value is None else str(value) for value in values])
    return pd.Series(values)


def export(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write results.csv and results.parquet; each appears complete or stays as it was.

    Raises OutputError if they cannot be written.
    """
    frame = to_frame(rows)
    _replace(folder / CSV_NAME, lambda path: frame.to_csv(path, index=False))
    _replace(folder / PARQUET_NAME, lambda path: frame.to_parquet(path, index=False))


def save_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a table as text; it appears complete or stays as it was. Raises OutputError."""
    frame = to_frame(rows)
    _replace(path, lambda draft: frame.to_csv(draft, index=False))


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    # Sweeps that share the folder may export at the same time.
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        write(draft)
        draft.replace(path)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        problem = "the disk is full" if full else f"cannot be written ({error.strerror})"
        raise OutputError(f"{path}: {problem}; the results are safe in the store") from error
    finally:
        with suppress(OSError):
            draft.unlink()
