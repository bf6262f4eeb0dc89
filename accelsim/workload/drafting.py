"""What is asked of a draft: a small model that writes what a large one then checks."""

from typing import Literal

from pydantic import Field

from accelsim.config.spec import Spec

LONGEST = 16
"""Tokens of the longest draft."""


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
