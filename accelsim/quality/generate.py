"""Greedy generation with a kernel in every layer, and in FP32.

A text is decided token by token, and yet it need not be computed token by token: a pass over the
prompt and a guess of what follows says which token comes after each of the guess, and that is right
up to the first token where both differ, since no step sees what comes after it. There the guess is
mended and made anew from there on by the model in FP32, and read again. So kernels compute all
steps of a layer as one generation, as `quality` has them, and what they learn from their first
steps is what they would learn. The result is that of decoding one token after the other; a pass
without a difference ends it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.quality.chosen import choose_kernels
from accelsim.quality.layers import LayerCost, layer_costs
from accelsim.quality.overflow import warn_of_overflow
from accelsim.quality.passages import Writing
from accelsim.quality.passes import KernelNetwork, Window
from accelsim.quality.report import plain_cost
from accelsim.report.report import Report
from accelsim.simulation import shortages_explained
from accelsim.workload.model.forward import (
    KeyValueCache,
    final_states,
    logits_of,
    one_blas_thread,
)
from accelsim.workload.model.language import load_model
from accelsim.workload.model.llama import Array, LlamaWeights
from accelsim.workload.model.texts import read_texts

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport:
    """What a model wrote behind a prompt, with kernels and in FP32."""

    model: str
    text: str
    """Kind or file of the prompt."""
    text_sha256: str
    prompt: int
    """Tokens of the prompt."""
    token_ids: tuple[int, ...]
    fp32_token_ids: tuple[int, ...]
    written: str
    fp32_written: str
    passes: int
    """How often the guess was read."""
    attention: Report | None
    """Cost of the attention of all layers, a step for every token that was written."""
    linears: Report | None
    """The same of the linears."""
    prefill: Report | None
    """Cost of the attention of the prompt."""
    layers: tuple[LayerCost, ...]

    @property
    def same_tokens(self) -> int:
        """Tokens at the start that are those of FP32."""
        return _first_difference(self.token_ids, self.fp32_token_ids)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain nested data for JSON; costs have the keys of a report."""
        plain = ("model", "text", "text_sha256", "prompt", "written", "fp32_written", "passes")
        costs = ("attention", "linears", "prefill")
        return {name: getattr(self, name) for name in plain} | {
            "token_ids": list(self.token_ids),
            "fp32_token_ids": list(self.fp32_token_ids),
            "same_tokens": self.same_tokens,
            **{name: plain_cost(getattr(self, name)) for name in costs},
            "layers": [each.to_dict() for each in self.layers],
        }

    def __rich__(self) -> "Group":
        from accelsim.quality.display import generation_table

        return generation_table(self)


def generate(
    model: str,
    kernels: Kernels | Recipe | str,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    writing: Writing | None = None,
) -> GenerationReport:
    """Return the most likely tokens, one after the other, behind a prompt.

    All of the prompt but its last token is read at once; from that one on each step is decoded with
    `kernels` in every layer. Other arguments are those of `evaluate`. Warns of outputs that are not
    finite. Raises an AccelsimError for anything that is wrong with the input.
    """
    writing = Writing() if writing is None else writing
    chosen = choose_kernels(kernels, settings or {}, machine, writing.prefill)
    network, (source,) = load_model(model), read_texts(writing.text)
    writing.check_length(network)
    prompt, tokens = writing.prompt, writing.tokens
    ids = network.opened(network.token_ids(source.content, prompt))
    plain = _Plain(network.weights, ids, tokens)
    fp32_ids = plain.continued([])
    at_prompt = KernelNetwork(network, chosen)
    # A kernel may overflow its formats: what is not finite is counted, not warned about.
    with shortages_explained(chosen.names), np.errstate(over="ignore", invalid="ignore"):
        cache = plain.cache
        if at_prompt.reads_prompts:
            cache = at_prompt.network.cached(Window(ids + fp32_ids, prompt - 1))
        guess, passes = fp32_ids, 0
        while True:
            passes += 1
            behind = KernelNetwork(network, chosen)
            states = behind.network.states(Window(ids + guess, prompt - 1), cache)
            said = _most_likely(network.weights, states)
            same = _first_difference(said, guess)
            if same == tokens:
                break
            guess = plain.continued(said[: same + 1])
    warn_of_overflow(behind)
    return GenerationReport(
        model=network.name,
        text=source.name,
        text_sha256=source.sha256,
        prompt=prompt,
        token_ids=tuple(said),
        fp32_token_ids=tuple(fp32_ids),
        written=network.tokenizer.decode(said),
        fp32_written=network.tokenizer.decode(fp32_ids),
        passes=passes,
        layers=layer_costs(behind.attention),
        **behind.costs(source.name) | {"prefill": at_prompt.costs(source.name)["prefill"]},
    )


class _Plain:
    """The network in FP32 behind a prompt."""

    def __init__(self, weights: LlamaWeights, ids: Sequence[int], tokens: int) -> None:
        self._weights, self._ids, self._tokens = weights, ids, tokens
        self.cache = KeyValueCache(weights.config, len(ids) - 1 + tokens)
        """Of the prompt but its last token, which is the first to be decoded."""
        final_states(weights, ids[:-1], cache=self.cache)

    def continued(self, known: Sequence[int]) -> list[int]:
        """Return known tokens and the most likely ones behind them, all that are wanted."""
        self.cache.tokens = len(self._ids) - 1
        written, read = list(known), [self._ids[-1], *known]
        while len(written) < self._tokens:
            states = final_states(self._weights, read, cache=self.cache)
            read = _most_likely(self._weights, states[-1:])
            written += read
        return written


@one_blas_thread()
def _most_likely(weights: LlamaWeights, states: Array) -> list[int]:
    """Return the most likely token behind each of the states [tokens, hidden]."""
    chosen: list[int] = logits_of(weights, states).argmax(axis=1).tolist()
    return chosen


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=True)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), len(one))
