"""What is asked of a draft: `draft=smollm2-135m, linear=tender, length=4`."""

from functools import partial
from typing import Any, Literal

from pydantic import Field

from accelsim.config.document import Document, parse
from accelsim.config.loader import validate
from accelsim.config.spec import Spec
from accelsim.errors import ConfigError
from accelsim.library.recipe import split_recipes

LONGEST = 16
"""Tokens of the longest draft."""
_LABEL = "speculate: "


class Drafting(Spec):
    """A model that drafts for another on the same devices."""

    draft: str
    """Model: a shipped name, a config.json, or a folder with one."""
    length: int | None = Field(default=None, ge=1, le=LONGEST)
    """Tokens of a draft; absent: as many as give the shortest time for a token."""
    linear: str | None = None
    """Kernel of the draft's products; absent: the library's."""
    attention: str | None = None
    """Kernel of the draft's attention; absent: the library's."""
    weights: str | None = None
    """Format of the draft's linear maps; absent: the file's."""
    kv: str | None = None
    """Format of the draft's KV cache; absent: that of activations."""
    acceptance: float | list[float] | str | None = None
    """How many tokens are kept: a rate, rates by position, or the JSON of `accelsim quality`."""
    sampling: Literal["sampled", "greedy"] = "sampled"
    """Which acceptance counts where both are measured: of draws, or of most likely tokens."""


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
