"""What a report is of, as a title: names, and what was changed of the things they stand for."""

from collections.abc import Mapping
from typing import Any

_LONGEST_VALUE = 24


def subject_of(machine: str, workload: str, settings: Mapping[str, Any]) -> str:
    """Return `workload on machine`, each with its changed fields, such as `name (q_len=8192)`.

    Keys of `settings` that are of neither are of the kernel, and left out.
    """
    changed = [_changed("workload.", workload, settings), _changed("machine.", machine, settings)]
    return " on ".join(changed)


def listed(values: Mapping[str, Any]) -> str:
    """Return `key=value, key=value`; a value that is long, such as a mapping, is cut to `...`."""
    return ", ".join(f"{key}={_short(value)}" for key, value in values.items())


def _changed(prefix: str, name: str, settings: Mapping[str, Any]) -> str:
    own = {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
    return f"{name} ({listed(own)})" if own else name


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else "..."
