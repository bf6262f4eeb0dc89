"""Choices that were made before: a sweep or a layer asks for the same ones again and again."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from pydantic import BaseModel

_T = TypeVar("_T")
_MOST = 4096
"""Choices that are kept; then all are forgotten."""


def remembered(choose: Callable[..., _T]) -> Callable[..., _T]:
    """Call choose(*specs) once for equal specs. What it raises is not kept."""
    known: dict[tuple[str, ...], _T] = {}

    @wraps(choose)
    def chosen(*specs: BaseModel) -> _T:
        key = tuple(spec.model_dump_json() for spec in specs)
        if key not in known:
            if len(known) >= _MOST:
                known.clear()
            known[key] = choose(*specs)
        return known[key]

    return chosen
