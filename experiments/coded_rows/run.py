"""Codes that the kernel which makes x stores: what they lose, and what they save.

    python run.py OUT [heads] [rounding] [kernels] [costs]

`heads` gives the input of `o`, which attention makes head by head, the base of its rows in several
ways, all other linears in FP32. `rounding` compares values that are coded as the vector unit has
them with values that are rounded to FP16 first. `kernels` runs `accelsim.evaluate` with linears
that code what they load, and with linears whose producers code. `costs` runs whole decoder layers
both ways. A run that was stopped goes on where it stopped.
"""

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from accelsim import evaluate, simulate
from accelsim.errors import WorkloadError
from accelsim.library.kernels import Kernels
from accelsim.quality.passages import Reading
from accelsim.quality.predictions import compare_predictions
from accelsim.quality.summary import Quality, measured
from accelsim.quantization.calibration import (
    Calibration,
    Sampling,
    best_options,
    calibrate,
)
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import GroupOptions
from accelsim.quantization.coded_rows import RUN_BITS, aligned, coded_rows, coded_runs
from accelsim.quantization.codes import encode, largest_code, scale_of
from accelsim.quantization.statements import grouped_values
from accelsim.workload.model.forward import Hooks, causal_attention, final_states
from accelsim.workload.model.language import load_model
from accelsim.workload.model.llama import Array
from accelsim.workload.model.texts import read_texts
from accelsim.workload.tensors import GemmTensors

MODEL, MACHINE = "smollm2", "tender-asic"
WINDOW = 512
TEXTS = ("reference", "code", "novel", "legal", "manual")
PAGES = Sampling(windows=3, window=WINDOW, first_token=4096)
"""Of each of the three kinds that a calibration reads."""
OPTIONS = {8: GroupOptions(), 4: GroupOptions(bits=4)}
"""Groups of channels that are not rotated, for `heads` and `rounding`."""
STATIC = GroupOptions(base="static", use_bias=True, first_rows=1, rounding="best")
Row = dict[str, Any]
Linear = Callable[[int, str, Array, Array], Array]


class Seen(NamedTuple):
    """The input of `o` in one layer."""

    x: Array
    """[tokens, heads x head_dim], channels scaled by their groups."""
    v: Array
    """The same of the values that it is a mean of."""
    head_dim: int
    bits: int


def power_of_two(peak: Array, bits: int) -> Array:
    """Return the smallest power of two that is a step of codes which reach `peak`."""
    steps = np.maximum(peak, np.finfo(np.float32).tiny) / largest_code(bits)
    return np.exp2(np.ceil(np.log2(steps)))


def own_base(seen: Seen) -> Array:
    """Every row of all heads finds its base: what a pass over x does."""
    return coded_rows(seen.x, np.ones(seen.x.shape[1], np.float32), seen.bits).values


def drained(seen: Seen) -> Array:
    """Every row of a head has its base, and every head is a product of its own."""
    heads = seen.x.reshape(-1, seen.head_dim)
    scale = scale_of(np.abs(heads).max(1, keepdims=True), seen.bits)
    return (encode(heads, scale, seen.bits) * scale).reshape(seen.x.shape)


def brought_together(seen: Seen) -> Array:
    """Codes of heads, in 8 bits, are brought to the base of the row: what the kernels do."""
    return aligned(coded_runs(seen.x, seen.head_dim), seen.bits).values


def of_as_many_bits(seen: Seen) -> Array:
    """The same where codes of heads have no more bits than those that are multiplied."""
    return _together(seen, lambda peak: scale_of(peak, seen.bits))


def powers_of_two(seen: Seen) -> Array:
    """The same where bases are powers of two, so that a shift brings codes together."""
    return _together(seen, lambda peak: power_of_two(peak, seen.bits))


def _together(seen: Seen, step_of: Callable[[Array], Array]) -> Array:
    heads = seen.x.reshape(len(seen.x), -1, seen.head_dim)
    steps = step_of(np.abs(heads).max(2, keepdims=True))
    largest = steps.max(1, keepdims=True)
    codes = np.rint(encode(heads, steps, seen.bits) * (steps / largest))
    return (codes * largest).reshape(seen.x.shape)


