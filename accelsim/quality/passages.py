"""What a real model reads of texts, and what it writes behind one."""

from dataclasses import dataclass
from pathlib import Path

from accelsim.errors import WorkloadError
from accelsim.library.recipe import Recipe
from accelsim.workload.model.language import LanguageModel
from accelsim.workload.model.texts import DEFAULT_KIND, Sources

FEWEST_TOKENS = 2
"""With one prediction a mean has no standard error."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The start of texts, in windows that know nothing of each other."""

    text: Sources = DEFAULT_KIND
    """A kind or a file, one or several."""
    tokens: int = 1024
    """Tokens to read of every text; as many are predicted."""
    window: int = 1024
    """Tokens that the model sees at once."""
    prompt: int = 0
    """Tokens at the start of a window that are read at once, before those behind it are decoded one
    by one; only these predict the token after each."""
    prefill: Recipe | str | None = None
    """Kernel for the attention of prompts; None: FP32."""

    def __post_init__(self) -> None:
        """Refuse sizes that leave nothing to predict or decode; raises WorkloadError."""
        for name, fewest in (("tokens", FEWEST_TOKENS), ("window", 1)):
            _check_least(name, getattr(self, name), fewest)
        if self.prefill is not None and self.prompt == 0:
            raise WorkloadError(
                f"prefill: found {self.prefill} and no prompt; allowed: with --prompt, the tokens "
                "to prefill"
            )
        shortest = min(self.tokens, self.tokens % self.window or self.window)
        if not 0 <= self.prompt < shortest:
            raise WorkloadError(
                f"prompt: found {self.prompt} tokens, allowed: 0 to {shortest - 1}, so that a "
                f"token of every window is decoded; the shortest has {shortest}"
            )


@dataclass(frozen=True, slots=True)
class Writing:
    """Tokens behind a prompt, the start of a text."""

    text: str | Path = DEFAULT_KIND
    """A kind or a file."""
    prompt: int = 512
    """Tokens of the prompt, read at once but for the last one."""
    tokens: int = 64
    """Tokens to write."""
    prefill: Recipe | str | None = None
    """Kernel for the attention of the prompt; None: FP32."""

    def __post_init__(self) -> None:
        """Refuse what cannot be read or written; raises WorkloadError."""
        for name, fewest in (("prompt", 2), ("tokens", 1)):
            _check_least(name, getattr(self, name), fewest)

    def check_length(self, network: LanguageModel, more: int = 0) -> None:
        """Refuse more tokens than a model reads at once; raises WorkloadError.

        more: tokens of a draft that may be read behind those to write.
        """
        longest, tokens = network.weights.config.context, self.tokens + more
        if self.prompt + tokens > longest:
            raise WorkloadError(
                f"found a prompt of {self.prompt} tokens and {tokens} behind it, allowed: "
                f"{longest} together, as many as model '{network.name}' reads at once"
            )


def _check_least(name: str, found: int, fewest: int) -> None:
    if found < fewest:
        raise WorkloadError(f"{name}: found {found}, allowed: {fewest} or more")
