"""A recipe: a kernel and what is asked of its parameters, written `flash(tile_q=128)`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.config.document import Document, parse
from accelsim.config.loader import validate
from accelsim.errors import ConfigError
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import get_kernel

CODE = "code"
"""Key of a recipe that names a way of the library to use the machine, not a parameter."""
_EXAMPLE = "flash(tile_q=128)"
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Recipe:
    """A kernel and those of its parameters that are not left to it: a value, free of any machine.

    `Recipe("flash", tile_q=128)` and `Recipe.parse("flash(tile_q=128)")` are equal. What is not
    given is chosen by the library of the machine, or by the kernel. `code` among the settings names
    one of the ways in which the library's kernels use the machine.
    """

    kernel: str
    """Name of the kernel."""
    pairs: tuple[tuple[str, Any], ...]
    """Key and value of all that is given, in the order of the keys."""

    def __init__(self, kernel: str, /, **settings: Any) -> None:
        object.__setattr__(self, "kernel", kernel)
        pairs = sorted((key, _frozen(value)) for key, value in settings.items())
        object.__setattr__(self, "pairs", tuple(pairs))

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """Return the recipe that is written so; raises ConfigError for what is none."""
        name, bracket, rest = (part.strip() for part in text.partition("("))
        if bracket and not rest.endswith(")"):
            raise _not_a_recipe(text, "no closing bracket")
        if not name or ")" in name:
            raise _not_a_recipe(text, "no name of a kernel")
        inside = rest.removesuffix(")").strip()
        settings: dict[str, Any] = {}
        for part in split_recipes(inside) if inside else ():
            key, value = _setting(text, part)
            if key in settings:
                raise _not_a_recipe(text, f"'{key}' twice")
            settings[key] = value
        return cls(name, **settings)

    @classmethod
    def of(cls, recipe: "Recipe | str") -> "Recipe":
        """Return a recipe as it is, or the one that a text stands for."""
        return recipe if isinstance(recipe, Recipe) else cls.parse(recipe)

    @property
    def settings(self) -> dict[str, Any]:
        """Key -> value of all that is given."""
        return dict(self.pairs)

    @property
    def code(self) -> str:
        """How the machine is used; empty: as its file says."""
        return str(self.settings.get(CODE) or "")

    def updated(self, settings: Mapping[str, Any]) -> "Recipe":
        """Return the recipe with some settings replaced or added."""
        return Recipe(self.kernel, **{**self.settings, **settings})

    @property
    def algorithm(self) -> type[Kernel]:
        """The kernel itself; raises UnknownNameError."""
        return get_kernel(self.kernel)

    def parameters(self, label: str | None = None) -> Any:
        """Return the checked parameters of the kernel; raises ConfigError, UnknownNameError.

        A message starts with `label`; absent: with the name of the kernel.
        """
        label = f"{self.kernel}: " if label is None else label
        given = {key: _thawed(value) for key, value in self.pairs if key != CODE}
        document = Document({}, {(): label}).with_overrides(given, label)
        return validate(self.algorithm.parameters, document)

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={_written(value)}" for key, value in self.pairs)
        return f"{self.kernel}({settings})" if settings else self.kernel

    def __repr__(self) -> str:
        return f"Recipe.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str]:
        return self.kernel, str(self)


def split_recipes(text: str) -> Iterator[str]:
    """Yield the parts of a list, separated by commas that no bracket and no quote holds."""
    begin, depth, quote = 0, 0, ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        elif letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]


def _setting(text: str, part: str) -> tuple[str, Any]:
    """Return key and value of a part of the recipe `text`."""
    key, equals, value = (each.strip() for each in part.partition("="))
    if not equals or not key.isidentifier():
        raise _not_a_recipe(text, f"'{part.strip()}' where key=value is expected")
    return key, parse(value, lambda line, column: f"recipe '{text}': {key}: ").value


def _not_a_recipe(text: str, found: str) -> ConfigError:
    hint = "in a YAML list, put quotes around what has brackets"
    return ConfigError(
        [f"recipe '{text}': found {found}; allowed: a kernel, such as {_EXAMPLE}; {hint}"]
    )


def _frozen(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(_frozen(each) for each in value)
    return value


def _thawed(value: Any) -> Any:
    """Return a value as `Document` takes it; a text is not read again."""
    if isinstance(value, tuple):
        return [_thawed(each) for each in value]
    return json.dumps(value) if isinstance(value, str) else value


def _written(value: Any) -> str:
    """Return a value as YAML would be read, without quotes where it reads as itself."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str):
        plain = value.replace("/", "").replace("-", "").replace(".", "").replace("_", "").isalnum()
        is_itself = plain and parse(value, lambda line, column: "").value == value
        return value if is_itself else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
