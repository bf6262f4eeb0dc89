"""Decode attention over caches in BF16 and FP8 measured on NVIDIA H200s, alone.

A step is a kernel over ranges of the keys and, where there are several, one that merges them, in a
CUDA graph that was replayed for 0.35 s, so the power cap of the board holds. An FP8 cache has one
scale a tensor and is converted for products in BF16 or FP16 (`compute`). Of the tiles that were
measured the fastest of each shape and board is compared, as a library would pick it. Where the
energy was measured it is a row of its own.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import PositiveFloat

from accelsim.bench import Bench
from accelsim.config.spec import Size
from accelsim.hardware.machine import MachineSpec
from accelsim.inference.cost import sustained
from accelsim.units import MICRO
from accelsim.validation.reference import Reference, Row
from accelsim.workload.problem import AttentionProblem


class Fp8KvRow(Row):
    """One decode step of one layer."""

    machine: str = ""
    """The board."""
    kv: Literal["bf16", "fp8_e4m3"]
    """Format of the cache."""
    compute: Literal["bf16", "fp16"] = "bf16"
    """Format of the queries and of the operands of products."""
    H: Size
    KVH: Size
    D: Size
    batch: Size
    context: Size
    """Keys of each sequence."""
    time_us: PositiveFloat
    microjoule: PositiveFloat | None = None
    """Of the board, where it was measured."""

    @property
    def shape(self) -> tuple[object, ...]:
        """What was computed, and the board."""
        sizes = self.H, self.KVH, self.D, self.batch, self.context
        return (self.machine, self.kv, self.compute, *sizes)


class EnergyRow(Fp8KvRow):
    """The same step, of which the joules are compared."""


def fastest_and_energy(rows: Sequence[Fp8KvRow]) -> list[Fp8KvRow]:
    """Return the fastest row of each shape, and once more those whose energy was measured."""
    best: dict[object, Fp8KvRow] = {}
    for row in rows:
        if row.shape not in best or row.time_us < best[row.shape].time_us:
            best[row.shape] = row
    fastest = sorted(best.values(), key=lambda row: row.line)
    measured = [row for row in fastest if row.microjoule is not None]
    return [*fastest, *(EnergyRow(**dict(row)) for row in measured)]


def kind_of(row: Fp8KvRow) -> str:
    """Return what is compared: energy, or the time by the formats of cache and products."""
    if isinstance(row, EnergyRow):
        return "energy"
    return "bf16" if row.kv == "bf16" else f"fp8, products in {row.compute}"


def label_of(row: Fp8KvRow) -> str:
    """Return what was computed, in a few words."""
    heads = "" if (row.H, row.KVH, row.D) == (32, 8, 128) else f" H{row.H} KVH{row.KVH} D{row.D}"
    return f"{row.kv} as {row.compute}, {row.batch} x {row.context} keys{heads}"


def value_of(row: Fp8KvRow) -> float:
    """Return the measured joules or seconds."""
    if isinstance(row, EnergyRow) and row.microjoule is not None:
        return row.microjoule * MICRO
    return row.time_us * MICRO


def problem_of(row: Fp8KvRow) -> AttentionProblem:
    """Return what a row measured."""
    own = {} if row.kv == row.compute else {"kv_dtype": row.kv}
    scaled = {"kv_scales": "peak"} if row.kv == "fp8_e4m3" else {}
    sizes = {"batch": row.batch, "q_heads": row.H, "kv_heads": row.KVH, "kv_len": row.context}
    common = {"kind": "attention", "name": "attention", "q_len": 1, "head_dim": row.D}
    return AttentionProblem.model_validate(
        {**common, **sizes, "dtype": row.compute, **own, **scaled}
    )


def predict(row: Fp8KvRow, machine: MachineSpec) -> float:
    """Return the seconds, or the joules, of one of many runs under the power cap."""
    report, _ = Bench(sustained(machine)).execute(problem_of(row))
    return report.energy_j if isinstance(row, EnergyRow) else report.time_s


REFERENCE = Reference(
    name="h200-fp8kv",
    summary="decode attention over caches in BF16 and FP8, measured on NVIDIA H200s",
    row=Fp8KvRow,
    file="h200-fp8kv.csv",
    quantity="time_s",
    quantities={"energy": "energy_j"},
    kind_of=kind_of,
    label_of=label_of,
    value_of=value_of,
    predict=predict,
    machine="h200-sxm",
    select=fastest_and_energy,
)
