"""Energy of kernels measured on an NVIDIA H200 SXM, against runs of the machine `h200-sxm`.

The board's energy counter over two seconds of replays, so the power cap has settled: the clock of a
run is the one at which the model's own power meets the cap. The idle board is left out.
"""

import re
from collections.abc import Sequence
from typing import Literal, Self, cast

from pydantic import NonNegativeFloat, model_validator

from accelsim.bench import Bench
from accelsim.hardware.machine import MachineSpec
from accelsim.library.hopper.matrix import flash_2
from accelsim.library.recipe import Recipe
from accelsim.validation.problems import Dtype, attention, gemm, vector
from accelsim.validation.reference import Reference, Row
from accelsim.workload.problem import AttentionProblem, Problem

_ATTENTION = re.compile(r"B(\d+) H(\d+) KV(\d+) Sq(\d+) Sk(\d+) D(\d+) causal([01])")
_MATRIX = re.compile(r"(\d+)x(\d+)")
_PRODUCT = re.compile(r"(\d+)x(\d+)x(\d+)")


class EnergyRow(Row):
    """One kernel, replayed for two seconds."""

    kind: Literal[
        "idle",
        "gemm_bf16",
        "gemm_fp8",
        "gemm_int8",
        "attention_prefill_flash",
        "attention_prefill_cudnn",
        "attention_decode_flash",
        "attention_decode_cudnn",
        "copy",
        "softmax",
        "rmsnorm",
        "layernorm",
        "gelu",
        "silu_mul",
    ]
    shape: str = ""
    """`M x N x K` or `M x N` without spaces, or as in `B1 H32 KV8 Sq1 Sk8192 D128 causal0`."""
    joule_per_iter: NonNegativeFloat

    @model_validator(mode="after")
    def _shape_can_be_read(self) -> Self:
        if self.kind == "idle":
            return self
        if self.joule_per_iter == 0:
            raise ValueError("found a joule_per_iter of 0, expected more than 0")
        if self._form.fullmatch(self.shape) is None:
            raise ValueError(f"found the shape '{self.shape}', which no {self.kind} has")
        return self

    @property
    def _form(self) -> re.Pattern[str]:
        if self.kind.startswith("attention"):
            return _ATTENTION
        return _PRODUCT if self.kind.startswith("gemm") else _MATRIX

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of the shape, in its order."""
        match = self._form.fullmatch(self.shape)
        return tuple(int(size) for size in match.groups()) if match else ()


def problem_of(row: EnergyRow) -> Problem:
    """Return what a row measured."""
    if row.kind.startswith("gemm"):
        m, n, k = row.sizes
        return gemm(cast(Dtype, row.kind.removeprefix("gemm_")), m, n, k)
    if row.kind.startswith("attention"):
        *sizes, causal = row.sizes
        batch, heads, kv_heads, q_len, kv_len, head_dim = sizes
        return attention(batch, heads, kv_heads, q_len, kv_len, head_dim, bool(causal))
    rows, cols = row.sizes
    return vector(row.kind, rows, cols)


def recipe_of(row: EnergyRow, problem: Problem) -> Recipe | None:
    """Return FlashAttention-2 where it was measured; all else is what the library picks."""
    if isinstance(problem, AttentionProblem) and row.kind.endswith("_flash"):
        return flash_2(problem)
    return None


def predict(row: EnergyRow, machine: MachineSpec) -> float:
    """Return the joules of one of many runs under the power cap."""
    if machine.power:
        power = machine.power.model_copy(update={"duty": "sustained"})
        machine = machine.model_copy(update={"power": power})
    problem = problem_of(row)
    report, _ = Bench(machine, recipe_of(row, problem)).execute(problem)
    return report.energy_j


def without_idle(rows: Sequence[EnergyRow]) -> list[EnergyRow]:
    """Return the rows of kernels."""
    return [row for row in rows if row.kind != "idle"]


REFERENCE = Reference(
    name="h200-energy",
    summary="energy of kernels measured on one NVIDIA H200 SXM",
    row=EnergyRow,
    file="h200-energy.csv",
    quantity="energy_j",
    kind_of=lambda row: row.kind,
    label_of=lambda row: row.shape,
    value_of=lambda row: row.joule_per_iter,
    predict=predict,
    machine="h200-sxm",
    select=without_idle,
)
