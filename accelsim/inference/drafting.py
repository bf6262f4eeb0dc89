"""The text of a draft: `draft=smollm2-135m, linear=tender, length=4`."""

from functools import partial
from typing import Any

from accelsim.config.document import Document, parse
from accelsim.config.loader import validate
from accelsim.errors import ConfigError
from accelsim.library.recipe import split_recipes
from accelsim.workload.drafting import Drafting

_LABEL = "speculate: "


def drafting_of(text: str) -> Drafting:
    """Return what a text asks for, `key=value` separated by commas; raises ConfigError."""
    found: dict[str, Any] = {}
    for part in split_recipes(text):
        key, _, value = (each.strip() for each in part.partition("="))
        if not value or not key.isidentifier():
            raise ConfigError(
                [
                    f"speculate '{text}': found '{part.strip()}' where key=value is expected; "
                    f"allowed: such as draft=smollm2-135m, length=4"
                ]
            )
        if key in found:
            raise ConfigError([f"speculate '{text}': found '{key}' twice; allowed: once"])
        found[key] = parse(value, partial(_place, key)).value
    return validate(Drafting, Document(found, {(): _LABEL}))


def _place(key: str, _line: int, _column: int) -> str:
    return f"{_LABEL}{key}: "
