"""Values that Python code gives as a setting, made plain: what a YAML file could hold.

Numbers of NumPy stand for the number that they are, arrays for a list, paths for their text.
"""

import os
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from pydantic import BeforeValidator

MAX_BYTES = 1024 * 1024
"""Of a file, and of all settings together."""
MAX_DEPTH = 20
"""Levels of keys and lists below the root of a document."""
MAX_DIGITS = 99
"""Of an integer; a longer one in a file is text."""


def plain(value: Any, depth: int = 0) -> Any:
    """Return `value` as mappings, lists, text, numbers, booleans and None; it lies `depth` deep.

    Raises ValueError for anything else and for what is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than the {MAX_DEPTH} levels allowed")
    if isinstance(value, Mapping):
        return {_key(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, depth + 1) for each in value]
    if hasattr(value, "tolist") and not isinstance(value, Real):
        return plain(value.tolist(), depth)
    return _scalar(value)


Plain = BeforeValidator(plain)
"""For a field of a model that Python code may give numbers of NumPy."""


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"found the key {key!r}, expected text")
    return str(key)


def _scalar(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Integral):
        return _integer(int(value))
    if isinstance(value, Real):
        return float(value)
    raise ValueError(
        f"found a value of type {type(value).__name__}, expected text, a number, true or false, "
        "a list or a mapping"
    )


def _integer(value: int) -> int:
    if abs(value) >= 10**MAX_DIGITS:
        raise ValueError(f"found an integer of more than {MAX_DIGITS} digits")
    return value
