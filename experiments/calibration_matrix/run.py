"""What integer linears lose on texts of one kind that were calibrated on another.

    python run.py OUT [statements] [kernels] [four_bits]

`statements` replaces the operands of all linears by what their codes stand for: every kind of text
that is calibrated on, with every kind that is evaluated. `kernels` runs `accelsim.evaluate` with
the mixture that `accelsim calibrate` reads by default. `four_bits` replaces the operands by those
of INT4, with and without a rotation. A run that was stopped goes on where it stopped.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from accelsim import Recipe, evaluate
from accelsim.errors import WorkloadError
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
from accelsim.quantization.channel_groups import ChannelGroups, GroupOptions, channel_groups
from accelsim.quantization.row_bases import best_rows
from accelsim.quantization.schemes import per_column, per_row
from accelsim.quantization.statements import grouped_values
from accelsim.workload.model.forward import PLAIN, Hooks, LinearHook, final_states
from accelsim.workload.model.language import LanguageModel, load_model
from accelsim.workload.model.llama import Array
from accelsim.workload.model.texts import CALIBRATED_KINDS, KINDS, read_texts
from accelsim.workload.tensors import GemmTensors

MODEL, MACHINE = "smollm2", "tender-asic"
WINDOW = 512
"""Half of what a window of the other experiments has: many runs, and differences of percents."""
PAGES = Sampling(windows=8, window=WINDOW, first_token=4096)
MIXTURE = "mixture"
NOTHING = "nothing"
Row = dict[str, Any]

FORMS = {
    "static": GroupOptions(base="static", use_bias=True, first_rows=1, rounding="best"),
    "row": GroupOptions(),
    "static, INT4": GroupOptions(
        bits=4, base="static", use_bias=True, first_rows=1, rounding="best"
    ),
    "row, INT4": GroupOptions(bits=4),
    "row, best of 6, INT4": GroupOptions(bits=4, candidates=6, quantile=0.999),
}
"""Channel groups with a calibrated range, as `accelsim calibrate` made them by default before; and
with the base of every row."""
ROTATED = "rotated, row, best of 6, INT4"
"""No groups: a Hadamard rotation of blocks of channels, then the best of six bases of every row."""
EIGHT_BITS = [name for name, options in FORMS.items() if options.bits == 8]
FOUR_BITS = [name for name in FORMS if name not in EIGHT_BITS]


class Point(NamedTuple):
    """A row of a table."""

    step: str
    form: str
    calibrated_on: str
    evaluated_on: str
    weight_bits: int = 8
    """16: weights stay as they are."""


def statement_points() -> Iterator[Point]:
    """Yield every form with every kind that it is calibrated on, evaluated on every kind."""
    for kind in KINDS:
        yield Point("statements", "per row", NOTHING, kind)
    for source in (MIXTURE, *KINDS):
        for form in EIGHT_BITS:
            yield from (Point("statements", form, source, kind) for kind in KINDS)


def kernel_points() -> Iterator[Point]:
    """Yield what the kernels lose with the mixture."""
    for form, source in (("static", MIXTURE), ("row", MIXTURE), ("per row", NOTHING)):
        yield from (Point("kernels", form, source, kind) for kind in KINDS)


def four_bit_points() -> Iterator[Point]:
    """Yield forms of INT4 with weights as they are, and the better ones with weights in INT4."""
    for weight_bits, forms in ((16, (*FOUR_BITS, ROTATED)), (4, (FOUR_BITS[-1], ROTATED))):
        for form in forms:
            source = NOTHING if form == ROTATED else MIXTURE
            for kind in KINDS:
                yield Point("statements", form, source, kind, weight_bits)


def calibrated(form: str, source: str, folder: Path) -> Path:
    """Return the file of a calibration; forms of equal bits are made of what is read once."""
    forms = EIGHT_BITS if form in EIGHT_BITS else FOUR_BITS
    paths = {each: folder / f"{each}-{source}.safetensors" for each in forms}
    if not paths[form].exists():
        model = load_model(MODEL)
        texts = read_texts(CALIBRATED_KINDS if source == MIXTURE else [source])
        sampling = replace(PAGES, windows=-(-PAGES.windows // len(texts)))
        windows = np.concatenate([sampled_windows(model, text, sampling) for text in texts])
        inputs: dict[str, dict[str, ChannelGroups]] = {each: {} for each in forms}
        for layer, seen in enumerate(inputs_of_layers(model.weights, windows)):
            for name, samples in seen.items():
                for each in forms:
                    inputs[each][f"layer{layer}.{name}"] = channel_groups(samples, FORMS[each])
        for each in forms:
            provenance = provenance_of(MODEL, texts, sampling, FORMS[each])
            save_calibration(Calibration(provenance, inputs[each]), paths[each])
    return paths[form]


def rotated(x: Array) -> Array:
    """Return x [rows, k] times a Hadamard matrix for each block of channels, as large as k allows.

    It is orthonormal: x and w rotated alike have the product that they had.
    """
    block = x.shape[1] & -x.shape[1]
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < block:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    parts = x.reshape(-1, block) @ (matrix / np.float32(np.sqrt(block)))
    return np.ascontiguousarray(parts.reshape(x.shape))


class Statements:
    """The network with the operands of its linears replaced."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._ids = lru_cache(maxsize=None)(self._read)
        self._fp32 = lru_cache(maxsize=None)(lambda kind: self._states(kind, PLAIN.linear))
        self._weights = lru_cache(maxsize=7 * model.weights.config.layers)(self._code)

    def quality(self, point: Point, calibration: Calibration | None) -> Quality:
        """Return what a kind of text loses."""
        kind = point.evaluated_on
        states = self._states(kind, self._linear(point, calibration))
        found = compare_predictions(
            self._model.weights, states, self._fp32(kind), self._ids(kind)[1:]
        )
        return Quality.of([found])

    def _read(self, kind: str) -> list[int]:
        (text,) = read_texts([kind])
        return self._model.tokenizer.encode(text.content)[: WINDOW + 1]

    def _states(self, kind: str, linear: LinearHook) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return final_states(self._model.weights, self._ids(kind)[:-1], Hooks(linear=linear))

    def _code(self, layer: int, name: str, bits: int, is_rotated: bool) -> Array:
        weight = self._model.weights.layers[layer].linears[name]
        weight = rotated(weight) if is_rotated else weight
        coded = weight.T if bits == 16 else per_column(weight.T, bits).values
        return np.ascontiguousarray(coded, np.float32)

    def _linear(self, point: Point, calibration: Calibration | None) -> LinearHook:
        is_rotated = point.form == ROTATED

        def linear(layer: int, name: str, x: Array, weight: Array) -> Array:
            coded = self._weights(layer, name, point.weight_bits, is_rotated)
            if is_rotated:
                ones = np.ones(x.shape[1], np.float32)
                return best_rows(rotated(x), ones, 4, 6).values.astype(np.float32) @ coded
            if calibration is None:
                return per_row(x, 8).values.astype(np.float32) @ coded
            tensors = GemmTensors(x, coded, f"layer{layer}.{name}", MODEL)
            groups = calibration.groups_of(tensors)
            return grouped_values(x, groups).astype(np.float32) @ coded

        return linear


