"""Runs a real network with a kernel in it: what it does to the text, and what it costs.

A kernel enters through the hooks of the forward pass. `KernelAttention` is the hook for attention;
one for the linears would stand beside it in `_Pass` and bring its reports the same way.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.config.spec import Spec
from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.numerics.formats import Format
from accelsim.quality.attention import KernelAttention
from accelsim.quality.report import QualityReport
from accelsim.report.build import combine_reports
from accelsim.report.report import Report
from accelsim.simulation import KernelRun, settings_below, shortages_explained
from accelsim.units import ceil_div
from accelsim.workload.model.forward import Hooks, causal_attention, token_losses
from accelsim.workload.model.language import DEFAULT_TEXT, LanguageModel, load_model, read_text
from accelsim.workload.model.llama import Array
from accelsim.workload.problem import FloatFormat

Losses = NDArray[np.float64]

FEWEST_TOKENS = 2
"""With one prediction a mean has no standard error."""


class _Stored(Spec):
    """What may be chosen of the attention of a model; its shapes are the model's."""

    dtype: FloatFormat = Format.FP16
    """Number format of Q, K, V and the output in HBM."""


def evaluate(
    model: str,
    kernel: str,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    text: str | Path | None = None,
    tokens: int = 1024,
    window: int = 1024,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> QualityReport:
    """Return what `kernel`, as the attention of every layer, does to a model that reads a text.

    The model reads the first `tokens` tokens of the file `text` (of the Python language reference
    without one) in windows of `window` that know nothing of each other, and predicts the token
    after each. It does so in FP32 too, for comparison. Keys of `settings` are `machine.<field>`,
    `workload.dtype` or parameters of the kernel. `progress` takes the layers done and all layers.

    Raises an AccelsimError for anything that is wrong with the input.
    """
    settings = settings or {}
    run, dtype = _attention_run(machine, kernel, settings)
    _check_sizes(tokens, window)
    network = load_model(model)
    content = read_text(None if text is None else Path(text))
    name = DEFAULT_TEXT if text is None else str(text)
    ids = _token_ids(network, content, name, tokens, window)
    layers = network.weights.config.layers * ceil_div(tokens, window)
    passes = _Passes(network, run, dtype, _counter(2 * layers, progress))
    with shortages_explained(kernel):
        for start in range(0, tokens, window):
            passes.read(ids[start : start + window + 1])
    return QualityReport.of(
        losses=np.concatenate(passes.losses),
        fp32_losses=np.concatenate(passes.fp32_losses),
        attention=_combined(passes.attention, run, f"{model} on {name}"),
        nonfinite_outputs=passes.attention.nonfinite_outputs,
        model=model,
        dtype=dtype,
        text=name,
        text_sha256=hashlib.sha256(content.encode()).hexdigest(),
        window=window,
    )


class _Passes:
    """The network with the kernel in it, and the same network in FP32."""

    def __init__(
        self, network: LanguageModel, run: KernelRun, dtype: Format, advance: Callable[[], None]
    ) -> None:
        self._weights = network.weights
        self._advance = advance
        self.attention = KernelAttention(run, dtype, advance)
        self.losses: list[Losses] = []
        self.fp32_losses: list[Losses] = []

    def read(self, ids: Sequence[int]) -> None:
        """Predict every token of a window but the first, both ways."""
        self.fp32_losses.append(token_losses(self._weights, ids, Hooks(attention=self._fp32)))
        # A kernel may overflow its formats: what is not finite is counted, not warned about.
        with np.errstate(over="ignore", invalid="ignore"):
            hooks = Hooks(attention=self.attention)
            self.losses.append(token_losses(self._weights, ids, hooks))

    def _fp32(self, layer: int, q: Array, k: Array, v: Array) -> Array:
        output = causal_attention(layer, q, k, v)
        self._advance()
        return output


def _attention_run(
    machine: MachineSpec | str | Path, kernel: str, settings: Mapping[str, Any]
) -> tuple[KernelRun, Format]:
    run = KernelRun.prepare(machine, kernel, settings)
    kind = run.kernel.problem_kind
    if kind != "attention":
        allowed = [name for name in kernel_names() if get_kernel(name).problem_kind == "attention"]
        raise WorkloadError(
            f"kernel {kernel} is for {kind} problems, but it is to compute the attention of a "
            f"model; allowed: {', '.join(allowed)}"
        )
    document = Document({}, {(): "--set workload."})
    chosen = document.with_overrides(settings_below("workload", settings), "--set workload.")
    return run, validate(_Stored, chosen).dtype


def _check_sizes(tokens: int, window: int) -> None:
    for name, found, fewest in (("tokens", tokens, FEWEST_TOKENS), ("window", window, 1)):
        if found < fewest:
            raise WorkloadError(f"{name}: found {found}, allowed: {fewest} or more")


def _token_ids(
    network: LanguageModel, content: str, name: str, tokens: int, window: int
) -> list[int]:
    """Return the tokens to read and the one after them."""
    longest = network.weights.config.context
    if min(tokens, window) > longest:
        raise WorkloadError(
            f"window: found {window} tokens, allowed: up to {longest}, as many as model "
            f"'{network.name}' reads at once"
        )
    ids = network.tokenizer.encode(content)
    if tokens >= len(ids):
        raise WorkloadError(
            f"text {name} has {len(ids)} tokens; found tokens = {tokens}, "
            f"allowed: fewer than it has, so that one is left to predict"
        )
    return ids[: tokens + 1]


def _counter(total: int, progress: Callable[[int, int], None]) -> Callable[[], None]:
    progress(0, total)
    done = count(1)
    return lambda: progress(next(done), total)


def _combined(attention: KernelAttention, run: KernelRun, workload: str) -> Report:
    """Return one report for all layers and windows, which run one after the other."""
    reports = attention.reports
    total = combine_reports(
        reports, [1] * len(reports), run.machine, workload, run.kernel.name, run.settings
    )
    selection = _mean([report.selection for report in reports], attention.query_rows)
    return replace(total, selection=selection, parts=())


def _mean(selections: Sequence[Mapping[str, float]], rows: Iterable[int]) -> dict[str, float]:
    """Return the mean of every statistic over all query rows."""
    names, weights = selections[0], list(rows)
    return {
        name: float(np.average([each[name] for each in selections], weights=weights))
        for name in names
    }
