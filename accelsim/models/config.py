"""The keys of a `config.json`: each is read once, and what nobody read is refused by its name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from accelsim.errors import ConfigError, did_you_mean

_MISSING: Any = object()
_LONGEST_SHOWN = 60


class Config:
    """A mapping of a config file that notes which keys were read, and every mistake.

    A value that is wrong is noted and replaced by one that lets the reading go on; `finish` raises
    all mistakes together, those of keys that nobody read included.
    """

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        """values: what the file holds; place: how a message about it begins, such as `file: `."""
        self._values, self._place = values, place
        self._read: set[str] = set()
        self._sections: list[Config] = []
        self._mistakes: dict[str, str] = {}

    def has(self, key: str) -> bool:
        """Whether the key is there and has a value."""
        return self._values.get(key) is not None

    def integer(self, key: str, default: int = _MISSING, least: int = 1) -> int:
        """Return a number of at least `least`; the default where the key or its value is absent."""
        expected = f"an integer from {least} on"
        return int(self._checked(key, default, max(1, least), expected, _is_integer, least))

    def optional_integer(self, key: str) -> int | None:
        """Return a number of at least one, or None where the key or its value is absent."""
        self._read.add(key)
        return self.integer(key) if self.has(key) else None

    def optional_number(self, key: str) -> float | None:
        """Return a number above zero, or None where the key or its value is absent."""
        self._read.add(key)
        if not self.has(key):
            return None
        return float(self._checked(key, _MISSING, 1.0, "a number above 0", _is_positive))

    def flag(self, key: str, default: bool = False) -> bool:
        """Return true or false; the default where the key or its value is absent."""
        return bool(self._checked(key, default, False, "true or false", _is_flag))

    def text(self, key: str, allowed: Sequence[str], default: str = _MISSING) -> str:
        """Return one of the allowed words; the default where the key or its value is absent."""
        expected = " or ".join(f"'{each}'" for each in allowed)
        return str(self._checked(key, default, allowed[0], expected, _is_among, allowed))

    def texts(self, key: str, allowed: Sequence[str], length: int) -> list[str] | None:
        """Return a list of so many of the allowed words, or None where the key is absent."""
        self._read.add(key)
        if not self.has(key):
            return None
        expected = f"a list of {length} out of {', '.join(allowed)}"
        found = self._checked(key, _MISSING, None, expected, _is_list_of, length, allowed)
        return [allowed[0]] * length if found is None else list(found)

    def integers(self, key: str, length: int | None = None) -> list[int] | None:
        """Return a list of integers, of so many if said; None where the key is absent."""
        self._read.add(key)
        if not self.has(key):
            return None
        expected = "a list of integers" if length is None else f"a list of {length} integers"
        found = self._checked(key, _MISSING, None, expected, _is_integers, length)
        return [0] * (length or 0) if found is None else list(found)

    def raw(self, key: str) -> Any:
        """Return what is there, unchecked, or None."""
        self._read.add(key)
        return self._values.get(key)

    def mapping(self, key: str) -> dict[str, Any]:
        """Return the mapping below a key as it is, an empty one where it is absent."""
        return dict(self._checked(key, {}, {}, "a mapping", _is_mapping))

    def section(self, key: str) -> "Config":
        """Return the mapping below a key, an empty one where it is absent, to be read in turn."""
        section = Config(self.mapping(key), f"{self._place}{key}.")
        self._sections.append(section)
        return section

    def expect(self, key: str, *allowed: Any) -> None:
        """Check a key that is understood with these values only; it may be absent or null."""
        self._read.add(key)
        if self.has(key) and not any(_is_same(self._values[key], each) for each in allowed):
            expected = " or ".join(json.dumps(each) for each in allowed)
            self.refuse(
                key,
                f"found {_shown(self._values[key])}, which is not understood; "
                f"understood: {expected}",
            )

    def ignore(self, *keys: str) -> None:
        """Note keys whose values change neither sizes nor work."""
        self._read.update(keys)

    def refuse(self, key: str, text: str) -> None:
        """Note a mistake at a key; the first one of a key stands."""
        self._read.add(key)
        self._mistakes.setdefault(key, f"{self._place}{key}: {text}")

    def contradict(self, key: str, text: str) -> None:
        """Note that a key does not go with others, unless a mistake may be the reason."""
        if not self._mistakes:
            self.refuse(key, text)

    def mistakes(self) -> list[str]:
        """Return what was noted here and in sections, and a line for each key nobody read."""
        unread = [key for key in self._values if key not in self._read]
        below = [each for section in self._sections for each in section.mistakes()]
        return [*self._mistakes.values(), *below, *(self._unread(key) for key in unread)]

    def finish(self) -> None:
        """Raise ConfigError with all mistakes, if there are any."""
        found = self.mistakes()
        if found:
            raise ConfigError(found)

    def _unread(self, key: str) -> str:
        known = self._read - set(self._values)
        return (
            f"{self._place}{key}: found {_shown(self._values[key])} under a key that is not "
            f"understood here{did_you_mean(key, known)}"
        )

    def _checked(
        self, key: str, default: Any, stand_in: Any, expected: str, is_right: Any, *args: Any
    ) -> Any:
        self._read.add(key)
        value = self._values.get(key)
        if value is None and default is not _MISSING:
            return default
        if value is None:
            self.refuse(key, f"missing; expected: {expected}")
            return stand_in
        if not is_right(value, *args):
            self.refuse(key, f"found {_shown(value)}, expected {expected}")
            return stand_in
        return value


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_among(value: Any, allowed: Sequence[str]) -> bool:
    return isinstance(value, str) and value in allowed


def _is_list_of(value: Any, length: int, allowed: Sequence[str]) -> bool:
    is_list = isinstance(value, list) and len(value) == length
    return is_list and all(_is_among(each, allowed) for each in value)


def _is_integers(value: Any, length: int | None) -> bool:
    is_list = isinstance(value, list) and length in (None, len(value))
    return is_list and all(_is_integer(each, 0) for each in value)


def _is_same(found: Any, allowed: Any) -> bool:
    """Whether two values are equal, where true is not the number one."""
    return bool(found == allowed) and isinstance(found, bool) == isinstance(allowed, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
