"""Fields of a machine that cost nothing in the model: what a sweep over them finds is their end."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from accelsim.errors import AccelsimError
from accelsim.sweeps.contents import Contents

_ROOT = "machine."


def free_keys(keys: Iterable[str], machines: Sequence[Contents]) -> tuple[str, ...]:
    """Return those of the swept `keys` that are numbers of the machine and leave its area as it is.

    machines: contents of the machines of the sweep; each key is changed alone on the first.
    """
    return tuple(key for key in keys if key.startswith(_ROOT) and _is_free(key, machines))


def _is_free(key: str, machines: Sequence[Contents]) -> bool:
    path = key.removeprefix(_ROOT).split(".")
    values = list(dict.fromkeys(_value_at(each, path) for each in machines))
    if len(values) < 2 or not all(_is_number(value) for value in values):
        return False
    areas = {_area_mm2(_changed(machines[0], path, value)) for value in values}
    return len(areas) == 1 and None not in areas


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _value_at(contents: Contents, path: Sequence[str]) -> Any:
    value: Any = contents
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return None if isinstance(value, dict | list) else value


def _changed(contents: Contents, path: Sequence[str], value: Any) -> Contents:
    first, *rest = path
    return {**contents, first: _changed(contents[first], rest, value) if rest else value}


def _area_mm2(contents: Contents) -> float | None:
    """Return the area of a machine, or None of contents that are no machine."""
    from accelsim.accounts.area import area_by_component_mm2
    from accelsim.hardware.machine import MachineSpec
    from accelsim.loading import load_technology

    # A system has more: its host, which has no area.
    own = {key: contents[key] for key in contents if key in MachineSpec.model_fields}
    try:
        machine = MachineSpec.model_validate(own)
        return sum(area_by_component_mm2(machine, load_technology(machine.technology)).values())
    except (ValidationError, AccelsimError):
        return None
