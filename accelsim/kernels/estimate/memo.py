"""Choices that were made before: a sweep or a layer asks for the same ones again and again."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from pydantic import BaseModel

from accelsim.runtime.kept import once_for_each

_T = TypeVar("_T")
_MOST = 4096
"""Choices that are kept; then all are forgotten."""


def remembered(choose: Callable[..., _T]) -> Callable[..., _T]:
    """Call `choose` once for equal arguments. What it raises is not kept.

    Arguments are specs and plain values; functions among them must follow from the others.
    """
    known: dict[tuple[Any, ...], _T] = {}

    @wraps(choose)
    def chosen(*arguments: Any) -> _T:
        key = tuple(_key(each) for each in arguments if not callable(each))
        if key not in known:
            if len(known) >= _MOST:
                known.clear()
            known[key] = choose(*arguments)
        return known[key]

    return chosen


@once_for_each
def _text_of(spec: BaseModel) -> str:
    return spec.model_dump_json()


def _key(argument: Any) -> Any:
    return _text_of(argument) if isinstance(argument, BaseModel) else argument
