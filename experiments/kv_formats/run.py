"""What a format of the KV cache costs a step of decode, and what it does to a real model.

    python run.py OUT [STEP]

STEP is `costs` or `quality`; absent: both. `costs` writes OUT/costs.csv, one row a system and
format. `quality` writes OUT/quality.csv, one row a format and text; it needs a model (`accelsim
model fetch smollm2`).
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from accelsim.errors import AccelsimError
from accelsim.inference.cost import StepModel
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.loading import load_devices
from accelsim.models.kv_format import with_kv_in
from accelsim.models.loading import load_architecture
from accelsim.models.step import Step
from accelsim.quality.evaluate import evaluate_caches
from accelsim.quality.passages import Reading
from accelsim.quality.summary import measured

MODEL, SMALL = "llama-3.1-8b", "smollm2"
SEQUENCES, CACHED = 32, 4095
SYSTEMS = {
    "ascend-910b": {},
    "h200": {},
    # The accelerator after Tender has one small stack: it gets one that holds model and cache.
    "tender-asic": {"hbm.capacity": "64 GiB"},
}
FORMATS = (
    "bf16",
    "fp8_e4m3",
    "fp8_e4m3(scales=tensor)",
    "fp8_e4m3(scales=head)",
    "int8",
    "int8(scales=power_of_two)",
    "int4",
    "int4(scales=power_of_two)",
)
IN_ARRAY = {f"int{bits} in the array": f"int_flash(bits={bits})" for bits in (8, 4)}
"""Attention whose products are those of integers: a cache of codes that the array multiplies."""
TEXTS = ("reference", "code", "legal", "play")
TOKENS, WINDOW = 512, 512


def costs_of(system: str, label: str, kv: str, attention: Recipe | None) -> dict[str, Any]:
    """Return a row: a step of decode, or why there is none."""
    row: dict[str, Any] = {"system": system, "format": label}
    try:
        architecture = with_kv_in(load_architecture(MODEL), kv)
        devices = load_devices(system, SYSTEMS[system], "--set machine.")
        model = StepModel(architecture, devices, Kernels(attention=attention))
        cost = model.cost(Step.decode(SEQUENCES, CACHED))
    except AccelsimError as error:
        return row | {"reason": str(error)}
    (own,) = (each for each in cost.operations if each.name.startswith("attention of steps"))
    tokens = CACHED + 1
    return row | {
        "time_s": cost.time_s,
        "energy_j": cost.energy_j,
        "hbm_bytes": cost.measured.hbm_read_bytes + cost.measured.hbm_write_bytes,
        "kv_bytes": SEQUENCES * architecture.kv_bytes(tokens, architecture.cached_format),
        "attention_s": own.report.time_s * own.count,
        "attention_recipe": own.report.recipe,
        "bound_by": own.report.bound_by,
        "reason": "",
    }


def array_bytes(bits: int) -> int:
    """Return the bytes of the cache of `int_flash`: codes, and an FP32 scale for each key."""
    layers = load_architecture(MODEL).layers
    rows = sum(layer.attention.kv_heads for layer in layers) * SEQUENCES * (CACHED + 1)
    return rows * (2 * layers[0].attention.head_dim * bits // 8 + 4)


def costs(folder: Path) -> None:
    """Write the costs of every format on every system."""
    rows = [costs_of(system, each, each, None) for system in SYSTEMS for each in FORMATS]
    for label, recipe in IN_ARRAY.items():
        coded = Recipe.parse(recipe).updated({"input": "quantized"})
        row = costs_of("tender-asic", label, "bf16", coded)
        rows.append(row | {"kv_bytes": array_bytes(coded.parameters().bits)})
    pd.DataFrame(rows).to_csv(folder / "costs.csv", index=False)


def quality(folder: Path) -> None:
    """Write what every format that is read as numbers does to every text."""
    coded = [each for each in FORMATS if each != "bf16"]
    reading = Reading(TEXTS, tokens=TOKENS, window=WINDOW)
    reports = dict(zip(coded, evaluate_caches(SMALL, coded, reading=reading), strict=True))
    rows = [
        {"format": label, "text": text} | measured(each)
        for label, report in reports.items()
        for text, each in [("all", report), *((own.text, own) for own in report.texts)]
    ]
    pd.DataFrame(rows).to_csv(folder / "quality.csv", index=False)


def main(folder: Path, *steps: str) -> None:
    """Run what was asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps or ("costs", "quality"):
        {"costs": costs, "quality": quality}[step](folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
