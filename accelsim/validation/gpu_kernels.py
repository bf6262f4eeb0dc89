"""How the libraries of a GPU run an operation: the problem, and the kernel with its parameters.

The same for every shape: which tiles and how many splits follow from the machine, by the kernels'
own estimates. Sources: NVIDIA, CUTLASS 3.x, Hopper kernels (pipelines of 128-byte steps, tile
order in bands, split-K); Shah et al., "FlashAttention-3" (2024); Dao et al., "Flash-Decoding"
(2023).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.loading import LoadedWorkload
from accelsim.numerics.formats import Format
from accelsim.report.report import Report
from accelsim.simulation import simulate
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem, GemmProblem, Problem, VectorProblem

_STEP_BYTES = 128
"""Depth of a step of a product: the widest row of shared memory that a copy can swizzle."""
_GEMM = {"stages": 4, "splits": "chosen", "swizzle": 8, "b_layout": "nk"}
_PREFILL = {"query_tiles": 2, "tile_q": 64, "tile_k": 128, "order": "by_head"}
_FLASH_2 = {"tile_q": 128, "tile_k": 64, "order": "by_head"}
"""Tiles of FlashAttention-2 at head_dim 128 (hdim128 forward of its launch template)."""
_DECODE_TILE, _LONGEST_RANGE = 256, 4096
"""Keys of a tile, and most keys whose scores a block keeps on chip (assumption)."""
_FORMATS = {"bf16": "bf16", "fp8": "fp8_e4m3", "int8": "int8"}

Dtype = Literal["bf16", "fp8", "int8"]


class GpuRun(NamedTuple):
    """One operation as a library runs it."""

    problem: Problem
    kernel: str
    settings: Mapping[str, Any]
    is_hopper: bool = True
    """Whether it issues the products of warp groups, or the older ones of single warps."""

    def on(self, machine: MachineSpec) -> Report:
        """Return the report of the run; raises as `simulate` does."""
        workload = LoadedWorkload(self.problem, Path())
        if not self.is_hopper:
            machine = _with_products_of_warps(machine)
        return simulate(machine, workload, self.kernel, self.settings)


def _with_products_of_warps(machine: MachineSpec) -> MachineSpec:
    """Return the machine at the rates of older instructions, after those of its INT8 kernels."""
    cube = machine.cube_for("attention")
    rates = cube.rates
    if Format.INT8 not in rates or Format.FP8_E4M3 not in rates:
        return machine
    # The data sheet gives both formats the same rate; the library's INT8 kernels are the old ones.
    share = rates[Format.INT8] / rates[Format.FP8_E4M3]
    slower = {fmt: share * rate for fmt, rate in rates.items()}
    return machine.model_copy(update={"cube": cube.model_copy(update={"rates": slower})})


def gemm(dtype: Dtype, m: int, n: int, k: int) -> GpuRun:
    """Return out[m, n] = x[m, k] w[n, k]^T; fp8 gives bf16, int8 gives int32."""
    problem = GemmProblem.model_validate(
        {"kind": "gemm", "name": "product", "m": m, "n": n, "k": k, "dtype": _FORMATS[dtype]}
    )
    step = _STEP_BYTES * BITS_PER_BYTE // problem.dtype.bits
    output = {"output_format": "bf16"} if dtype == "fp8" else {}
    return GpuRun(problem, "gemm", {**_GEMM, "tile_k": step, **output})


def attention(
    batch: int,
    heads: int,
    kv_heads: int,
    q_len: int,
    kv_len: int,
    head_dim: int,
    causal: bool,
    machine: MachineSpec,
    variant: str | None = None,
) -> GpuRun:
    """Return attention in bf16: a decode step where there is one query row, or a prefill.

    variant: `flash` is FlashAttention-2, written before Hopper; all else is fused for it.
    """
    problem = AttentionProblem.model_validate(
        {
            "kind": "attention",
            "name": "attention",
            "batch": batch,
            "q_heads": heads,
            "kv_heads": kv_heads,
            "q_len": q_len,
            "kv_len": kv_len,
            "head_dim": head_dim,
            "causal": causal,
            "dtype": "bf16",
        }
    )
    if q_len > 1 and variant == "flash":
        return GpuRun(problem, "flash", _FLASH_2, is_hopper=False)
    if q_len > 1:
        return GpuRun(problem, "flash", _PREFILL)
    # As many ranges as run at once, of at least a tile and at most what fits.
    at_once = max(1, machine.cores // (batch * kv_heads))
    splits = max(min(at_once, ceil_div(kv_len, _DECODE_TILE)), ceil_div(kv_len, _LONGEST_RANGE))
    return GpuRun(problem, "split_kv", {"splits": splits, "tile_k": _DECODE_TILE})


def vector(function: str, rows: int, cols: int) -> GpuRun:
    """Return a function of a bf16 matrix."""
    problem = VectorProblem.model_validate(
        {
            "kind": "vector",
            "name": function,
            "function": function,
            "rows": rows,
            "cols": cols,
            "dtype": "bf16",
        }
    )
    return GpuRun(problem, "vector", {})
