"""A report as a text from which the same report is read again, to the last digit."""

import json
from fractions import Fraction
from typing import Any

from accelsim.report.report import Report

_KEY = "n/d"
"""Key of a mapping that stands for a fraction."""
_PLAIN = (str, int, float, bool, type(None))
_LEFT_OUT = ("accuracy", "parts", "timeline", "reads")
"""What a run of one problem without tensors has none of."""


class UnwritableError(TypeError):
    """A report has a value that its text could not give back."""


def written(report: Report) -> str:
    """Return the text of a report of one problem without tensors; raises UnwritableError."""
    values = dict(vars(report))
    extra = [name for name in _LEFT_OUT if values.pop(name)]
    if extra:
        raise UnwritableError(f"{report.workload}: found {', '.join(extra)}")
    return json.dumps(_plain(values), separators=(",", ":"))


def read(text: str) -> Report:
    """Return the report of a text; raises ValueError, TypeError or KeyError for any other text."""
    return Report(**json.loads(text, object_hook=_value), accuracy=None)


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) is Fraction:
        return {_KEY: f"{value.numerator}/{value.denominator}"}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict) and all(type(name) is str and name != _KEY for name in value):
        return {name: _plain(each) for name, each in value.items()}
    raise UnwritableError(f"found {value!r} of type {type(value).__name__}")


def _value(members: dict[str, Any]) -> Any:
    return Fraction(members[_KEY]) if _KEY in members else members
