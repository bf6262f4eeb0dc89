"""Runs a real network with a kernel in it: what it does to the text, and what it costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.kernels import NONE_ASKED, Kernels
from accelsim.library.recipe import Recipe
from accelsim.numerics.kv_format import KvFormat
from accelsim.quality.calibrated import Calibrated
from accelsim.quality.chosen import ChosenKernels, choose_kernels
from accelsim.quality.layers import layer_costs
from accelsim.quality.overflow import warn_of_overflow
from accelsim.quality.passages import FEWEST_TOKENS, Reading
from accelsim.quality.passes import KernelNetwork, Passes, Progress, Window, ignored
from accelsim.quality.report import QualityReport, TextQuality
from accelsim.simulation import shortages_explained
from accelsim.units import ceil_div
from accelsim.workload.model.language import LanguageModel, load_model
from accelsim.workload.model.texts import Text, read_texts


def evaluate(
    model: str,
    kernels: Kernels | Recipe | str = NONE_ASKED,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    reading: Reading | None = None,
    *,
    kv: KvFormat | str | None = None,
    progress: Progress = ignored,
) -> QualityReport:
    """Return what kernels do to a model that reads texts.

    `model` is the name of a fetched one, or the path of a GGUF file or of a checkpoint's folder.
    `kernels` compute the attention of every layer, all linears but the output projection, or both;
    the part without a kernel is computed in FP32, and a recipe alone is that of the attention. The
    model reads what `reading` says and predicts the token after each, in FP32 too, for comparison.

    Tokens behind the prompts of a reading are decoded over keys and values that the steps before
    left in the cache. `kv` is the format of that cache, such as `int4(group=64)`: the attention, in
    FP32, sees what its codes stand for, and every token what decoding it would find there. Keys of
    `settings` are `machine.<field>` and `workload.dtype`. `progress` takes the layers done and all
    layers.

    Warns of pages that the kernels were calibrated on, of codes that are clipped more often than
    there, and of outputs that are not finite. Raises an AccelsimError for anything that is wrong
    with the input.
    """
    (report,) = evaluate_caches(model, [kv], kernels, settings, machine, reading, progress=progress)
    return report


def evaluate_caches(
    model: str,
    formats: Sequence[KvFormat | str | None],
    kernels: Kernels | Recipe | str = NONE_ASKED,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    reading: Reading | None = None,
    *,
    progress: Progress = ignored,
) -> list[QualityReport]:
    """Return what `evaluate` does for each format of the cache; FP32 reads each text once."""
    reading = Reading() if reading is None else reading
    choices = [
        choose_kernels(kernels, settings or {}, machine, reading.prefill, each) for each in formats
    ]
    calibrated = Calibrated.of(choices[0].linear, choices[0].attention)
    network = load_model(model)
    texts = read_texts(reading.text)
    ids = [_token_ids(network, each, reading) for each in texts]
    for each in texts:
        calibrated.warn_of_pages(each, reading.tokens)
    windows = ceil_div(reading.tokens, reading.window) * len(texts)
    passes = Passes(network, choices, windows, progress, with_prompts=reading.prompt > 0)
    found: list[tuple[TextQuality, ...]] = []
    with shortages_explained(" and ".join(chosen.names for chosen in choices)):
        for each, own in zip(texts, ids, strict=True):
            parts = _windows(network, own, reading.window)
            read = [Window(part, reading.prompt) for part in parts]
            found.append(_qualities(passes, each, read, calibrated))
    sizes = {"window": int(reading.window), "prompt": int(reading.prompt)}
    told = {"model": network.name, **sizes}
    names = ", ".join(each.name for each in texts)
    by_choice = zip(choices, passes.kernels, zip(*found, strict=True), strict=True)
    return [_report(*own, calibrated, names, told) for own in by_choice]


def _report(
    chosen: ChosenKernels,
    kernels: KernelNetwork,
    found: tuple[TextQuality, ...],
    calibrated: Calibrated,
    names: str,
    told: Mapping[str, Any],
) -> QualityReport:
    """Return the report of one choice; told: what all of them have in common."""
    costs = kernels.costs(names)
    if costs["linears"] is not None:
        calibrated.warn_of_clipping(costs["linears"])
    warn_of_overflow(kernels, found)
    return QualityReport.of_texts(
        found,
        **costs,
        layers=layer_costs(kernels.attention),
        nonfinite_outputs=kernels.nonfinite_outputs,
        dtype=chosen.dtype,
        kv=chosen.kv,
        **told,
    )


def _windows(network: LanguageModel, ids: Sequence[int], window: int) -> list[list[int]]:
    """Return the ids of each window and the one after it, opened as the model expects."""
    starts = range(0, len(ids) - 1, window)
    return [network.opened(ids[start : start + window + 1]) for start in starts]


def _qualities(
    passes: Passes, text: Text, windows: Sequence[Window], calibrated: Calibrated
) -> tuple[TextQuality, ...]:
    """Return what each choice of kernels does to the tokens of a text."""
    return tuple(
        TextQuality.of(
            list(own),
            text=text.name,
            text_sha256=text.sha256,
            is_calibrated_on=calibrated.knows(text),
        )
        for own in zip(*(passes.read(each) for each in windows), strict=True)
    )


def _token_ids(network: LanguageModel, text: Text, reading: Reading) -> list[int]:
    """Return the tokens to read and the one after them."""
    ids = network.tokenizer.encode(text.content)
    if len(ids) <= FEWEST_TOKENS:
        raise WorkloadError(
            f"text {text.name}: found {len(ids)} tokens, allowed: {FEWEST_TOKENS + 1} or more, "
            f"so that there are {FEWEST_TOKENS} to predict"
        )
    tokens = reading.tokens
    if tokens >= len(ids):
        raise WorkloadError(
            f"text {text.name} has {len(ids)} tokens; found tokens = {tokens}, "
            f"allowed: up to {len(ids) - 1}, so that one is left to predict"
        )
    longest = network.weights.config.context
    if min(tokens, reading.window) > longest:
        raise WorkloadError(
            f"window: found {reading.window} tokens, allowed: up to {longest}, as many as model "
            f"'{network.name}' reads at once"
        )
    return ids[: tokens + 1]
