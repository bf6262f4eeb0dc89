"""Saved tables: finding them, choosing columns, reading quantities such as `512 KiB`."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from accelsim.errors import FILE_ERRORS, OutputError, reason_of, unknown_name
from accelsim.report.quantity import BINARY, Quantity, quantity_of
from accelsim.report.subject import subject_of
from accelsim.units import parse_quantity

if TYPE_CHECKING:
    import pandas as pd

COMPARE_TABLE = "compare.csv"
INFER_TABLE = "infer.csv"
"""Table that `infer` writes, which has figures of its own."""
TABLES = (COMPARE_TABLE, "results.csv")
"""Names of the tables that `compare` and `sweep` write, in the order they are looked for."""

MOST_PROBLEMS_NAMED = 4
"""With more problems than that, series are not named after them."""
_ACCURACY = "accuracy."
_LOST = "accuracy.nonfinite_fraction"
_SAMPLED = "sampling.scheduled_share"
_DIGEST = "{}_digest"
_SHORT = 4
"""Digits that tell contents of one name apart."""
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
        if os.path.isfile(path):  # unlike Path.is_file, never raises
            return path
    allowed = ", ".join(TABLES)
    raise OutputError(
        f"{folder}: no table to plot; expected a folder with {allowed} or {INFER_TABLE}"
    )


def read_table(path: str | Path) -> "pd.DataFrame":
    """Read a saved table; raise OutputError where it is no table or has no rows."""
    import pandas as pd

    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FILE_ERRORS as error:
        reason = reason_of(error).strip()
        raise OutputError(f"{path}: cannot read the table: {reason}") from error
    if frame.empty:
        raise OutputError(f"{path}: the table has no rows")
    # A file is read column by column; a copy has those of one type together.
    return frame.copy()


def require_columns(frame: "pd.DataFrame", columns: Iterable[str]) -> None:
    """Raise UnknownNameError for the first of `columns` that `frame` does not have."""
    for column in columns:
        if column not in frame.columns:
            raise unknown_name("column", column, frame.columns)


def finished(frame: "pd.DataFrame", columns: Sequence[str]) -> "pd.DataFrame":
    """Return the rows that have all of `columns` and can be compared by them.

    Infeasible points have no results. What is not finite beats nothing, see `num_left_out`.
    Raises OutputError where none is left.
    """
    require_columns(frame, columns)
    rows = frame[~_is_left_out(frame, columns)].dropna(subset=list(columns))
    if rows.empty:
        names = ", ".join(columns)
        lost = num_left_out(frame, columns)
        reason = f"; {lost} left out, whose value or output is not finite" if lost else ""
        raise OutputError(f"no row of the table has a value in all of the columns {names}{reason}")
    return rows


def num_left_out(frame: "pd.DataFrame", columns: Sequence[str]) -> int:
    """Return how many rows have no place beside others, because something is not finite.

    That is a value of one of `columns`, or, where one of them says how accurate a row is, an
    element of its output.
    """
    return int(_is_left_out(frame, columns).sum())


def is_exact(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which rows compute the function itself: by an exact kernel, and all of it finite.

    Rows of tables that do not say are taken for exact.
    """
    exact = _flags(frame, "is_exact", if_absent=True)
    return exact & ~_lost_outputs(frame)


