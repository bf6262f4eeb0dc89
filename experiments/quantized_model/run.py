"""Perplexity of a real model with its linears in integers: `python run.py OUT`.

Writes OUT/quality.csv, one row a scheme; a run that was stopped goes on where it stopped. Needs the
model (`accelsim model fetch smollm2`).
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import schemes
from schemes import Linears, Operands

from accelsim.errors import WorkloadError
from accelsim.quantization.calibration import (
    Calibration,
    Provenance,
    Sampling,
    inputs_of_layers,
    sampled_windows,
)
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.schemes import MIGRATION_STRENGTH
from accelsim.workload.model.forward import PLAIN, Hooks, LinearHook, token_losses
from accelsim.workload.model.language import (
    DEFAULT_TEXT,
    LanguageModel,
    default_text,
    load_model,
)

MODEL = "smollm2"
WINDOWS, WINDOW = 4, 1024
MACHINE = "ascend-910b"
Row = dict[str, Any]


FOUR_BITS = {
    "8 windows": {"chunk_rows": 256},
    "8 windows, one chunk": {},
    "8 windows, best rounding": {"chunk_rows": 256, "rounding": "best"},
    "8 windows, 4 groups": {"chunk_rows": 256, "groups": 4},
    "8 windows, 16 groups": {"chunk_rows": 256, "groups": 16},
}


class Choice(NamedTuple):
    """A calibration: windows that were read, and how groups were made."""

    windows: int
    options: GroupOptions


def choice(windows: int = 64, **options: Any) -> Choice:
    return Choice(windows, GroupOptions(**{"first_rows": 1, "chunk_rows": WINDOW} | options))


CALIBRATIONS = {
    "default": choice(),
    "8 windows": choice(8),
    "first row with the rest": choice(first_rows=0),
    "chunks of 256": choice(chunk_rows=256),
    "chunks of 256, 8 windows": choice(8, chunk_rows=256),
    "chunks of 256, first row with the rest": choice(chunk_rows=256, first_rows=0),
    "as published": choice(8, chunk_rows=256, first_rows=0),
    "no bias": choice(use_bias=False),
    "rounding down": choice(rounding="down"),
    "best rounding, 8 windows": choice(8, rounding="best"),
    **{f"{groups} groups": choice(groups=groups) for groups in (1, 2, 4, 16)},
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
    calibration: str = "default"


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

    def scheme(label: str, calibration: str = "default", weights: str | None = "column") -> Scheme:
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
    yield Scheme("groups", "default", schemes.grouped, "column", 4, 8)
    yield Scheme("weights", "per 128 rows of a column", schemes.as_they_are, "rows of 128", 4, 16)


def all_schemes() -> list[Scheme]:
    return [
        *groups_of_eight_bits(),
        *baselines(8),
        *baselines(4),
        *groups_of_four_bits(),
    ]


def calibrations(model: LanguageModel, out: Path) -> dict[str, Calibration]:
    """Return all calibrations, made in one pass over the text and kept in files."""
    paths = {name: out / f"{name}.safetensors" for name in CALIBRATIONS}
    missing = {name for name, path in paths.items() if not path.exists()}
    if missing:
        text = default_text()
        sampling = Sampling(windows=max(CALIBRATIONS[name].windows for name in missing))
        made: dict[str, dict[str, Any]] = {name: {} for name in missing}
        for layer, seen in enumerate(
            inputs_of_layers(model.weights, sampled_windows(model, text, sampling))
        ):
            print(f"calibrating layer {layer}", flush=True)
            for input_name, samples in seen.items():
                for name in missing:
                    windows, options = CALIBRATIONS[name]
                    groups = channel_groups(samples[:windows], options)
                    made[name][f"layer{layer}.{input_name}"] = groups
        for name, inputs in made.items():
            windows, options = CALIBRATIONS[name]
            provenance = Provenance(
                model=MODEL,
                text=DEFAULT_TEXT,
                text_sha256=hashlib.sha256(text.encode()).hexdigest(),
                sampling=Sampling(windows=windows),
                options=options,
            )
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


def main() -> None:
    """Run the schemes that quality.csv does not hold yet, and add each of them to it."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    try:
        model = load_model(MODEL)
    except WorkloadError as error:
        print(f"nothing to run: {error}")
        return
    table = out / "quality.csv"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {(row["part"], row["label"], row["weight_bits"], row["activation_bits"]) for row in rows}
    fp32 = losses(model, PLAIN.linear)
    made, linears = calibrations(model, out), Linears(model)
    for scheme in all_schemes():
        key = (scheme.part, scheme.label, scheme.weight_bits, scheme.activation_bits)
        if key in done:
            continue
        hook = linears.by(
            scheme.operands, scheme.weights, scheme.weight_bits, made[scheme.calibration]
        )
        rows.append(row_of(scheme, losses(model, hook), fp32))
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(table, index=False)


def row_of(scheme: Scheme, found: Any, fp32: Any) -> Row:
    changes = found - fp32
    return {
        "part": scheme.part,
        "label": scheme.label,
        "weight_bits": scheme.weight_bits,
        "activation_bits": scheme.activation_bits,
        "fp32_perplexity": np.exp(fp32.mean()),
        "perplexity": np.exp(found.mean()),
        "nll_change": changes.mean(),
        "nll_change_se": changes.std(ddof=1) / np.sqrt(len(changes)),
    }


if __name__ == "__main__":
    main()
