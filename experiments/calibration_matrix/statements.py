"""The network with the operands of its linears replaced, and what it then predicts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from forms import GROUPED, Calibrated, Form, Linear

from accelsim.quality.predictions import compare_predictions
from accelsim.quality.summary import Quality
from accelsim.quantization.calibration import (
    Calibration,
    Sampling,
    calibrate,
    inputs_of_layers,
    provenance_of,
    sampled_windows,
)
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import ChannelGroups, channel_groups
from accelsim.workload.model.capture import INPUT_OF
from accelsim.workload.model.forward import PLAIN, Hooks, LinearHook, final_states
from accelsim.workload.model.language import load_model
from accelsim.workload.model.llama import Array
from accelsim.workload.model.texts import CALIBRATED_KINDS, read_texts

MODEL = "smollm2"
PAGES = Sampling(windows=8, window=512, first_token=4096)
"""What is read of a text that is calibrated on; what is evaluated lies before."""
MIXTURE, NOTHING = "mixture", "nothing"


def calibrated(needs: Calibrated, source: str, folder: Path) -> Calibration:
    """Return a calibration on a kind of text, or on the mixture, from its file if it is there."""
    path = folder / f"{needs.name}-{source}.safetensors"
    if not path.exists():
        texts = CALIBRATED_KINDS if source == MIXTURE else (source,)
        pages = replace(PAGES, windows=-(-PAGES.windows // len(texts)))
        if needs.weight_bits is None:
            _save_together(GROUPED, pages, texts, folder, source)
        else:
            made = calibrate(MODEL, needs.options, pages, texts, weight_bits=needs.weight_bits)
            save_calibration(made, path)
    return load_calibration(path)


def _save_together(
    several: Sequence[Calibrated],
    pages: Sampling,
    kinds: Sequence[str],
    folder: Path,
    source: str,
) -> None:
    """Write calibrations without weights or rotation, for which the network reads texts once."""
    model, texts = load_model(MODEL), read_texts(kinds)
    windows = np.concatenate([sampled_windows(model, text, pages) for text in texts])
    inputs: dict[str, dict[str, ChannelGroups]] = {each.name: {} for each in several}
    for layer, seen in enumerate(inputs_of_layers(model.weights, windows)):
        for name, samples in seen.items():
            for each in several:
                groups = channel_groups(samples, each.options)
                inputs[each.name][f"layer{layer}.{name}"] = groups
    for each in several:
        provenance = provenance_of(MODEL, texts, pages, each.options)
        path = folder / f"{each.name}-{source}.safetensors"
        save_calibration(Calibration(provenance, inputs[each.name]), path)


def calibration_of(form: Form, source: str, folder: Path) -> Calibration | None:
    """Return what a form is calibrated with: groups of one calibration, weights of another."""
    if form.groups is None:
        return None
    groups = calibrated(form.groups, source, folder)
    if form.weights is None:
        return groups
    codes = calibrated(form.weights, source, folder)
    bits = codes.provenance.weight_bits
    provenance = replace(groups.provenance, weight_bits=bits)
    return replace(groups, provenance=provenance, weights=codes.weights)


class Statements:
    """The network as forms have it; what belongs to one form is kept until the next."""

    def __init__(self, folder: Path) -> None:
        self._weights = load_model(MODEL).weights
        self._folder = folder
        self._fp32 = lru_cache(maxsize=None)(lambda *where: self._states(*where, PLAIN.linear))
        self._form: tuple[Any, ...] = ()
        self._calibration: Calibration | None = None
        self._coded: dict[tuple[int, str], tuple[Linear, Array]] = {}
        self._seen: tuple[Array | None, Any] = (None, None)

    def quality(self, form: Form, source: str, kind: str, tokens: int) -> Quality:
        """Return what a form loses on the first tokens of a kind of text."""
        if (form, source) != self._form:
            self._form, self._coded, self._seen = (form, source), {}, (None, None)
            self._calibration = calibration_of(form, source, self._folder)
        place = kind, tokens
        states = self._states(*place, self._linear(form))
        found = compare_predictions(
            self._weights, states, self._fp32(*place), _ids(kind, tokens)[1:]
        )
        return Quality.of([found])

    def _states(self, kind: str, tokens: int, linear: LinearHook) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            ids = _ids(kind, tokens)[:-1]
            return final_states(self._weights, ids, Hooks(linear=linear))

    def _linear(self, form: Form) -> LinearHook:
        def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
            key = (layer, name)
            if key not in self._coded:
                known = _known(key, weight, self._calibration)
                self._coded[key] = known, _fp32(form.w(known.weight, known))
            known, coded = self._coded[key]
            if self._seen[0] is not x or form.is_x_of_linear:
                self._seen = x, _fp32(form.x(x, known))
            product: Array = self._seen[1] @ coded
            return product

        return linear


def _known(key: tuple[int, str], weight: Array, calibration: Calibration | None) -> Linear:
    layer, name = key
    turned = np.ascontiguousarray(weight.T)
    if calibration is None:
        return Linear(turned, None, None)
    groups = calibration.inputs[f"layer{layer}.{INPUT_OF[name]}"]
    return Linear(turned, groups, calibration.weights.get(f"layer{layer}.{name}"))


def _fp32(values: Any) -> Array:
    return np.ascontiguousarray(values, np.float32)


def _ids(kind: str, tokens: int) -> list[int]:
    """Return the first tokens of a text and the one after them."""
    return load_model(MODEL).opened(_all_ids(kind)[: tokens + 1])


@cache
def _all_ids(kind: str) -> list[int]:
    (text,) = read_texts([kind])
    return load_model(MODEL).tokenizer.encode(text.content)
