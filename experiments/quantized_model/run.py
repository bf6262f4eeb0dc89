"""Perplexity of a real model with its linears in integers: `python run.py OUT [STEP]`.

STEP is `quality` or `kernels`; absent: both. `quality` writes OUT/quality.csv, one row a scheme by
its statement, and `kernels` OUT/kernels.csv, one row a kernel with its costs. Each step makes only
the calibrations that it needs; a run that was stopped goes on where it stopped. Needs the model
(`accelsim model fetch smollm2`).
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import kernels
import numpy as np
import pandas as pd
import schemes
from schemes import Linears, Operands

from accelsim.errors import WorkloadError
from accelsim.quantization.calibration import (
    Calibration,
    Sampling,
    inputs_of_layers,
    provenance_of,
    sampled_windows,
)
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.schemes import MIGRATION_STRENGTH
from accelsim.workload.model.forward import PLAIN, Hooks, LinearHook, token_losses
from accelsim.workload.model.language import LanguageModel, default_text, load_model
from accelsim.workload.model.texts import Text

MODEL = "smollm2"
WINDOWS, WINDOW = 4, 1024
Row = dict[str, Any]
SCHEME_KEY = ("part", "label", "weight_bits", "activation_bits")


FOUR_BITS = {
    "8 windows": {"chunk_rows": 256},
    "8 windows, one chunk": {},
    "8 windows, best rounding": {"chunk_rows": 256, "rounding": "best"},
    "8 windows, 4 groups": {"chunk_rows": 256, "groups": 4},
    "8 windows, 16 groups": {"chunk_rows": 256, "groups": 16},
}


PLAIN_GROUPS = "plain"
"""Many windows, the first row apart, one chunk, bias, 8 groups, ranges rounded up."""


class Choice(NamedTuple):
    """A calibration: windows that were read, and how groups were made."""

    windows: int
    options: GroupOptions


def choice(windows: int = 64, **options: Any) -> Choice:
    plain = {"base": "static", "first_rows": 1, "chunk_rows": WINDOW, "use_bias": True}
    return Choice(windows, GroupOptions(**plain | options))


CALIBRATIONS = {
    PLAIN_GROUPS: choice(),
    "best rounding": choice(rounding="best"),
    "8 windows": choice(8),
    "first row with the rest": choice(first_rows=0),
    "chunks of 256": choice(chunk_rows=256),
    "chunks of 256, 8 windows": choice(8, chunk_rows=256),
    "chunks of 256, first row with the rest": choice(chunk_rows=256, first_rows=0),
    "as published": choice(8, chunk_rows=256, first_rows=0),
    "no bias": choice(use_bias=False),
    "rounding down": choice(rounding="down"),
    "best rounding, 8 windows": choice(8, rounding="best"),
    "1 group": choice(groups=1),
    **{f"{groups} groups": choice(groups=groups) for groups in (2, 4, 16)},
    "4 bits": choice(bits=4, chunk_rows=256),
    **{f"4 bits, {name}": choice(8, bits=4, **options) for name, options in FOUR_BITS.items()},
}


class Scheme(NamedTuple):
    """One row of the table."""

    part: str
    label: str
    operands: Operands
    weights: str | None
    """What shares a scale in the weights; None: they stay as they are."""
    weight_bits: int
    activation_bits: int
    calibration: str = PLAIN_GROUPS


def baselines(bits: int) -> Iterator[Scheme]:
    """Yield the schemes without groups."""

    def scheme(label: str, operands: Operands, weights: str | None = "column") -> Scheme:
        return Scheme("schemes", label, operands, weights, bits, bits)

    for weights in ("tensor", "column"):
        yield Scheme("weights", f"per {weights}", schemes.as_they_are, weights, bits, 16)
    yield scheme("per tensor, static", schemes.activations(schemes.static_tensor, bits), "tensor")
    yield scheme("per tensor, dynamic", schemes.activations(schemes.dynamic_tensor, bits), "tensor")
    yield scheme("per row, dynamic", schemes.activations(schemes.dynamic_row, bits))
    yield scheme("per channel, static (a bound)", schemes.activations(schemes.static_channel, bits))
    yield scheme("SmoothQuant", schemes.migrated(bits, MIGRATION_STRENGTH), None)
    yield scheme("outliers above 6 in FP", schemes.split_by_magnitude(bits), None)
    yield scheme("3 % of channels in FP", schemes.split_by_share(bits, 0.03), None)


def groups_of_eight_bits() -> Iterator[Scheme]:
    """Yield channel groups in INT8 with one choice changed at a time."""

    def scheme(
        label: str, calibration: str = PLAIN_GROUPS, weights: str | None = "column"
    ) -> Scheme:
        bits = 16 if weights is None else 8
        return Scheme("groups", label, schemes.grouped, weights, bits, 8, calibration)

    for calibration in CALIBRATIONS:
        if not calibration.startswith("4 bits"):
            yield scheme(calibration, calibration)
    yield scheme("weights per tensor", weights="tensor")
    yield scheme("weights as they are", weights=None)
    plain_bias = schemes.grouped_with_plain_bias
    yield Scheme("groups", "bias times plain weights", plain_bias, "column", 8, 8)


def groups_of_four_bits() -> Iterator[Scheme]:
    """Yield channel groups in INT4, beside weights of 4 and of 8 bits, and weights alone."""
    for calibration in CALIBRATIONS:
        if calibration.startswith("4 bits"):
            yield Scheme("groups", calibration, schemes.grouped, "column", 4, 4, calibration)
    best = "4 bits, 8 windows"
    yield Scheme("groups", best, schemes.grouped, "column", 8, 4, best)
    yield Scheme("groups", PLAIN_GROUPS, schemes.grouped, "column", 4, 8)
    yield Scheme("weights", "per 128 rows of a column", schemes.as_they_are, "rows of 128", 4, 16)


def all_schemes() -> list[Scheme]:
    return [
        *groups_of_eight_bits(),
        *baselines(8),
        *baselines(4),
        *groups_of_four_bits(),
    ]


def calibrations(model: LanguageModel, out: Path, names: Iterable[str]) -> dict[str, Calibration]:
    """Return these calibrations, made in one pass over the text and kept in files."""
    paths = {name: out / f"{name}.safetensors" for name in names}
    missing = {name for name, path in paths.items() if not path.exists()}
    if missing:
        texts = [Text("all of the language reference", default_text())]
        sampling = Sampling(windows=max(CALIBRATIONS[name].windows for name in missing))
        made: dict[str, dict[str, Any]] = {name: {} for name in missing}
        for layer, seen in enumerate(
            inputs_of_layers(model.weights, sampled_windows(model, texts[0], sampling))
        ):
            print(f"calibrating layer {layer}", flush=True)
            for input_name, samples in seen.items():
                for name in missing:
                    windows, options = CALIBRATIONS[name]
                    groups = channel_groups(samples[:windows], options)
                    made[name][f"layer{layer}.{input_name}"] = groups
        for name, inputs in made.items():
            windows, options = CALIBRATIONS[name]
            provenance = provenance_of(MODEL, texts, Sampling(windows=windows), options)
            save_calibration(Calibration(provenance, inputs), paths[name])
    return {name: load_calibration(path) for name, path in paths.items()}


def losses(model: LanguageModel, linear: LinearHook) -> Any:
    """Return the loss of every token of the evaluated windows, in nats."""
    ids = model.tokenizer.encode(default_text())
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate(
            [
                token_losses(model.weights, ids[start : start + WINDOW + 1], Hooks(linear=linear))
                for start in range(0, WINDOWS * WINDOW, WINDOW)
            ]
        )


def run_quality(model: LanguageModel, out: Path) -> None:
    """Add the schemes that the table of the quality does not hold yet."""
    made, linears = calibrations(model, out, CALIBRATIONS), Linears(model)
    fp32 = losses(model, PLAIN.linear)

    def quality_of(scheme: Scheme) -> Row:
        hook = linears.by(
            scheme.operands, scheme.weights, scheme.weight_bits, made[scheme.calibration]
        )
        return row_of(scheme, losses(model, hook), fp32)

    extend(out / "quality.csv", all_schemes(), SCHEME_KEY, quality_of)


def run_kernels(model: LanguageModel, out: Path) -> None:
    """Add the kernels that their table does not hold yet."""
    calibrations(model, out, {point.calibration for point in kernels.points()} - {None})
    extend(out / "kernels.csv", kernels.points(), ("label",), lambda p: kernels.row_of(p, out))


STEPS = {"quality": run_quality, "kernels": run_kernels}


def main(out: Path, steps: Sequence[str]) -> None:
    """Run steps, in folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        model = load_model(MODEL)
    except WorkloadError as error:
        print(f"nothing to run: {error}")
        return
    for step in steps:
        STEPS[step](model, out)


def extend(table: Path, points: Iterable[Any], key: Sequence[str], row: Callable[..., Row]) -> None:
    """Add the row of every point that the table does not have, known by the columns `key`."""
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {tuple(each[name] for name in key) for each in rows}
    for point in points:
        if tuple(getattr(point, name) for name in key) not in done:
            rows.append(row(point))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


def row_of(scheme: Scheme, found: Any, fp32: Any) -> Row:
    changes = found - fp32
    return {name: getattr(scheme, name) for name in SCHEME_KEY} | {
        "fp32_perplexity": np.exp(fp32.mean()),
        "perplexity": np.exp(found.mean()),
        "nll_change": changes.mean(),
        "nll_change_se": changes.std(ddof=1) / np.sqrt(len(changes)),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(STEPS))
