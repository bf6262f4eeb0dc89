"""Run every integer scheme on layers of large models and of a small real one: python run.py OUT

Cost comes from the shapes of Llama-2-7B and OPT-6.7B, without numbers, on machines whose arrays
take the same area. Errors come from linears of SmolLM2, captured from the model that
`accelsim model fetch smollm2` fetches; without it there is one, the shipped query projection.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from accelsim import Recipe, simulate
from accelsim.accounts.area import arithmetic_area_mm2
from accelsim.errors import AccumulatorWarning, WorkloadError
from accelsim.loading import LoadedWorkload, load_machine, load_technology, load_workload
from accelsim.workload.problem import GemmProblem
from accelsim.workload.sources import FileSource, ModelLinearSource
from accelsim.workload.tensors import load_tensors

MACHINE = "tender-asic"
ROWS = {"prefill": 2048, "decode": 1}
LAYERS = {
    "Llama-2-7B": {"qkv": (12288, 4096), "o": (4096, 4096), "gate-up": (22016, 4096)}
    | {"down": (4096, 11008)},
    "OPT-6.7B": {"qkv": (12288, 4096), "o": (4096, 4096), "up": (16384, 4096)}
    | {"down": (4096, 16384)},
}
"""Model -> linear -> (n, k); config.json of meta-llama/Llama-2-7b-hf and facebook/opt-6.7b."""
GROUPS = (1, 2, 4, 8, 16)
SHARES = (0.01, 0.03)
REAL = [(layer, linear) for layer in (4, 11, 28) for linear in ("q", "o", "gate", "down")]
TOKENS = 256
COLUMNS = ("cycles", "hbm_read_bytes", "hbm_write_bytes", "energy_j", "bound_by")


class Design(NamedTuple):
    """A machine, and the tiles that suit it."""

    machine: dict[str, object]
    """Settings of the machine."""
    tiles: dict[str, int]
    """Parameters of the kernels."""


def design(
    rows: int, cols: int, *, shift: bool = False, cube: tuple[int, int, int] | None = None
) -> Design:
    """Return a machine with an array of rows x cols, and tiles of its size."""
    sides = {"rows": rows, "cols": cols, "can_shift": shift}
    own: dict[str, object] = {}
    own["machine.int_mac"] = sides | {"pipeline_depth_cycles": 2, "index_buffer": "64 KiB"}
    if cube:
        own["machine.cube"] = dict(zip(("tile_m", "tile_n", "tile_k"), cube, strict=True)) | {
            "rates": {"fp16": 1},
            "pipeline_depth_cycles": 8,
            "operand_buffer": "8 KiB",
        }
    return Design(own, {"tile_m": rows, "tile_n": cols})


def fp16_design() -> Design:
    """Return a machine with a cube in the place of the array."""
    machine, tiles = design(64, 126, cube=(8, 7, 3))
    return Design(machine | {"machine.int_mac": None}, tiles | {"tile_k": 258})


DESIGNS = {
    "shift": design(64, 64, shift=True),
    "no shift": design(68, 70),
    "mixed 1 %": design(60, 62, cube=(5, 4, 2)),
    "mixed 3 %": design(50, 52, cube=(5, 4, 4)),
    "fp16": fp16_design(),
}
"""Arithmetic of at most the 0.391 mm2 of the 64 x 64 array that can shift, at 28 nm.