def bounded_by_values(seen: Seen) -> Array:
    """The base is the largest value so far, which no mean of values exceeds."""
    peaks = np.maximum.accumulate(np.abs(seen.v).max(1))[:, None]
    scale = scale_of(peaks, seen.bits)
    return encode(seen.x, scale, seen.bits) * scale


HEADS: dict[str, Callable[[Seen], Array] | None] = {
    "base of the row": own_base,
    "heads, aligned": brought_together,
    "heads of as many bits, aligned": of_as_many_bits,
    "heads, powers of two, aligned": powers_of_two,
    "heads, each drained": drained,
    "bound from v": bounded_by_values,
    "static": None,
}
"""Where the base of a row comes from, and how the input of `o` is coded with it."""


class Point(NamedTuple):
    """A row of a table."""

    step: str
    form: str
    text: str = ""
    bits: int = 8


def points(steps: set[str]) -> Iterator[Point]:
    """Yield what is measured."""
    if "heads" in steps:
        for bits in OPTIONS:
            forms = [form for form in HEADS if bits == RUN_BITS or HEADS[form]]
            forms = [form for form in forms if bits < RUN_BITS or "as many" not in form]
            yield from (Point("heads", form, text, bits) for form in forms for text in TEXTS)
    if "rounding" in steps:
        for form in ("as they are", "rounded first"):
            yield from (Point("rounding", form, text) for text in TEXTS)
    if "kernels" in steps:
        for kernel in ("tender", "quantized"):
            for given in ("float", "quantized"):
                yield from (Point("kernels", f"{kernel}, {given}", text) for text in TEXTS)
    if "costs" in steps:
        for machine, models in LAYERS.items():
            for model in models:
                for bits in OPTIONS:
                    for given in ("float", "quantized"):
                        yield Point("costs", f"{machine}, {model}, {given}", "", bits)


ARRAY = "{rows: 64, cols: 64, pipeline_depth_cycles: 2, index_buffer: 64 KiB}"
LAYERS = {
    "tender-asic": ("smollm2-135m", "llama-3-8b"),
    "ascend-910b": ("smollm2-135m", "llama-3-8b"),
    "edge-npu": ("smollm2-135m",),
}
"""Machine, all but the first with an array added to each core -> models whose layers are run. A row
of 14,336 features does not fit the scratchpad of the last."""