def is_sampled(frame: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which rows are estimates: a sample of their ops was scheduled."""
    import pandas as pd

    if _SAMPLED not in frame.columns:
        return pd.Series(data=False, index=frame.index)
    return frame[_SAMPLED].notna()


def _is_left_out(frame: "pd.DataFrame", columns: Sequence[str]) -> "pd.Series[bool]":
    infinite = frame[list(columns)].apply(_is_infinite).any(axis=1)
    judged = any(name.startswith(_ACCURACY) for name in columns)
    return infinite | (_lost_outputs(frame) & judged)


def _is_infinite(column: "pd.Series[Any]") -> "pd.Series[bool]":
    import pandas as pd

    values: pd.Series[float] = pd.Series(pd.to_numeric(column, errors="coerce"))
    return values.abs() == math.inf


def _lost_outputs(frame: "pd.DataFrame") -> "pd.Series[bool]":
    import pandas as pd

    if _LOST not in frame.columns:
        return pd.Series(data=False, index=frame.index)
    return frame[_LOST].fillna(0) > 0


def _flags(frame: "pd.DataFrame", column: str, *, if_absent: bool) -> "pd.Series[bool]":
    """Return a column of yes and no, which is text where some rows have neither."""
    import pandas as pd

    if column not in frame.columns:
        return pd.Series(if_absent, index=frame.index)
    texts = frame[column].astype(str).str.lower()
    return (texts == "true") | (if_absent & ~texts.isin(("true", "false")))


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


def series_names(
    frame: "pd.DataFrame", columns: Sequence[str] = (), *, with_problems: bool = True
) -> "pd.Series[str]":
    """Return the series each row belongs to: the values of `columns` joined, in lines of a legend.

    Without columns: the kernel, with machine and workload where they vary, and with what differs
    between problems where these are few. What was selected by assumption says so,
    and what was estimated from a sample.
    """
    require_columns(frame, columns or ["kernel"])
    parts = [frame[name].astype(str) for name in columns] or _identity(frame, with_problems)
    joined = _joined(parts, " · ")
    assumed = _flags(frame, "selection_assumed", if_absent=False)
    named = joined.where(~assumed, joined + " (assumed)")
    named = named.where(~is_sampled(frame), named + " (sampled)")
    return named.map(lambda name: fill(name, _LINE_LETTERS, break_on_hyphens=False))


def _joined(parts: "list[pd.Series[str]]", between: str) -> "pd.Series[str]":
    return reduce(lambda left, right: left + between + right, parts)


def comparison_subject(frame: "pd.DataFrame") -> str:
    """Return what a comparison is of: one workload and one machine, with what was changed."""
    first = {str(name): value for name, value in frame.iloc[0].dropna().items()}
    return subject_of(str(first["machine"]), str(first["workload"]), first)


def problems(frame: "pd.DataFrame") -> "pd.Series[str]":
    """Return the problem of each row: the contents of its workload, whatever its name.

    Of tables that do not have their digest, the name and what was changed. Designs compete for the
    same problem: a shorter sequence does not beat a longer one.
    """
    require_columns(frame, ["workload"])
    named = _joined([frame[name].astype(str) for name in _below(frame, "workload")], " ")
    if _DIGEST.format("workload") not in frame.columns:
        return named
    digests = frame[_DIGEST.format("workload")]
    return digests.where(digests.notna(), named).astype(str)


def _identity(frame: "pd.DataFrame", with_problems: bool) -> "list[pd.Series[str]]":
    parts = [frame["kernel"].astype(str)]
    if "workload" in frame.columns:
        parts.append(_names(frame, "workload"))
        if with_problems and problems(frame).nunique() <= MOST_PROBLEMS_NAMED:
            parts += _fields(frame, "workload")
    if "machine" in frame.columns:
        parts.append(_names(frame, "machine"))
    return [parts[0], *(part for part in parts[1:] if part.nunique() > 1)]


def _names(frame: "pd.DataFrame", kind: str) -> "pd.Series[str]":
    """Return the names of machines or workloads, told apart by contents where nothing else does."""
    names, column = frame[kind].astype(str), _DIGEST.format(kind)
    if column not in frame.columns:
        return names
    digests = frame[column].astype(str)
    known = [frame[name].astype(str) for name in _below(frame, kind)]
    is_shared = digests.groupby(known).transform("nunique") > 1
    return names.where(~is_shared, names + " #" + digests.str[:_SHORT])


def _fields(frame: "pd.DataFrame", kind: str) -> "list[pd.Series[str]]":
    """Return what the table says of the fields of machines or workloads, such as `q len 512`."""
    return [
        frame[name].map(quantity_of(name).show).radd(f"{quantity_of(name).title} ")
        for name in _below(frame, kind)
        if name != kind
    ]


def _below(frame: "pd.DataFrame", kind: str) -> list[str]:
    """Return the columns of a kind of document: its name and what was changed of it."""
    return [name for name in frame.columns if name.split(".")[0] == kind]


def _all_parse(texts: list[str], dimension: str) -> bool:
    try:
        for text in texts:
            parse_quantity(text, dimension)
    except ValueError:
        return False
    return True
