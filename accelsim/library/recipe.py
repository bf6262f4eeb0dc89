"""A recipe: a kernel and what is asked of its parameters, written `flash(tile_q=128)`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, isnan
from typing import Any

from accelsim.config.document import Document, parse
from accelsim.config.loader import validate
from accelsim.config.mistakes import show
from accelsim.config.plain import plain
from accelsim.config.spec import Spec
from accelsim.errors import ConfigError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import get_kernel, is_shipped

CODE = "code"
"""Key of a recipe that names a way of the library to use the machine, not a parameter."""
EXAMPLE = "flash(tile_q=128)"
"""A recipe, for messages."""
LIBRARY = "library"
"""In the place of a recipe: the library of the machine picks it."""
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""
_PLAIN = str.maketrans("", "", "/-._")
"""Leaves out of a text what needs no quotes between letters and digits."""
_BEFORE_A_VALUE = frozenset("=,:" + _OPENING + _QUOTES)
"""What a quote follows that opens a text; elsewhere it is an apostrophe."""


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
        pairs = sorted((key, _frozen(kernel, key, value)) for key, value in settings.items())
        object.__setattr__(self, "pairs", tuple(pairs))

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """Return the recipe that is written so; raises ConfigError for what is none."""
        return _parsed(text)

    @classmethod
    def _parse(cls, text: str) -> "Recipe":
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

    @property
    def is_shipped(self) -> bool:
        """Whether the kernel is one of accelsim's own; raises UnknownNameError."""
        return is_shipped(self.algorithm)

    def parameters(self, label: str | None = None) -> Any:
        """Return the checked parameters of the kernel; raises ConfigError, UnknownNameError.

        A message starts with `label`; absent: with the name of the kernel.
        """
        label = f"{self.kernel}: " if label is None else label
        return _checked(self.algorithm.parameters, str(self), label)

    def estimated_cycles(self, problem: Any, machine: MachineSpec) -> float:
        """Return the estimate of a kernel that has one; raises DoesNotFitError."""
        kernel: Any = self.algorithm
        return float(kernel.estimated_cycles(problem, machine, self.parameters()))

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


@lru_cache(1024)
def _parsed(text: str) -> Recipe:
    return Recipe._parse(text)


@lru_cache(1024)
def _checked(parameters: type[Spec], recipe: str, label: str) -> Spec:
    # A text tells apart what compares equal, such as 1 and true.
    given = {key: _thawed(value) for key, value in _parsed(recipe).pairs if key != CODE}
    return validate(parameters, Document(given, {(): label}))


def asked_for(recipe: Recipe | str | None) -> Recipe | None:
    """Return what is asked for; None where the library of the machine is to pick."""
    return None if recipe is None or recipe == LIBRARY else Recipe.of(recipe)


def split_recipes(text: str) -> Iterator[str]:
    """Yield the parts of a list, separated by commas that no bracket and no quote holds."""
    begin, depth = 0, 0
    for place, letter in _unquoted(text):
        depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth == 0:
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]


def _unquoted(text: str) -> Iterator[tuple[int, str]]:
    """Yield place and letter of what stands outside quotes."""
    quote, before, is_escaped = "", "=", False
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and not is_escaped else quote
            is_escaped = letter == "\\" and quote == '"' and not is_escaped
        elif letter in _QUOTES and before in _BEFORE_A_VALUE:
            quote = letter
        else:
            yield place, letter
        before = before if letter.isspace() else letter


def _setting(text: str, part: str) -> tuple[str, Any]:
    """Return key and value of a part of the recipe `text`."""
    key, _, value = (each.strip() for each in part.partition("="))
    if not value or not key.isidentifier():
        raise _not_a_recipe(text, f"'{part.strip()}' where key=value is expected")
    return key, parse(value, lambda line, column: f"recipe '{text}': {key}: ").value


def _not_a_recipe(text: str, found: str) -> ConfigError:
    hint = "in a YAML list, put quotes around what has brackets"
    return ConfigError(
        [f"recipe '{text}': found {found}; allowed: a kernel, such as {EXAMPLE}; {hint}"]
    )


def _frozen(kernel: str, key: str, value: Any) -> Any:
    """Return a value that does not change, of plain types; raises ConfigError for what is none."""
    try:
        return _without_lists(plain(value))
    except ValueError:
        raise ConfigError(
            [
                f"recipe of {kernel}: {key}: found {show(value)}; "
                "allowed: a number, a text, true, false, null or a list of them"
            ]
        ) from None


def _without_lists(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("a mapping is no setting of a kernel")
    return tuple(map(_without_lists, value)) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    """Return a value as a document of YAML holds it."""
    return [_thawed(each) for each in value] if isinstance(value, tuple) else value


def _written(value: Any) -> str:
    """Return a value as YAML is read, without quotes where a text reads as itself."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str):
        return value if _reads_as_itself(value) else _quoted(value)
    if isinstance(value, float) and not isfinite(value):
        return ".nan" if isnan(value) else f"{'-' if value < 0 else ''}.inf"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value)


def _reads_as_itself(text: str) -> bool:
    letters = text.translate(_PLAIN)
    return letters.isascii() and letters.isalnum() and parse(text, lambda *_: "").value == text


def _quoted(text: str) -> str:
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    """Return a letter between double quotes of YAML."""
    if letter in '"\\':
        return "\\" + letter
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
