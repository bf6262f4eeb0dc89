"""Scales of channel groups, of blocks and of rows: `python run.py OUT [STEP ...]`.

`activations`, `both` and `weights` replace the operands of all linears of a real model by what
their codes stand for: X alone, X and W, W alone. Each writes a table of its name, a row for a
form, a text and a window. `kernels` runs some forms by `accelsim.evaluate`, and `costs` writes what
the linears of a small and of a large model take. Absent: all steps. A run that was stopped goes on
where it stopped. Quality needs the model (`accelsim model fetch smollm2`).
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from costs import cost_points, cost_row
from forms import DESIGNS, FORMS, GROUPS, OWN_WEIGHTS, Form, rotation_of

from accelsim import evaluate
from accelsim.errors import WorkloadError
from accelsim.library.kernels import Kernels
from accelsim.quality.passages import Reading
from accelsim.quality.predictions import compare_predictions
from accelsim.quality.summary import Quality, measured
from accelsim.quantization.calibration import (
    Calibration,
    Sampling,
    inputs_of_layers,
    provenance_of,
    sampled_windows,
)
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import ChannelGroups, channel_groups
from accelsim.workload.model.capture import INPUT_OF
from accelsim.workload.model.forward import PLAIN, Hooks, LinearHook, final_states
from accelsim.workload.model.language import LanguageModel, load_model
from accelsim.workload.model.llama import Array
from accelsim.workload.model.texts import CALIBRATED_KINDS, read_texts

MODEL = "smollm2"
TEXTS = ("reference", "code", "novel", "legal", "manual")
WINDOW, WINDOWS = 512, 2
PAGES = Sampling(windows=3, window=WINDOW, first_token=4096)
"""Of each of the texts that are calibrated on; what is evaluated lies before."""
OPERANDS = ("activations", "both", "weights")
"""What is replaced."""
KERNEL_TEXT = "legal"
"""A text that is not calibrated on."""
BY_KERNEL = (
    "INT8 groups",
    "MXINT8",
    "NVFP4, rotated",
    "INT4 row, rotated, best of 6",
)
Row = dict[str, Any]


class Point(NamedTuple):
    """A row of the table of the quality."""

    operands: str
    window: int
    form: str
    text: str


def points(operands: str) -> Iterator[Point]:
    """Yield all forms on all texts, the first window of all before the next."""
    for window in range(WINDOWS):
        for form in FORMS.values():
            if operands != "weights" or form.name in OWN_WEIGHTS:
                yield from (Point(operands, window, form.name, text) for text in TEXTS)


class Statements:
    """The network with the operands of its linears replaced."""

    def __init__(self, model: LanguageModel, folder: Path) -> None:
        self._model = model
        self._folder = folder
        self._ids = lru_cache(maxsize=None)(self._read)
        self._fp32 = lru_cache(maxsize=None)(self._states_in_fp32)
        self._weights = lru_cache(maxsize=7 * model.weights.config.layers)(self._code)
        self._seen: tuple[Array | None, Any] = (None, None)

    def quality(self, point: Point) -> Quality:
        """Return what a window of a text loses."""
        states = self._states(point, self._linear(FORMS[point.form], point.operands))
        fp32_states = self._fp32(point.text, point.window)
        targets = self._window(point)[1:]
        return Quality.of([compare_predictions(self._model.weights, states, fp32_states, targets)])

    def _read(self, text: str) -> list[int]:
        (found,) = read_texts([text])
        return self._model.tokenizer.encode(found.content)[: WINDOWS * WINDOW + 1]

    def _states_in_fp32(self, text: str, window: int) -> Array:
        return self._states(Point("", window, "", text), PLAIN.linear)

    def _window(self, point: Point) -> list[int]:
        start = point.window * WINDOW
        return self._ids(point.text)[start : start + WINDOW + 1]

    def _states(self, point: Point, linear: LinearHook) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return final_states(self._model.weights, self._window(point)[:-1], Hooks(linear=linear))

    def _code(self, layer: int, name: str, form_name: str, is_coded: bool) -> Array:
        form = FORMS[form_name]
        weight = self._model.weights.layers[layer].linears[name].T
        weight = rotation_of(len(weight)).of_weights(weight) if form.is_rotated else weight
        return np.ascontiguousarray(form.weights(weight) if is_coded else weight, np.float32)

    def _linear(self, form: Form, operands: str) -> LinearHook:
        calibration = None
        if form.group_bits and operands != "weights":
            calibration = load_calibration(calibrated(form.group_bits, self._folder))

        def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
            coded = self._weights(layer, name, form.name, operands != "activations")
            groups = calibration and calibration.inputs[f"layer{layer}.{INPUT_OF[name]}"]
            return self._operand(form, operands != "weights", x, groups) @ coded

        return linear

    def _operand(self, form: Form, is_coded: bool, x: Array, groups: ChannelGroups | None) -> Array:
        """Return X as it is multiplied; linears that share an X have it made once."""
        if self._seen[0] is not x:
            turned = rotation_of(x.shape[1]).of_activations(x) if form.is_rotated else x
            made = form.activations(turned, groups) if is_coded else turned
            self._seen = (x, np.ascontiguousarray(made, np.float32))
        return self._seen[1]


def calibrated(bits: int, folder: Path) -> Path:
    """Return the file of a calibration on the mixture; all are made of what is read once."""
    paths = {each: folder / f"groups-{each}-bits.safetensors" for each in GROUPS}
    if not all(path.exists() for path in paths.values()):
        model, texts = load_model(MODEL), read_texts(CALIBRATED_KINDS)
        windows = np.concatenate([sampled_windows(model, text, PAGES) for text in texts])
        made: dict[int, dict[str, ChannelGroups]] = {each: {} for each in GROUPS}
        for layer, seen in enumerate(inputs_of_layers(model.weights, windows)):
            for name, samples in seen.items():
                for each, options in GROUPS.items():
                    made[each][f"layer{layer}.{name}"] = channel_groups(samples, options)
        for each, path in paths.items():
            provenance = provenance_of(MODEL, texts, PAGES, GROUPS[each])
            save_calibration(Calibration(provenance, made[each]), path)
    return paths[bits]


def kernel_row(form_name: str, folder: Path) -> Row:
    """Return what a kernel loses on the first window of a text, activations and weights in it."""
    form = FORMS[form_name]
    machine, settings = DESIGNS[form.design]
    recipe = form.recipe
    if form.group_bits:
        recipe = recipe.updated({"calibration": calibrated(form.group_bits, folder)})
    report = evaluate(
        MODEL,
        Kernels(linear=recipe),
        settings,
        machine,
        Reading(KERNEL_TEXT, tokens=WINDOW, window=WINDOW),
    )
    cost = report.linears
    costs = {"cycles": cost.cycles, "energy_j": cost.energy_j}
    return {"form": form_name, "text": KERNEL_TEXT} | measured(report) | costs


def main(out: Path, steps: Sequence[str]) -> None:
    """Add the rows that the tables do not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    if "costs" in steps:
        pd.DataFrame(map(cost_row, cost_points(out))).to_csv(out / "costs.csv", index=False)
    try:
        statements = Statements(load_model(MODEL), out)
    except WorkloadError as error:
        print(f"no quality: {error}")
        return
    for operands in OPERANDS:
        if operands in steps:
            extend(out / f"{operands}.csv", points(operands), Point._fields, statements.quality)
    if "kernels" in steps:
        extend(out / "kernels.csv", BY_KERNEL, ("form",), lambda name: kernel_row(name, out))


def extend(
    table: Path, wanted: Iterable[Any], key: Sequence[str], made: Callable[[Any], Any]
) -> None:
    """Add what a table lacks, a row at a time, known by the columns `key`."""
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {tuple(row[name] for name in key) for row in rows}
    for point in wanted:
        values = point if isinstance(point, tuple) else (point,)
        if tuple(values) not in done:
            found = made(point)
            found = point._asdict() | measured(found) if isinstance(found, Quality) else found
            rows.append(found)
            print(found, flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ("costs", *OPERANDS, "kernels"))
