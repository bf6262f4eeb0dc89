"""Equal requests to a model that start together."""

from dataclasses import dataclass

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture
from accelsim.models.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """So many prompts of a length, each of which asks for so many tokens."""

    batch: int = 1
    """Requests at a time."""
    prompt: int
    """Tokens of each prompt."""
    output: int = 1
    """Tokens that each request asks for; the prefill gives the first one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be; raises WorkloadError."""
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise WorkloadError(f"{name}: found {getattr(self, name)}, allowed: 1 or more")

    @property
    def tokens(self) -> int:
        """Tokens of a sequence at its end."""
        return self.prompt + self.output

    @property
    def output_tokens(self) -> int:
        """Tokens that all requests ask for."""
        return self.batch * self.output

    @property
    def cached(self) -> range:
        """Tokens of a sequence before each step after the prefill."""
        return range(self.prompt, self.tokens - 1)

    @property
    def prefill(self) -> Step:
        """The step that computes the prompts."""
        return Step.prefill(self.batch, self.prompt)

    def decode(self, cached: int) -> Step:
        """Return a step that gives each request a token."""
        return Step.decode(self.batch, cached)

    def largest_steps(self, sequences: int) -> tuple[Step, Step]:
        """Return the steps of so many of these requests that may need most memory."""
        return Step.prefill(sequences, self.prompt), Step.decode(sequences, self.tokens - 1)


def check_length(architecture: Architecture, tokens: int) -> None:
    """Refuse requests of more tokens than the model knows; raises WorkloadError."""
    if architecture.max_tokens is not None and tokens > architecture.max_tokens:
        raise WorkloadError(
            f"prompt and output: found {tokens} tokens together, "
            f"allowed: {architecture.max_tokens}, the longest context of the model"
        )
