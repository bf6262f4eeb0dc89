"""Saved tables: finding them, choosing columns, reading quantities such as `512 KiB`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from accelsim.errors import OutputError, unknown_name
from accelsim.report.quantity import BINARY, Quantity, quantity_of
from accelsim.units import parse_quantity

if TYPE_CHECKING:
    import pandas as pd

COMPARE_TABLE = "compare.csv"
TABLES = (COMPARE_TABLE, "results.csv")
"""Names of the tables that `compare` and `sweep` write, in the order they are looked for."""

_LINE_LETTERS = 48
"""Width of the name of a series: a recipe may be long."""
_SUFFIXES = {
    "bytes": "bytes",
    "hertz": "hz",
    "bytes_per_s": "bytes_per_s",
    "seconds": "s",
    "watts": "w",
}
"""Dimension of a quantity in text -> suffix of a column that holds such numbers."""


def find_table(folder: str | Path) -> Path:
    """Return the saved table of `folder`; raise OutputError where there is none."""
    for name in TABLES:
        path = Path(folder) / name
        if path.is_file():
            return path
    allowed = " or ".join(TABLES)
    raise OutputError(f"{folder}: no table to plot; expected a folder with {allowed}")


def read_table(path: str | Path) -> "pd.DataFrame":
    """Read a saved table; raise OutputError where it is no table or has no rows."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip()
        raise OutputError(f"{path}: cannot read the table: {reason}") from error
    if frame.empty:
        raise OutputError(f"{path}: the table has no rows")
    return frame


def require_columns(frame: "pd.DataFrame", columns: Iterable[str]) -> None:
    """Raise UnknownNameError for the first of `columns` that `frame` does not have."""
    for column in columns:
        if column not in frame.columns:
            raise unknown_name("column", column, frame.columns)


def finished(frame: "pd.DataFrame", columns: Sequence[str]) -> "pd.DataFrame":
    """Return the rows that have all of `columns`: infeasible points have no results.

    Raises OutputError where none is left.
    """
    require_columns(frame, columns)
    rows = frame.dropna(subset=list(columns))
    if rows.empty:
        names = ", ".join(columns)
        raise OutputError(f"no row of the table has a value in all of the columns {names}")
    return rows


def numbers(frame: "pd.DataFrame", column: str) -> tuple["pd.Series[float]", Quantity]:
    """Return `column` as numbers and what it measures, quantities in text (`512 KiB`) included.

    Raises OutputError for a column of words.
    """
    import pandas as pd

    values = frame[column]
    if pd.api.types.is_numeric_dtype(values):
        return values.astype(float), quantity_of(column)
    texts = [str(value) for value in values]
    dimension = next((name for name in _SUFFIXES if _all_parse(texts, name)), None)
    if dimension is None:
        raise OutputError(f"column '{column}' holds words such as '{texts[0]}', not numbers")
    parsed = pd.Series([parse_quantity(text, dimension) for text in texts], index=values.index)
    measured = quantity_of(_SUFFIXES[dimension])
    prefixes = BINARY if any("iB" in text for text in texts) else measured.prefixes
    return parsed, replace(measured, title=quantity_of(column).title, prefixes=prefixes)


def series_names(frame: "pd.DataFrame", columns: Sequence[str] = ()) -> "pd.Series[str]":
    """Return the series each row belongs to: the values of `columns` joined, in lines of a legend.

    Without columns: the kernel, with machine and workload where they vary.
    """
    names = list(columns) or _identity(frame)
    require_columns(frame, names)
    joined = frame[names].astype(str).agg(" · ".join, axis=1)
    return joined.map(lambda name: fill(name, _LINE_LETTERS, break_on_hyphens=False))


def problems(frame: "pd.DataFrame") -> "pd.Series[str]":
    """Return the problem of each row: its workload and what was changed of it.

    Designs compete for the same problem: a shorter sequence does not beat a longer one.
    """
    names = [name for name in frame.columns if name.split(".")[0] == "workload"]
    require_columns(frame, ["workload"])
    return frame[names].astype(str).agg(" ".join, axis=1)


def _identity(frame: "pd.DataFrame") -> list[str]:
    require_columns(frame, ["kernel"])
    others = [name for name in ("workload", "machine") if name in frame.columns]
    return ["kernel", *(name for name in others if frame[name].nunique() > 1)]


def _all_parse(texts: list[str], dimension: str) -> bool:
    try:
        for text in texts:
            parse_quantity(text, dimension)
    except ValueError:
        return False
    return True
