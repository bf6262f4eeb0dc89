"""YAML text to plain data that remembers where every key stands. The one door to the YAML library.

A file describes one object, so the strict half of YAML is enough: one document of mappings, lists
and scalars read by the core schema of YAML 1.2 (`010` is ten, `yes` is a word). Anchors, aliases
and tags are refused: no description needs them, they are what YAML bombs are made of, and an alias
would make a mistake point at a line that only looks right. Size and depth are limited.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from accelsim.config.plain import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, plain
from accelsim.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the root of a document to one of its values."""

_LONGEST_KEY = 60
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[-+]?\d+(_\d+)*")
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(_\d+)*(\.\d*)?)([eE][-+]?\d+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Document:
    """Plain data with the origin of its keys."""

    value: Any
    """Mappings, lists, text, numbers, booleans and None."""
    places: Mapping[KeyPath, str]
    """Key path -> start of a message about it: `file:line:column: ` or the label of an override."""
    mistakes: tuple[str, ...] = ()
    """What is wrong with the text itself although it could be read, such as a repeated key."""

    def message(self, path: KeyPath, text: str) -> str:
        """Return `text` about the value at `path`, starting with where that value comes from."""
        known = next(path[:end] for end in range(len(path), -1, -1) if path[:end] in self.places)
        subject = f"{dotted(path)}: " if path else ""
        return f"{self.places[known]}{subject}{text}"

    def at(self, path: KeyPath) -> Any:
        """Return the value at `path`, or None where the document has nothing."""
        value = self.value
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def with_overrides(self, overrides: Mapping[str, Any], label: str) -> "Document":
        """Return the document with dotted keys replaced; text is read as YAML.

        A message about an overridden key starts with `label` and the key. What a file may not hold,
        an override may not either. Raises ConfigError for that, when a text is not YAML, or when a
        key leads through a value that has no keys.
        """
        document = self
        for key, value in plain_settings(overrides, label).items():
            path = tuple(key.split("."))
            read = _read_override(value, len(path), f"{label}{key}: ")
            document = document._with_value(path, read, label)
        return document

    def _with_value(self, path: KeyPath, value: Any, label: str) -> "Document":
        for end in range(1, len(path)):
            if not isinstance(self.at(path[:end]), dict | None):
                text = f"'{dotted(path[:end])}' is a value without keys of its own"
                raise ConfigError([f"{label}{dotted(path)}: {text}"])
        places = {key: place for key, place in self.places.items() if key[: len(path)] != path}
        for end in range(1, len(path) + 1):
            places.setdefault(path[:end], label)
        return replace(self, value=replaced_at(self.value, path, value), places=places)


def dotted(path: KeyPath) -> str:
    """Return `path` as a user writes it, such as `axes[0].values`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def plain_settings(settings: Mapping[str, Any], label: str) -> dict[str, Any]:
    """Return settings from Python as a file could hold them, their texts not yet read.

    settings: dotted key -> value. Raises ConfigError with a message that starts with `label`.
    """
    parts = [each for pair in settings.items() for each in pair]
    size = sum(len(each) for each in parts if isinstance(each, str))
    if size > MAX_BYTES:
        raise ConfigError([f"{label}found {size} characters, allowed are {MAX_BYTES}"])
    return {str(key): _plain_setting(key, value, label) for key, value in settings.items()}


def settings_below(root: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings whose keys start with `root.`, without it."""
    prefix = f"{root}."
    return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}


def _plain_setting(key: Any, value: Any, label: str) -> Any:
    if not isinstance(key, str):
        raise ConfigError([f"{label}found the key {key!r}, expected text"])
    try:
        return plain(value, key.count(".") + 1)
    except ValueError as error:
        raise ConfigError([f"{label}{_shortened(key)}: {error}"]) from None


def _shortened(key: str) -> str:
    return key if len(key) <= _LONGEST_KEY else f"{key[:_LONGEST_KEY]}..."


def _read_override(value: Any, depth: int, place: str) -> Any:
    """Return what the text of an override says, or any other value as it is."""
    if not isinstance(value, str):
        return value
    document = parse(value, lambda line, column: place)
    if document.mistakes:
        raise ConfigError(document.mistakes)
    try:
        return plain(document.value, depth)
    except ValueError as error:
        raise ConfigError([f"{place}{error}"]) from None


def replaced_at(value: Any, path: KeyPath, new: Any) -> Any:
    """Return `value` with `new` at `path`; mappings on the way are copied, or made."""
    if not path:
        return new
    branch = value or {}
    return {**branch, path[0]: replaced_at(branch.get(path[0]), path[1:], new)}


def parse(text: str, place: Callable[[int, int], str]) -> Document:
    """Read one YAML document from `text`.

    `place` turns a line and a column, both from 1, into the start of a message. Raises ConfigError
    when the text is not YAML or uses what is refused here.
    """
    try:
        return _Parser(text, place).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = place(mark.line + 1, mark.column + 1) if mark else place(1, 1)
        raise ConfigError([f"{where}not valid YAML: {error.problem or error.context}"]) from None
    except (yaml.YAMLError, UnicodeEncodeError):
        raise ConfigError([f"{place(1, 1)}not valid YAML: a character is not text"]) from None


class _Parser:
    """Builds the data from the stream of events, without ever expanding anything."""

    def __init__(self, text: str, place: Callable[[int, int], str]) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._place = place
        self._places: dict[KeyPath, str] = {(): place(1, 1)}
        self._mistakes: list[str] = []

    def document(self) -> Document:
        next(self._events)
        first = next(self._events)
        if isinstance(first, yaml.StreamEndEvent):
            return Document(None, self._places)
        value = self._value(next(self._events), ())
        next(self._events)
        extra = next(self._events)
        if not isinstance(extra, yaml.StreamEndEvent):
            raise self._refusal(extra, "found a second document, expected one")
        return Document(value, self._places, tuple(self._mistakes))

    def _value(self, event: Any, path: KeyPath) -> Any:
        self._check(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return event.value if event.style else _plain_scalar(event.value)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            self._check(event, path)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refusal(event, "found a mapping or a list as a key, expected a name")
            key = event.value
            here = (*path, key)
            if key in result:
                first = self._places[here].removesuffix(": ")
                text = f"{dotted(here)}: the key appears twice, first at {first}"
                self._mistakes.append(f"{self._start(event)}{text}")
            else:
                self._places[here] = self._start(event)
            result[key] = self._value(next(self._events), here)
        return result

    def _sequence(self, path: KeyPath) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            here = (*path, len(result))
            self._places[here] = self._start(event)
            result.append(self._value(event, here))
        return result

    def _check(self, event: Any, path: KeyPath) -> None:
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            text = "anchors and aliases are not allowed, write the value out"
            raise self._refusal(event, f"found '{sign}{event.anchor}'; {text}")
        if event.tag is not None:
            raise self._refusal(event, f"found the tag '{event.tag}'; tags are not allowed")
        if len(path) > MAX_DEPTH:
            raise self._refusal(event, f"nested deeper than the {MAX_DEPTH} levels allowed")

    def _refusal(self, event: Any, text: str) -> ConfigError:
        return ConfigError([f"{self._start(event)}{text}"])

    def _start(self, event: Any) -> str:
        return self._place(event.start_mark.line + 1, event.start_mark.column + 1)


def _plain_scalar(text: str) -> str | int | float | bool | None:
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text
