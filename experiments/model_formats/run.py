"""Time, energy and bytes of a whole model by linear scheme, and what each does to a real model.

    python run.py OUT [STEP]

STEP is `costs` or `quality`; absent: both. `costs` runs `sweep.yaml` into OUT/sweep. `quality`
writes OUT/quality.csv, one row a scheme; it needs a model (`accelsim model fetch smollm2`). Either
goes on where it was stopped.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

import accelsim
from accelsim.errors import AccelsimError
from accelsim.library.kernels import Kernels
from accelsim.quality.passages import Reading
from accelsim.quality.summary import measured
from accelsim.quantization.calibration import Sampling, best_options, calibrate
from accelsim.quantization.calibration_file import save_calibration
from accelsim.sweeps.contents import load_sweep

HERE = Path(__file__).parent
SWEEP = HERE / "sweep.yaml"
MODEL = "smollm2"
BITS, TOKENS = 8, 256
TEXTS = ("legal", "reference")
MACHINES = ("tender-asic", "ascend-910b", "h200-sxm")
"""The first of them that has the units of a scheme computes its numbers."""
CALIBRATED = ("tender", "requantized")
"""Kernels whose channels have groups, which a calibration finds."""


def schemes() -> list[str]:
    """Return the kernels of the sweep."""
    axis = load_sweep(SWEEP).axes["workload.linear"]
    return [str(each) for each in axis] if isinstance(axis, list | tuple) else []


def recipe_of(scheme: str, folder: Path) -> accelsim.Recipe:
    """Return the kernel with its defaults, calibrated on the model if it needs that."""
    if scheme not in CALIBRATED:
        return accelsim.Recipe.parse(scheme)
    path = folder / "calibration.safetensors"
    if not path.exists():
        found = calibrate(MODEL, best_options(BITS), Sampling(), weight_bits=BITS)
        save_calibration(found, path)
    return accelsim.Recipe(scheme, calibration=path)


def quality(scheme: str, folder: Path) -> dict[str, Any]:
    """Return a row: the change of the perplexity over the texts, or why there is none."""
    recipe, row, reasons = recipe_of(scheme, folder), {"scheme": scheme, "model": MODEL}, []
    for machine in MACHINES:
        try:
            report = accelsim.evaluate(
                MODEL,
                Kernels(linear=recipe),
                machine=machine,
                reading=Reading(TEXTS, tokens=TOKENS, window=TOKENS),
            )
        except AccelsimError as error:
            reasons.append(str(error))
            continue
        told = {"machine": machine, "texts": " ".join(TEXTS), "reason": ""}
        return row | measured(report) | told
    return row | {"reason": "; ".join(reasons)}


def judge(folder: Path) -> None:
    """Add the rows that the table does not hold yet."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "quality.csv"
    rows = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = {row["scheme"] for row in rows}
    for scheme in schemes():
        if scheme not in done:
            rows.append(quality(scheme, folder))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(table, index=False)


def main(out: Path, step: str = "") -> None:
    """Run one step, or both."""
    if step in ("", "costs"):
        accelsim.sweep(SWEEP, out / "sweep", workers=1)
    if step in ("", "quality"):
        judge(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
