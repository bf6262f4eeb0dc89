"""A network with kernels in it and the same network in FP32, over the same tokens."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np

from accelsim.quality.attention import KernelAttention
from accelsim.quality.chosen import ChosenKernels
from accelsim.quality.hook import KernelHook
from accelsim.quality.kv_cache import CachedAttention
from accelsim.quality.linear import KernelLinear
from accelsim.quality.predictions import Predictions, compare_predictions
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.workload.model.forward import PLAIN, Hooks, KeyValueCache, final_states
from accelsim.workload.model.language import LanguageModel
from accelsim.workload.model.llama import Array, LlamaWeights

Progress = Callable[[int, int], None]
"""Takes the layers done and all layers."""


def ignored(_done: int, _total: int) -> None:
    """Take progress and do nothing."""


class Window(NamedTuple):
    """What a network reads at once, and what of it is judged."""

    ids: Sequence[int]
    """Of every token, and of the one after the last."""
    prompt: int = 0
    """Tokens at its start that are read at once before the others are decoded one by one; 0: all
    are read at once."""
    judged: int | None = None
    """Predictions at its end that are judged; None: those of all tokens behind the prompt."""

    @property
    def behind(self) -> int:
        """Tokens that are read behind the prompt."""
        return len(self.ids) - 1 - self.prompt

    @property
    def targets(self) -> Sequence[int]:
        """The tokens whose prediction is judged."""
        return self.ids[1 + self.first :]

    @property
    def first(self) -> int:
        """Number of the first token whose prediction of the next one is judged."""
        return self.prompt if self.judged is None else len(self.ids) - 1 - self.judged


class Network:
    """A network that reads windows, and hooks that compute it, others for prompts.

    Decoding the tokens behind a prompt one after the other and passing all of them through a layer
    before the next layer are the same: a step of a layer needs what the layers before made of this
    token and of earlier ones, and nothing of later tokens. So a layer computes all steps as one
    generation, and a kernel that learns from its steps learns from those before.
    """

    def __init__(self, weights: LlamaWeights, hooks: Hooks, prompt_hooks: Hooks) -> None:
        self._weights, self._hooks, self._prompt_hooks = weights, hooks, prompt_hooks

    def counted(self, advance: Callable[[], None]) -> "Network":
        """Return the same network, which says when it has passed a layer."""
        both = (_counted(each, advance) for each in (self._hooks, self._prompt_hooks))
        return Network(self._weights, *both)

    def cached(self, window: Window) -> KeyValueCache:
        """Return the keys and values of the prompt of a window, with room for what is behind it."""
        cache = KeyValueCache(self._weights.config, window.prompt + window.behind)
        final_states(self._weights, window.ids[: window.prompt], self._prompt_hooks, cache)
        return cache

    def states(self, window: Window, cache: KeyValueCache | None = None) -> Array:
        """Return the final states that predict what is judged, [tokens, hidden].

        The cache holds the prompt of the window; what it holds behind it is written over.
        """
        inputs = window.ids[:-1]
        if cache is None:
            return final_states(self._weights, inputs, self._hooks)[window.first :]
        cache.tokens = window.prompt
        states = final_states(self._weights, inputs[window.prompt :], self._hooks, cache)
        return states[window.first - window.prompt :]


class KernelNetwork:
    """A network with kernels in it; keeps what the kernels report.

    Kernels enter through the hooks of the forward pass: `KernelAttention` and `KernelLinear`.
    """

    def __init__(self, network: LanguageModel, chosen: ChosenKernels) -> None:
        told = network.name, chosen.linear
        self._name, self._weights = network.name, network.weights
        self.prefill = self.attention = self.linear = None
        self._cached = None if chosen.kv is None else CachedAttention(chosen.kv)
        if chosen.prefill is not None:
            self.prefill = KernelAttention(chosen.prefill, chosen.dtype, *told)
        if chosen.attention is not None:
            self.attention = KernelAttention(chosen.attention, chosen.dtype, *told)
        if chosen.linear is not None:
            head_dim = network.weights.config.head_dim
            self.linear = KernelLinear(chosen.linear, chosen.dtype, network.name, head_dim)

    @property
    def network(self) -> Network:
        """The network with these kernels."""
        linear, attention = self.linear or PLAIN.linear, self.attention or self._cached
        hooks, prompt_hooks = (
            Hooks(linear, each or PLAIN.attention) for each in (attention, self.prefill)
        )
        return Network(self._weights, hooks, prompt_hooks)

    @property
    def reads_prompts(self) -> bool:
        """Whether kernels compute anything of prompts."""
        return self.prefill is not None or self.linear is not None

    @property
    def nonfinite_outputs(self) -> int:
        """Elements of the kernels' outputs that are infinite or NaN."""
        return sum(hook.nonfinite_outputs for _, hook in self.parts)

    def costs(self, texts: str) -> dict[str, Report | None]:
        """Return `attention`, `linears` and `prefill`: a report of all layers and windows."""
        workload = f"{self._name} on {texts}"
        hooks = {"attention": self.attention, "linears": self.linear, "prefill": self.prefill}
        return {name: _combined(hook, workload) for name, hook in hooks.items()}

    @property
    def parts(self) -> Iterator[tuple[str, KernelHook]]:
        """What kernels compute."""
        hooks = {
            "attention": self.attention,
            "attention of prompts": self.prefill,
            "linears": self.linear,
        }
        yield from ((name, hook) for name, hook in hooks.items() if hook is not None)


