"""What a record has for tables: the fields that its repr shows, and its properties."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from inspect import get_annotations
from typing import Any

from accelsim.runtime.kept import once_for_each

_SCALARS = (str, int, float, type(None))
"""Of which most columns are."""


def plain_columns(record: Any) -> dict[str, Any]:
    """Return every column of a dataclass as plain nested data for JSON."""
    return {name: _plain(getattr(record, name)) for name in column_names(type(record))}


@once_for_each
def column_names(kind: type) -> tuple[str, ...]:
    """Return the columns of a class: its own fields, its own properties, then those of its bases.

    Fields that the repr leaves out are none; neither are names that begin with an underscore.
    """
    return tuple(dict.fromkeys(name for each in kind.__mro__ for name in _own(each, kind)))


def _own(base: type, kind: Any) -> Iterator[str]:
    declared = get_annotations(base)
    yield from (each.name for each in fields(kind) if each.repr and each.name in declared)
    properties = (name for name, value in vars(base).items() if isinstance(value, property))
    yield from (name for name in properties if not name.startswith("_"))


def _plain(value: Any) -> Any:
    if isinstance(value, _SCALARS):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value
