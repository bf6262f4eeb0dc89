"""Runs a real network with a kernel in it: what it does to the text, and what it costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.quality.calibrated import Calibrated
from accelsim.quality.chosen import choose_kernels
from accelsim.quality.layers import layer_costs
from accelsim.quality.overflow import warn_of_overflow
from accelsim.quality.passages import FEWEST_TOKENS, Reading
from accelsim.quality.passes import Passes, Progress, Window, ignored
from accelsim.quality.report import QualityReport, TextQuality
from accelsim.simulation import shortages_explained
from accelsim.units import ceil_div
from accelsim.workload.model.language import LanguageModel, load_model
from accelsim.workload.model.texts import Text, read_texts


def evaluate(
    model: str,
    kernels: Kernels | Recipe | str,
    settings: Mapping[str, Any] | None = None,
    machine: MachineSpec | str | Path = "ascend-910b",
    reading: Reading | None = None,
    *,
    progress: Progress = ignored,
) -> QualityReport:
    """Return what kernels do to a model that reads texts.

    `model` is the name of a fetched one, or the path of a GGUF file or of a checkpoint's folder.
    `kernels` compute the attention of every layer, all linears but the output projection, or both;
    the part without a kernel is computed in FP32, and a recipe alone is that of the attention. The
    model reads what `reading` says and predicts the token after each, in FP32 too, for comparison.

    Tokens behind the prompts of a reading are decoded over keys and values that the steps before
    left in the cache. Keys of `settings` are `machine.<field>` and `workload.dtype`. `progress`
    takes the layers done and all layers.

    Warns of pages that the kernels were calibrated on, of codes that are clipped more often than
    there, and of outputs that are not finite. Raises an AccelsimError for anything that is wrong
    with the input.
    """
    reading = Reading() if reading is None else reading
    chosen = choose_kernels(kernels, settings or {}, machine, reading.prefill)
    calibrated = Calibrated.of(chosen.linear, chosen.attention)
    network = load_model(model)
    texts = read_texts(reading.text)
    ids = [_token_ids(network, each, reading) for each in texts]
    for each in texts:
        calibrated.warn_of_pages(each, reading.tokens)
    windows = ceil_div(reading.tokens, reading.window) * len(texts)
    passes = Passes(network, [chosen], windows, progress, with_prompts=reading.prompt > 0)
    found = []
    with shortages_explained(chosen.names):
        for each, own in zip(texts, ids, strict=True):
            parts = _windows(network, own, reading.window)
            read = [Window(part, reading.prompt) for part in parts]
            found.append(_quality(passes, each, read, calibrated))
    (inside,) = passes.kernels
    costs = inside.costs(", ".join(each.name for each in texts))
    if costs["linears"] is not None:
        calibrated.warn_of_clipping(costs["linears"])
    warn_of_overflow(inside, found)
    return QualityReport.of_texts(
        tuple(found),
        **costs,
        layers=layer_costs(inside.attention),
        nonfinite_outputs=inside.nonfinite_outputs,
        model=network.name,
        dtype=chosen.dtype,
        window=int(reading.window),
        prompt=int(reading.prompt),
    )


def _windows(network: LanguageModel, ids: Sequence[int], window: int) -> list[list[int]]:
    """Return the ids of each window and the one after it, opened as the model expects."""
    starts = range(0, len(ids) - 1, window)
    return [network.opened(ids[start : start + window + 1]) for start in starts]


def _quality(
    passes: Passes, text: Text, windows: Sequence[Window], calibrated: Calibrated
) -> TextQuality:
    """Return what kernels do to the tokens of a text."""
    return TextQuality.of(
        [passes.read(each)[0] for each in windows],
        text=text.name,
        text_sha256=text.sha256,
        is_calibrated_on=calibrated.knows(text),
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