def kernel_quality(point: Point, folder: Path) -> Quality:
    """Return what a kernel loses on a kind of text."""
    recipe = Recipe("quantized")
    if point.form in FORMS:
        recipe = Recipe("tender", calibration=calibrated(point.form, MIXTURE, folder))
    text = point.evaluated_on
    return evaluate(MODEL, None, {}, MACHINE, text, WINDOW, WINDOW, linear=recipe)


def main(out: Path, steps: Sequence[str]) -> None:
    """Add the rows that the table does not hold yet."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        statements = Statements(load_model(MODEL))
    except WorkloadError as error:
        print(f"nothing to run: {error}")
        return

    def statement_quality(point: Point) -> Quality:
        if point.form not in FORMS:
            return statements.quality(point, None)
        path = calibrated(point.form, point.calibrated_on, out)
        return statements.quality(point, load_calibration(path))

    if "statements" in steps:
        extend(out / "matrix.csv", statement_points(), statement_quality)
    if "four_bits" in steps:
        extend(out / "four_bits.csv", four_bit_points(), statement_quality)
    if "kernels" in steps:
        extend(out / "kernels.csv", kernel_points(), lambda point: kernel_quality(point, out))


def extend(table: Path, points: Iterator[Point], quality: Callable[[Point], Quality]) -> None:
    """Add what a table lacks, a row at a time."""
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {tuple(row[name] for name in Point._fields) for row in rows}
    for point in points:
        if tuple(point) not in done:
            rows.append(point._asdict() | measured(quality(point)))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or ("statements", "kernels", "four_bits"))
