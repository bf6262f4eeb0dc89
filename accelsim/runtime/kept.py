"""What follows from objects that never change, made once for each of them."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar, TypeVarTuple

_Objects = TypeVarTuple("_Objects")
_T = TypeVar("_T")
_MOST = 64
"""Objects, or groups of them, of which something is kept; then all are forgotten."""


def once_for_each(make: Callable[[*_Objects], _T]) -> Callable[[*_Objects], _T]:
    """Call `make` once for the same objects, such as specs; equal ones are told apart.

    What it returns is shared, so nobody may write to it. What it raises is not kept.
    """
    known: dict[tuple[int, ...], tuple[tuple[*_Objects], _T]] = {}

    @wraps(make)
    def made(*objects: *_Objects) -> _T:
        key = tuple(map(id, objects))
        own = known.get(key)
        # The objects are held as long as what was made of them, so no other has their place.
        if own is None:
            own = objects, make(*objects)
            if len(known) >= _MOST:
                known.clear()
            known[key] = own
        return own[1]

    return made
