"""Runs a real network with a kernel in it: what it does to the text, and what it costs.

Kernels enter through the hooks of the forward pass: `KernelAttention` and `KernelLinear`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.recipe import Recipe
from accelsim.quality.attention import KernelAttention
from accelsim.quality.calibrated import Calibrated, warn_of_clipping
from accelsim.quality.chosen import ChosenKernels, choose_kernels
from accelsim.quality.hook import KernelHook
from accelsim.quality.linear import KernelLinear
from accelsim.quality.losses import Losses
from accelsim.quality.report import QualityReport, TextQuality
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.simulation import shortages_explained
from accelsim.units import ceil_div
from accelsim.workload.model.forward import PLAIN, Hooks, token_losses
from accelsim.workload.model.language import LanguageModel, load_model
from accelsim.workload.model.llama import Array
from accelsim.workload.model.texts import DEFAULT_KIND, Sources, Text, read_texts

FEWEST_TOKENS = 2
"""With one prediction a mean has no standard error."""


def evaluate(
    model: str,
    kernel: Recipe | str | None = None,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    text: Sources = DEFAULT_KIND,
    tokens: int = 1024,
    window: int = 1024,
    *,
    linear: Recipe | str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> QualityReport:
    """Return what kernels do to a model that reads texts.

    `kernel` is the recipe of the attention of every layer, `linear` that of all linears but the
    output projection; the part without one is computed in FP32. Of every `text`, a kind or a file,
    one or several, the model reads the first `tokens` tokens in windows of `window` that know
    nothing of each other, and predicts the token after each. It does so in FP32 too, for
    comparison. Keys of `settings` are `machine.<field>` and `workload.dtype`. `progress` takes the
    layers done and all layers.

    Warns of pages that the kernels were calibrated on, and of codes that are clipped more often
    than there. Raises an AccelsimError for anything that is wrong with the input.
    """
    chosen = choose_kernels(kernel, linear, settings or {}, machine)
    _check_sizes(tokens, window)
    calibrated = Calibrated.of(chosen.linear)
    network = load_model(model)
    texts = read_texts(text)
    ids = [_token_ids(network, each, tokens, window) for each in texts]
    for each in texts:
        calibrated.warn_of_pages(each, tokens)
    layers = network.weights.config.layers * ceil_div(tokens, window) * len(texts)
    passes = _Passes(network, chosen, _counter(2 * layers, progress))
    found = []
    with shortages_explained(chosen.names):
        for each, own in zip(texts, ids, strict=True):
            found.append(_quality(passes, each, own, window, calibrated))
    workload = f"{model} on {', '.join(each.name for each in texts)}"
    linears = _combined(passes.linear, workload)
    if linears is not None:
        warn_of_clipping(linears)
    return QualityReport.of_texts(
        tuple(found),
        attention=_combined(passes.attention, workload),
        linears=linears,
        nonfinite_outputs=passes.nonfinite_outputs,
        model=model,
        dtype=chosen.dtype,
        window=int(window),
    )


class _Passes:
    """The network with the kernels in it, and the same network in FP32."""

    def __init__(
        self, network: LanguageModel, chosen: ChosenKernels, advance: Callable[[], None]
    ) -> None:
        self._weights = network.weights
        self._advance = advance
        self.attention: KernelAttention | None = None
        self.linear: KernelLinear | None = None
        if chosen.attention is not None:
            told = (network.name, chosen.linear)
            self.attention = KernelAttention(chosen.attention, chosen.dtype, *told)
        if chosen.linear is not None:
            head_dim = network.weights.config.head_dim
            self.linear = KernelLinear(chosen.linear, chosen.dtype, network.name, head_dim)

    def read(self, ids: Sequence[int]) -> tuple[Losses, Losses]:
        """Predict all tokens of a window but the first; return losses with kernels and in FP32."""
        fp32_losses = self._losses(ids, PLAIN)
        hooks = Hooks(self.linear or PLAIN.linear, self.attention or PLAIN.attention)
        # A kernel may overflow its formats: what is not finite is counted, not warned about.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._losses(ids, hooks), fp32_losses

    @property
    def nonfinite_outputs(self) -> int:
        """Elements of the kernels' outputs that are infinite or NaN."""
        return sum(hook.nonfinite_outputs for hook in (self.attention, self.linear) if hook)

    def _losses(self, ids: Sequence[int], hooks: Hooks) -> Losses:
        def attention(layer: int, q: Array, k: Array, v: Array) -> Array:
            output = hooks.attention(layer, q, k, v)
            self._advance()
            return output

        return token_losses(self._weights, ids, Hooks(hooks.linear, attention))


def _quality(
    passes: _Passes, text: Text, ids: Sequence[int], window: int, calibrated: Calibrated
) -> TextQuality:
    """Return what kernels do to the tokens of a text."""
    starts = range(0, len(ids) - 1, window)
    losses, fp32_losses = zip(
        *(passes.read(ids[start : start + window + 1]) for start in starts), strict=True
    )
    return TextQuality.of(
        np.concatenate(losses),
        np.concatenate(fp32_losses),
        text=text.name,
        text_sha256=text.sha256,
        is_calibrated_on=calibrated.knows(text),
    )


def _check_sizes(tokens: int, window: int) -> None:
    for name, found, fewest in (("tokens", tokens, FEWEST_TOKENS), ("window", window, 1)):
        if found < fewest:
            raise WorkloadError(f"{name}: found {found}, allowed: {fewest} or more")


def _token_ids(network: LanguageModel, text: Text, tokens: int, window: int) -> list[int]:
    """Return the tokens to read and the one after them."""
    longest = network.weights.config.context
    if min(tokens, window) > longest:
        raise WorkloadError(
            f"window: found {window} tokens, allowed: up to {longest}, as many as model "
            f"'{network.name}' reads at once"
        )
    ids = network.tokenizer.encode(text.content)
    if tokens >= len(ids):
        raise WorkloadError(
            f"text {text.name} has {len(ids)} tokens; found tokens = {tokens}, "
            f"allowed: fewer than it has, so that one is left to predict"
        )
    return ids[: tokens + 1]


def _counter(total: int, progress: Callable[[int, int], None]) -> Callable[[], None]:
    progress(0, total)
    done = count(1)
    return lambda: progress(next(done), total)


def _combined(hook: KernelHook | None, workload: str) -> Report | None:
    """Return one report for all layers and windows, which run one after the other."""
    if hook is None:
        return None
    total = in_sequence(hook.reports, workload, hook.run.settings)
    statistics = _mean([report.statistics for report in hook.reports], hook.rows)
    return replace(total, statistics=statistics)


def _mean(statistics: Sequence[Mapping[str, float]], rows: Iterable[int]) -> dict[str, float]:
    """Return the mean of every statistic over all rows."""
    names, weights = statistics[0], list(rows)
    return {
        name: float(np.average([each[name] for each in statistics], weights=weights))
        for name in names
    }
