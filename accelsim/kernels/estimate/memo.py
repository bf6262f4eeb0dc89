"""Choices that were made before: a sweep or a layer asks for the same ones again and again."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from pydantic import BaseModel

_T = TypeVar("_T")
_Spec = TypeVar("_Spec", bound=BaseModel)
_MOST = 4096
"""Choices that are kept; then all are forgotten."""
_MOST_SPECS = 64
"""Specs of which something is kept; then all are forgotten."""


def once_for_each(make: Callable[[_Spec], _T]) -> Callable[[_Spec], _T]:
    """Call `make` once for a spec, which does not change; specs are told apart by identity."""
    known: dict[int, tuple[_Spec, _T]] = {}

    @wraps(make)
    def made(spec: _Spec) -> _T:
        own = known.get(id(spec))
        # Another spec may have the place of one that is gone, unless it is held.
        if own is None or own[0] is not spec:
            if len(known) >= _MOST_SPECS:
                known.clear()
            own = known[id(spec)] = spec, make(spec)
        return own[1]

    return made


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
