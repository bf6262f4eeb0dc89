"""A file of comma-separated values to checked rows, with every mistake by file and line."""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from accelsim.errors import FILE_ERRORS, ConfigError, did_you_mean, reason_of
from accelsim.validation.reference import Row

R = TypeVar("R", bound=Row)

MAX_BYTES = 64 * 1024 * 1024
_MOST_MISTAKES = 10
_READER_FIELDS = {"line"}
_QUOTED = re.compile(r"'([^']*)'")


def read_rows(path: Path, model: type[R]) -> list[R]:
    """Return the rows of a file; raises ConfigError with its first mistakes."""
    lines = _cells(path)
    number, header = next(lines, (1, []))
    if not header:
        raise ConfigError([f"{path}:1: the file is empty, expected the columns {_names(model)}"])
    _check_header(f"{path}:{number}: ", header, model)
    rows: list[R] = []
    mistakes: list[str] = []
    for number, cells in lines:
        found = _row(f"{path}:{number}: ", number, header, cells, model)
        if isinstance(found, list):
            mistakes += found
        else:
            rows.append(found)
    if mistakes:
        raise ConfigError(_first(mistakes))
    if not rows:
        raise ConfigError([f"{path}:{number}: found no rows below the names of the columns"])
    return rows


def _cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and stripped cells of every line that is not blank."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise ConfigError([f"{path}:{reader.line_num}: not comma-separated: {error}"]) from None


def _text(path: Path) -> str:
    if not os.path.isfile(path):
        found = "found no regular file" if os.path.exists(path) else "no such file"
        raise ConfigError([f"{path}: {found}"])
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError([f"{path}: larger than the {MAX_BYTES} bytes allowed"])
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: byte {error.start} is not text in UTF-8"]) from None
    except FILE_ERRORS as error:
        raise ConfigError([f"{path}: cannot be read: {reason_of(error)}"]) from None


def _columns(model: type[Row]) -> dict[str, bool]:
    """Column -> whether a file must have it."""
    return {
        name: field.is_required()
        for name, field in model.model_fields.items()
        if name not in _READER_FIELDS
    }


def _names(model: type[Row]) -> str:
    return ", ".join(_columns(model))


def _check_header(place: str, header: Sequence[str], model: type[Row]) -> None:
    columns = _columns(model)
    for name in header:
        if header.count(name) > 1 and name in columns:
            raise ConfigError([f"{place}the column '{name}' appears twice"])
    missing = [name for name, is_required in columns.items() if is_required and name not in header]
    if missing:
        unused = [name for name in header if name not in columns]
        listed = ", ".join(f"'{name}'{did_you_mean(name, unused)}" for name in missing)
        raise ConfigError([f"{place}missing column {listed}; expected: {_names(model)}"])


def _row(
    place: str, number: int, header: Sequence[str], cells: Sequence[str], model: type[R]
) -> R | list[str]:
    """Return the row of a line, or its mistakes."""
    if len(cells) != len(header):
        return [f"{place}found {len(cells)} values for {len(header)} columns"]
    named = zip(header, cells, strict=True)
    given = {name: text for name, text in named if text and name in _columns(model)}
    try:
        return model.model_validate_strings({**given, "line": str(number)})
    except ValidationError as error:
        return [f"{place}{_mistake(each)}" for each in error.errors(include_url=False)]


def _mistake(detail: Any) -> str:
    """Return what is wrong with one value, in the words of a table."""
    if not detail["loc"]:
        return str(detail["ctx"]["error"])
    column, found = detail["loc"][0], detail["input"]
    match detail["type"]:
        case "missing":
            return f"{column}: found no value"
        case "literal_error" | "enum":
            allowed = detail["ctx"]["expected"]
            hint = did_you_mean(str(found), _QUOTED.findall(allowed))
            return f"{column}: found '{found}'{hint}; allowed: {allowed}"
        case "value_error":
            return f"{column}: {detail['ctx']['error']}"
    message = str(detail["msg"])
    expected = message.removeprefix("Input should be ").partition(", unable to")[0]
    noun = "a value " if expected.startswith(("greater", "less")) else ""
    return f"{column}: found '{found}', expected {noun}{expected}"


def _first(mistakes: list[str]) -> list[str]:
    more = len(mistakes) - _MOST_MISTAKES
    tail = [f"and {more} more mistakes"] if more > 0 else []
    return mistakes[:_MOST_MISTAKES] + tail
