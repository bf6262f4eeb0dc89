"""A model with kernels in it that drafts for itself in FP32: what is written, what is accepted.

The draft writes some tokens one after the other, the target reads them at once and keeps the first
of them by the rule of `rejection`. What is written is a draw from the target's distribution,
whatever the draft is; the draft decides how many tokens a turn gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.quality.acceptance import LONGEST
from accelsim.quality.chosen import choose_kernels
from accelsim.quality.estimate import Values
from accelsim.quality.passages import Writing
from accelsim.quality.passes import KernelNetwork, Network, Window
from accelsim.quality.rejection import turn
from accelsim.simulation import shortages_explained
from accelsim.workload.model.forward import PLAIN, logits_of, one_blas_thread
from accelsim.workload.model.language import load_model
from accelsim.workload.model.llama import Array, LlamaWeights
from accelsim.workload.model.texts import read_texts

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationReport:
    """What a model wrote behind a prompt with a draft of its own."""

    model: str
    kernels: str
    """Recipes that the draft computes with."""
    text: str
    """Kind or file of the prompt."""
    prompt: int
    """Tokens of the prompt."""
    length: int
    """Tokens of a draft."""
    seed: int
    token_ids: tuple[int, ...]
    written: str
    accepted: tuple[int, ...]
    """Tokens of its draft that each turn kept."""

    @property
    def tokens_per_turn(self) -> float:
        """Mean tokens of a turn: those that were kept, and the target's own."""
        return 1 + float(np.mean(self.accepted))

    @property
    def accepted_shares(self) -> tuple[float, ...]:
        """Share of the turns that kept the first 1, 2, ... tokens of their draft."""
        kept = np.array(self.accepted)
        return tuple(float((kept >= place).mean()) for place in range(1, self.length + 1))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data for JSON."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return named | {
            "token_ids": list(self.token_ids),
            "accepted": list(self.accepted),
            "tokens_per_turn": self.tokens_per_turn,
            "accepted_shares": list(self.accepted_shares),
        }

    def __rich__(self) -> "Table":
        from accelsim.quality.display import speculation_table

        return speculation_table(self)


def speculate(
    model: str,
    kernels: Kernels | Recipe | str,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    writing: Writing | None = None,
    *,
    length: int = 4,
    seed: int = 0,
) -> SpeculationReport:
    """Return what a model writes behind a prompt, as many tokens as asked or some more.

    The draft is the model with `kernels` in it, the target is the model in FP32. Both draw at
    temperature 1. `length` is how many tokens a draft has. Other arguments are those of `generate`.
    Raises an AccelsimError for anything that is wrong with the input.
    """
    writing = Writing() if writing is None else writing
    if not 1 <= length <= LONGEST:
        raise WorkloadError(f"length: found {length}, allowed: 1 to {LONGEST} tokens of a draft")
    if seed < 0:
        raise WorkloadError(f"seed: found {seed}, allowed: 0 or more")
    chosen = choose_kernels(kernels, settings or {}, machine, writing.prefill)
    network, (source,) = load_model(model), read_texts(writing.text)
    writing.check_length(network, length)
    prompt, tokens = writing.prompt, writing.tokens
    ids = network.opened(network.token_ids(source.content, prompt))
    rng, room = np.random.default_rng(seed), tokens + 2 * length + 1
    weights = network.weights
    accepted: list[int] = []
    written: list[int] = []
    # A kernel may overflow its formats: no token is drawn from what is not finite.
    with shortages_explained(chosen.names), np.errstate(over="ignore", invalid="ignore"):
        draft = _Reader(KernelNetwork(network, chosen).network, weights, ids, room)
        target = _Reader(Network(weights, PLAIN, PLAIN), weights, ids, room)
        while len(written) < tokens:
            found = turn(draft.laws, target.laws, ids + written, length, rng)
            accepted.append(len(found) - 1)
            written += found
    return SpeculationReport(
        model=network.name,
        kernels=chosen.names,
        text=source.name,
        prompt=prompt,
        length=length,
        seed=seed,
        token_ids=tuple(written),
        written=network.tokenizer.decode(written),
        accepted=tuple(accepted),
    )


class _Reader:
    """A network over the keys and values of what it has read so far."""

    def __init__(
        self, network: Network, weights: LlamaWeights, prompt: Sequence[int], room: int
    ) -> None:
        self._network, self._weights = network, weights
        self._read = list(prompt[:-1])
        self._cache = network.cached(Window([*prompt, *[0] * room], len(self._read)))

    def laws(self, ids: Sequence[int], count: int) -> Values:
        """Return the distributions behind the last `count` of the tokens, [count, vocabulary]."""
        start = min(_common(self._read, ids), len(ids) - count)
        states = self._network.states(Window([*ids, 0], start), self._cache)
        self._read = list(ids)
        return _laws(self._weights, states[-count:])


@one_blas_thread()
def _laws(weights: LlamaWeights, states: Array) -> Values:
    logits = logits_of(weights, states).astype(np.float64)
    if not np.isfinite(logits).all():
        raise WorkloadError(
            "draft: found logits that are not finite; allowed: kernels whose output is finite"
        )
    laws = np.exp(logits - logits.max(axis=1, keepdims=True))
    normed: Values = laws / laws.sum(axis=1, keepdims=True)
    return normed


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens at the start are the same."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
