"""Spaces to explore whose best designs are known, and point functions that need no simulator."""

import os
import time
from pathlib import Path
from typing import Any

from accelsim.errors import DoesNotFitError
from accelsim.exploring.spec import ExploreSpec

WHOLE: dict[str, Any] = {
    "name": "tiles",
    "machine": "big",
    "workloads": ["prefill"],
    "kernels": ["flash"],
    "axes": {"tile_q": list(range(1, 41)), "tile_k": list(range(1, 31))},
    "minimize": ["time_s", "energy_j"],
    "budget": {"points": 24},
}


def space_of(**changes: Any) -> ExploreSpec:
    """An exploration of 1200 designs, unless `changes` say otherwise."""
    return ExploreSpec.model_validate({**WHOLE, **changes})


def run_trade(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Time falls and energy rises with tile_q; what tile_k is away from 20 costs both.

    So the front is tile_k = 20, with each tile_q. Designs of more than 1000 elements do not fit.
    """
    tile_q, tile_k = settings["tile_q"], settings["tile_k"]
    if "RUN_LOG" in os.environ:
        with Path(os.environ["RUN_LOG"]).open("a") as log:
            log.write(f"{1000 * tile_q + tile_k}\n")
    if tile_q * tile_k > 1000:
        raise DoesNotFitError("more than 1000 elements")
    waste = 1 + abs(tile_k - 20) / 10
    return {"kernel": kernel, "time_s": waste / tile_q, "energy_j": waste * tile_q, "gain": tile_q}


def run_slow(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The same after a while."""
    time.sleep(0.02)
    return run_trade(machine, workload, kernel, settings)


def run_lost(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Every other output has elements that are not finite; infinite energy for tile_q = 1."""
    row = run_trade(machine, workload, kernel, settings)
    lost = {"accuracy.nonfinite_fraction": settings["tile_q"] % 2, "accuracy.rmse": row["time_s"]}
    energy = float("inf") if settings["tile_q"] == 2 else row["energy_j"]
    return {**row, **lost, "energy_j": energy}
