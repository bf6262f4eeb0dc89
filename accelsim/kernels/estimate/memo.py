"""Choices that were made before: a sweep or a layer asks for the same ones again and again."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from pydantic import BaseModel

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


_texts: dict[int, tuple[BaseModel, str]] = {}
"""Specs that were asked for last, by their identity, with their text: they do not change."""
_MOST_TEXTS = 64


def _key(argument: Any) -> Any:
    if not isinstance(argument, BaseModel):
        return argument
    known, text = _texts.get(id(argument), (None, ""))
    if known is not argument:
        if len(_texts) >= _MOST_TEXTS:
            _texts.clear()
        text = argument.model_dump_json()
        _texts[id(argument)] = argument, text
    return text