def calibrated(options: GroupOptions, name: str, folder: Path) -> Path:
    """Return the file of a calibration on the mixture, made if it is not there."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        save_calibration(calibrate(MODEL, options, PAGES), path)
    return path


def usual_calibration(folder: Path) -> Path:
    """Return the file that `accelsim calibrate` writes by default, made if it is not there."""
    path = folder / "usual8.safetensors"
    if not path.exists():
        save_calibration(calibrate(MODEL, best_options(8), Sampling(), weight_bits=8), path)
    return path


class Network:
    """The model with linears whose input is replaced by what its codes stand for."""

    def __init__(self, folder: Path) -> None:
        self._model, self._folder = load_model(MODEL), folder
        self._ids = lru_cache(maxsize=None)(self._read)
        self._fp32 = lru_cache(maxsize=None)(self._plain)
        self._errors: list[float] = []
        self._values: dict[int, Array] = {}

    def measure(self, point: Point) -> Row:
        """Return the row of a point: the loss of the text, and the mean error of the outputs."""
        self._errors = []
        linear = self._heads(point) if point.step == "heads" else self._rounded(point)
        states, targets = self._states(point.text, linear), self._ids(point.text)[1:]
        fp32_states = self._fp32(point.text)
        predictions = compare_predictions(self._model.weights, states, fp32_states, targets)
        quality = Quality.of([predictions])
        return {**measured(quality), "output_error": float(np.mean(self._errors))}

    def _read(self, kind: str) -> list[int]:
        (text,) = read_texts([kind])
        return self._model.tokenizer.encode(text.content)[: WINDOW + 1]

    def _plain(self, kind: str) -> Array:
        return self._states(kind, lambda _layer, _name, x, weight: x @ weight.T)

    def _states(self, kind: str, linear: Linear) -> Array:
        def attention(layer: int, q: Array, k: Array, v: Array, window: int | None) -> Array:
            self._values[layer] = v
            return causal_attention(layer, q, k, v, window)

        return final_states(self._model.weights, self._ids(kind)[:-1], Hooks(linear, attention))

    def _calibration(self, name: str, options: GroupOptions) -> Calibration:
        return load_calibration(calibrated(options, name, self._folder))

    def _heads(self, point: Point) -> Linear:
        """Return linears of which `o` reads codes, made as `point.form` says."""
        form, config = HEADS[point.form], self._model.weights.config
        calibration = self._calibration(f"row{point.bits}", OPTIONS[point.bits])
        static = self._calibration("static8", STATIC) if form is None else None

        def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
            if name != "o":
                return x @ weight.T
            tensors = GemmTensors(x, weight.T, f"layer{layer}.{name}", MODEL)
            if form is None:
                return self._output(x, grouped_values(x, static.groups_of(tensors)), weight)
            factors = calibration.groups_of(tensors).channel_factors(0)
            values = np.repeat(self._values[layer], config.q_heads // config.kv_heads, axis=0)
            merged = values.swapaxes(0, 1).reshape(x.shape)
            seen = Seen(x * factors, merged * factors, config.head_dim, point.bits)
            return self._output(x, form(seen) / factors, weight)

        return linear

    def _rounded(self, point: Point) -> Linear:
        """Return linears that read codes of values, rounded to FP16 before or not."""
        calibration = self._calibration("row8", OPTIONS[8])

        def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
            groups = calibration.groups_of(GemmTensors(x, weight.T, f"layer{layer}.{name}", MODEL))
            is_rounded = point.form == "rounded first"
            given = x.astype(np.float16).astype(np.float32) if is_rounded else x
            return self._output(x, grouped_values(given, groups), weight)

        return linear

    def _output(self, x: Array, coded: Array, weight: Array) -> Array:
        exact, output = x @ weight.T, coded.astype(np.float32) @ weight.T
        self._errors.append(float(np.linalg.norm(output - exact) / np.linalg.norm(exact)))
        return output


def kernels(point: Point, folder: Path) -> Row:
    """Return what a model loses with kernels, and what its linears and its attention cost."""
    kernel, given = point.form.split(", ")
    recipe = f"{kernel}(input={given})"
    if kernel == "tender":
        path = usual_calibration(folder)
        recipe = f"tender(input={given}, calibration={path})"
    found = evaluate(
        MODEL,
        Kernels("int_flash", recipe),
        machine=MACHINE,
        reading=Reading([point.text], tokens=WINDOW, window=WINDOW),
    )
    both = (found.linears, found.attention)
    costs = {
        "cycles": sum(each.cycles for each in both),
        "hbm_bytes": sum(each.hbm_read_bytes + each.hbm_write_bytes for each in both),
        "energy_j": sum(each.energy_j for each in both),
    }
    return {**measured(found.texts[0]), **costs}


def costs(point: Point) -> Row:
    """Return what a whole decoder layer takes."""
    machine, model, given = point.form.split(", ")
    asked = f"tender(activation_bits={point.bits}, weight_bits={point.bits}, input={given})"
    settings = {} if machine == MACHINE else {"machine.int_mac": ARRAY}
    report = simulate(machine, f"{model}/prefill-4096", asked, settings)
    return {
        "cycles": report.cycles,
        "hbm_read_bytes": report.hbm_read_bytes,
        "hbm_write_bytes": report.hbm_write_bytes,
        "energy_j": report.energy_j,
    }


def main(folder: Path, steps: set[str]) -> None:
    """Measure what is not in the tables of `folder` yet."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        load_model(MODEL)
    except WorkloadError as error:
        print(f"costs alone are run: {error}")
        steps = steps & {"costs"}
    network = lru_cache(maxsize=1)(lambda: Network(folder))
    for point in points(steps):
        path = folder / f"{point.step}.csv"
        known = pd.read_csv(path, keep_default_na=False) if path.exists() else pd.DataFrame()
        key = {"form": point.form, "text": point.text, "bits": point.bits}
        if len(known) and (known[list(key)] == pd.Series(key)).all(axis=1).any():
            continue
        match point.step:
            case "kernels":
                row = kernels(point, folder)
            case "costs":
                row = costs(point)
            case _:
                row = network().measure(point)
        pd.concat([known, pd.DataFrame([{**key, **row}])]).to_csv(path, index=False)
        print(*key.values(), flush=True)


STEPS = {"heads", "rounding", "kernels", "costs"}
main(Path(sys.argv[1]), set(sys.argv[2:]) or STEPS)
