"""A step of a model: which tokens of which sequences it computes at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from accelsim.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class Sequences:
    """Equal sequences with tokens to compute."""

    new: int
    """Tokens that are computed now."""
    cached: int = 0
    """Tokens before them, whose keys and values are there."""
    count: int = 1
    sampled: int = 1
    """Last tokens of a sequence that need logits: none of a chunk within a prompt, all of a draft
    that is checked."""

    def __post_init__(self) -> None:
        """Refuse what no step can have; raises WorkloadError."""
        least = {"new": 1, "cached": 0, "count": 1, "sampled": 0}
        for name, bound in least.items():
            found = getattr(self, name)
            if found < bound:
                raise WorkloadError(f"step: {name}: found {found}, allowed: {bound} or more")
        if self.sampled > self.new:
            raise WorkloadError(
                f"step: sampled: found {self.sampled} with {self.new} new tokens, "
                f"allowed: at most as many"
            )


@dataclass(frozen=True, slots=True)
class Step:
    """Sequences whose new tokens go through the model together.

    A prefill, a decode step, a chunk of a prompt beside decodes and the check of a draft differ in
    nothing but these numbers.
    """

    sequences: tuple[Sequences, ...]

    def __post_init__(self) -> None:
        """Refuse an empty step; raises WorkloadError."""
        if not self.sequences:
            raise WorkloadError("step: found no sequences, allowed: one or more")

    @classmethod
    def prefill(cls, batch: int, prompt: int) -> "Step":
        """Return the step that computes whole prompts."""
        return cls((Sequences(prompt, count=batch),))

    @classmethod
    def decode(cls, batch: int, cached: int) -> "Step":
        """Return the step that computes one token of each sequence."""
        return cls((Sequences(1, cached, batch),))

    @classmethod
    def of(cls, sequences: Iterable[Sequences]) -> "Step":
        """Return the step of so many sequences; equal neighbours become one entry."""
        merged: list[Sequences] = []
        for each in sequences:
            last = merged[-1] if merged else None
            if last and (last.new, last.cached, last.sampled) == (
                each.new,
                each.cached,
                each.sampled,
            ):
                merged[-1] = Sequences(each.new, each.cached, last.count + each.count, each.sampled)
            else:
                merged.append(each)
        return cls(tuple(merged))

    @property
    def is_decode(self) -> bool:
        """Whether each sequence gets tokens behind those it had, so that a like step follows."""
        return all(each.cached and each.sampled for each in self.sequences)

    @property
    def tokens(self) -> int:
        """Rows of the products: new tokens of all sequences."""
        return sum(each.new * each.count for each in self.sequences)

    @property
    def longest(self) -> int:
        """New and cached tokens of the longest sequence."""
        return max(each.new + each.cached for each in self.sequences)

    @property
    def sampled_rows(self) -> int:
        """Rows that need logits."""
        return sum(each.sampled * each.count for each in self.sequences)