class Passes:
    """Reads windows in FP32, and with each of several choices of kernels."""

    def __init__(
        self,
        network: LanguageModel,
        choices: Sequence[ChosenKernels],
        windows: int,
        progress: Progress,
        *,
        with_prompts: bool = False,
    ) -> None:
        """`windows` is how many will be read, for `progress`."""
        self.kernels = [KernelNetwork(network, chosen) for chosen in choices]
        self._weights = network.weights
        passes = 1 + len(self.kernels)
        if with_prompts:
            passes += 1 + sum(each.reads_prompts for each in self.kernels)
        self._advance = _counter(passes * network.weights.config.layers * windows, progress)
        self._plain = Network(network.weights, PLAIN, PLAIN).counted(self._advance)

    def read(self, window: Window) -> list[Predictions]:
        """Return what each choice of kernels predicts of a window, beside FP32."""
        cache = self._plain.cached(window) if window.prompt else None
        fp32_states = self._plain.states(window, cache)
        # A kernel may overflow its formats: what is not finite is counted, not warned about.
        with np.errstate(over="ignore", invalid="ignore"):
            return [
                compare_predictions(
                    self._weights, self._states(each, window, cache), fp32_states, window.targets
                )
                for each in self.kernels
            ]

    def _states(
        self, kernels: KernelNetwork, window: Window, plain_cache: KeyValueCache | None
    ) -> Array:
        network = kernels.network.counted(self._advance)
        if plain_cache is None or not kernels.reads_prompts:
            return network.states(window, plain_cache)
        return network.states(window, network.cached(window))


def _counted(hooks: Hooks, advance: Callable[[], None]) -> Hooks:
    def attention(layer: int, q: Array, k: Array, v: Array, window: int | None) -> Array:
        output = hooks.attention(layer, q, k, v, window)
        advance()
        return output

    return Hooks(hooks.linear, attention)


def _counter(total: int, progress: Progress) -> Callable[[], None]:
    progress(0, total)
    done = count(1)
    return lambda: progress(next(done), total)


def _combined(hook: KernelHook | None, workload: str) -> Report | None:
    """Return one report for all layers and windows, which run one after the other.

    None for no kernel, or for one that has computed nothing.
    """
    if hook is None or not hook.reports:
        return None
    total = in_sequence(hook.reports, workload, hook.run.settings)
    statistics = mean_statistics([report.statistics for report in hook.reports], hook.rows)
    return replace(total, statistics=statistics)


def mean_statistics(
    statistics: Sequence[Mapping[str, float]], rows: Iterable[int]
) -> dict[str, float]:
    """Return the mean of every statistic over all rows."""
    names, weights = statistics[0], list(rows)
    return {
        name: float(np.average([each[name] for each in statistics], weights=weights))
        for name in names
    }
