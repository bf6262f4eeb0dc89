"""A small world to sweep over, and point functions that need no simulator."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelsim.errors import DoesNotFitError, OutputError, ShortageError, UnknownNameError
from accelsim.library.recipe import LIBRARY, Recipe
from accelsim.sweeps.spec import SweepSpec
from accelsim.units import parse_quantity

MACHINES: dict[str, dict[str, Any]] = {
    "big": {"name": "big", "technology": "7nm", "cores": 24, "scratchpad": {"capacity": 720896}},
    "small": {"name": "small", "technology": "28nm", "cores": 1, "scratchpad": {"capacity": 65536}},
}
WORKLOADS: dict[str, dict[str, Any]] = {
    "prefill": {"name": "prefill", "q_len": 2048, "q_heads": 8, "kv_heads": 8},
    "decode": {"name": "decode", "q_len": 1, "q_heads": 8, "kv_heads": 8},
}
KERNELS: dict[str, dict[str, Any]] = {
    "dense": {"tile_q": 64},
    "flash": {"tile_q": None, "tile_k": 128},
}
TECHNOLOGIES: dict[str, dict[str, Any]] = {"7nm": {"name": "7nm"}, "28nm": {"name": "28nm"}}
DOCUMENTS = {
    "machine": MACHINES,
    "workload": WORKLOADS,
    "kernel": KERNELS,
    "technology": TECHNOLOGIES,
}


def read_fake(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Contents of `name` with settings applied, as `read_contents` returns them."""
    if kind == "kernel" and name == LIBRARY:
        return {}
    if kind == "kernel":
        recipe = Recipe.parse(name).updated(settings)
        name, settings = recipe.kernel, recipe.settings
    if name not in DOCUMENTS[kind]:
        raise UnknownNameError(f"unknown {kind} '{name}'")
    contents = dict(DOCUMENTS[kind][name])
    for key, value in settings.items():
        if key == "scratchpad.capacity":
            contents["scratchpad"] = {"capacity": int(parse_quantity(str(value), "bytes"))}
        elif key in contents:
            contents[key] = value
        else:
            raise DoesNotFitError(f"{kind}.{key}: unknown key")
    if kind == "workload" and contents["q_heads"] % contents["kv_heads"]:
        raise DoesNotFitError("workload.kv_heads: does not divide q_heads")
    return contents


def grid_of(count: int) -> SweepSpec:
    """A sweep of `count` points."""
    return SweepSpec(
        name="grid",
        machine="big",
        workloads=("prefill",),
        kernels=("flash",),
        axes={"tile_q": tuple(range(1, count + 1))},
    )


def run_quick(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A point that costs nothing; notes that it ran in the file $RUN_LOG."""
    tile_q = settings.get("tile_q", 64)
    if "RUN_LOG" in os.environ:
        with Path(os.environ["RUN_LOG"]).open("a") as log:
            log.write(f"{tile_q}\n")
    return {"machine": machine, "workload": workload, "kernel": kernel, "cycles": 1000 // tile_q}


def run_slow(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A point that takes a while."""
    row = run_quick(machine, workload, kernel, settings)
    time.sleep(0.02)
    return row


def run_uneven(
    machine: str, workload: str, kernel: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """A point that costs nothing up to tile 40, and a while beyond."""
    run = run_quick if settings["tile_q"] <= 40 else run_slow
    return run(machine, workload, kernel, settings)


def run_picky(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A point that does not fit for even tiles and meets a defect for tile 3."""
    if settings["tile_q"] % 2 == 0:
        raise DoesNotFitError(f"tile_q = {settings['tile_q']} does not fit")
    if settings["tile_q"] == 3:
        raise ZeroDivisionError("a defect")
    return run_quick(machine, workload, kernel, settings)


def run_fatal(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A point that takes its whole process down."""
    os._exit(1)


def run_interrupted(
    machine: str, workload: str, kernel: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """A point at which the user presses Ctrl-C, unless it has been run before."""
    if settings["tile_q"] == 3 and not Path(os.environ["RUN_LOG"]).with_suffix(".again").exists():
        raise KeyboardInterrupt
    return run_quick(machine, workload, kernel, settings)


LACKS = {
    2: MemoryError("Unable to allocate 9 TiB"),
    3: ShortageError("kernel flash: this computer has too little memory free"),
    4: OSError(24, "Too many open files"),
    5: OutputError("/cache: cannot keep compiled code: No space left on device"),
    6: PermissionError(13, "Permission denied"),
    7: ImportError("libnuma.so.1: cannot open shared object file"),
    8: TimeoutError("timed out"),
}


def run_short(machine: str, workload: str, kernel: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A point for which the computer lacks something, unless it has been given more of all."""
    # Workers have the environment of the first test that started some.
    log = os.environ.get("RUN_LOG")
    is_enough = log is not None and Path(log).with_suffix(".more").exists()
    if settings["tile_q"] in LACKS and not is_enough:
        raise LACKS[settings["tile_q"]]
    return run_quick(machine, workload, kernel, settings)