An element without the shift is 16 % smaller. An FP16 multiplier with its sum takes the area of 28
elements without it; the cubes are as large as lets them keep up with what is left for the array.
"""


Point = dict[str, object]
PUBLISHED: Point = {"base": "static", "use_bias": True, "chunk_rows": 256}
"""Channel groups as their paper has them."""


def schemes(with_fp16: bool) -> Iterator[tuple[str, str, int, int, dict[str, object]]]:
    """Yield design, kernel, bits, groups and parameters of every scheme."""
    if with_fp16:
        yield "fp16", "gemm", 16, 0, {}
    for bits in (8, 4):
        own = {"activation_bits": bits, "weight_bits": bits, "input": "quantized"}
        yield "no shift", "quantized", bits, 0, own
        for groups in GROUPS:
            grouped = own | PUBLISHED | {"groups": groups}
            yield "shift", "tender", bits, groups, grouped
            yield "no shift", "requantized", bits, groups, grouped
        for share in SHARES:
            split = own | {"outlier_share": share}
            yield f"mixed {100 * share:.0f} %", "outlier_split", bits, 0, split


def arithmetic_mm2(units: dict[str, object]) -> float:
    """Return the area of the integer array and the cube of a design, by its settings."""
    own = {key.removeprefix("machine."): value for key, value in units.items()}
    machine = load_machine(MACHINE, own)
    area = arithmetic_area_mm2(machine, load_technology(machine.technology))
    return area.get("int_mac", 0.0) + area.get("cube", 0.0)


def cost_points() -> Iterator[Point]:
    """Yield the cost of every scheme on every layer, codes of X made by what produced it."""
    for model, linears in LAYERS.items():
        for linear, (n, k) in linears.items():
            for phase, m in ROWS.items():
                problem = GemmProblem(kind="gemm", name=f"{model} {linear}", m=m, n=n, k=k)
                for design_name, kernel, bits, groups, own in schemes(with_fp16=True):
                    machine, tiles = DESIGNS[design_name]
                    recipe = Recipe(kernel, **tiles, **own)
                    report = simulate(MACHINE, LoadedWorkload(problem, Path()), recipe, machine)
                    row = report.to_row()
                    yield {
                        "model": model,
                        "linear": linear,
                        "phase": phase,
                        "design": design_name,
                        "kernel": kernel,
                        "bits": bits,
                        "groups": groups,
                        "arithmetic_mm2": arithmetic_mm2(machine),
                        **{column: row[column] for column in COLUMNS},
                    }


def real_workloads(folder: Path) -> Iterator[LoadedWorkload]:
    """Yield captured linears, kept in files so that each is captured once."""
    sizes = {"q": (576, 576), "o": (576, 576), "gate": (1536, 576), "down": (576, 1536)}
    for layer, linear in REAL:
        (n, k), name = sizes[linear], f"layer{layer}.{linear}"
        problem = GemmProblem(kind="gemm", name=name, m=TOKENS, n=n, k=k)
        path = folder / f"{name}.npz"
        if not path.exists():
            source = ModelLinearSource(source="model", layer=layer, linear=linear)
            try:
                tensors = load_tensors(problem.model_copy(update={"tensors": source}), folder)
            except WorkloadError as error:
                print(f"only the shipped linear, because of {error}")
                yield load_workload("smollm2-linear-real")
                return
            np.savez(path, a=tensors.a, b=tensors.b)
        tensors = FileSource(source="file", path=str(path.resolve()))
        yield LoadedWorkload(problem.model_copy(update={"tensors": tensors}), folder)


def error_points(folder: Path) -> Iterator[Point]:
    """Yield the error of every scheme on every captured linear."""
    shifting = design(64, 64, shift=True)
    machine = DESIGNS["mixed 3 %"].machine | shifting.machine
    for workload in real_workloads(folder):
        for _, kernel, bits, groups, own in schemes(with_fp16=False):
            report = simulate(MACHINE, workload, Recipe(kernel, **shifting.tiles, **own), machine)
            yield {
                "linear": workload.problem.name,
                "kernel": kernel,
                "bits": bits,
                "groups": groups,
                "share": own.get("outlier_share", 0),
                "relative_rmse": report.accuracy.relative_rmse,
                "overflows": report.statistics["accumulator_overflows"],
            }


def main(folder: Path) -> None:
    # INT8 sums over 16 groups can overflow; that they do is a column of the table.
    warnings.simplefilter("ignore", AccumulatorWarning)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(cost_points()).to_csv(folder / "cost.csv", index=False)
    pd.DataFrame(error_points(folder)).to_csv(folder / "error.csv", index=False)
    print(f"saved {folder}/cost.csv and {folder}/error.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
