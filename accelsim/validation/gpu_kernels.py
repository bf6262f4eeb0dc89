"""How the libraries of a GPU run products and attention: the kernels with their parameters.

The same for every shape: which tiles and how many splits follow from the machine, by the kernels'
own estimates. Sources: NVIDIA, CUTLASS 3.x, Hopper kernels (pipelines of 128-byte steps, tile
order in bands, split-K); Shah et al., "FlashAttention-3" (2024); Dao et al., "Flash-Decoding"
(2023).
"""

from functools import partial
from typing import Literal

from accelsim.hardware.machine import MachineSpec
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.validation.gpu import Gpu, GpuRun, with_products, with_vector_work
from accelsim.workload.problem import AttentionProblem, GemmProblem

_STEP_BYTES = 128
"""Depth of a step of a product: the widest row of shared memory that a copy can swizzle."""
_GEMM = {"stages": 4, "splits": "chosen", "swizzle": 8, "b_layout": "nk"}
_PREFILL = {"query_tiles": 2, "tile_q": 64, "tile_k": 128, "order": "by_head"}
_FLASH_2 = {"tile_q": 128, "tile_k": 64, "order": "by_head"}
"""Tiles of FlashAttention-2 at head_dim 128 (hdim128 forward of its launch template)."""
_FLASH_2_ROWS, _FLASH_2_DECODE = 64, {"tile_k": 128, "stages": 1}
"""Query rows of its decode tiles, mostly empty; their keys, and buffers of keys and of values
(launch template of its split kernel)."""
_DECODE_TILE, _LONGEST_RANGE = 256, 4096
"""Keys of a tile, and most keys whose scores a block keeps on chip (assumption)."""
_FORMATS = {"bf16": "bf16", "fp8": "fp8_e4m3", "int8": "int8"}

Dtype = Literal["bf16", "fp8", "int8"]


def _products_of_warps(gpu: Gpu, padding: float = 1.0) -> Gpu:
    """Older instructions, of single warps: slower, and costlier, as those of INT8 kernels are.

    padding: products that are computed, over those that count.
    """
    # The data sheet gives INT8 and FP8 the same rate; the library's INT8 kernels are the old ones.
    rates = gpu.machine.cube_for("attention").rates
    if Format.INT8 not in rates or Format.FP8_E4M3 not in rates:
        return with_products(gpu, rate=1.0, energy=padding)
    older, newer = (
        cost.multiply.value + cost.accumulate.value
        for cost in (gpu.technology.mac(Format.INT8), gpu.technology.mac(Format.FP8_E4M3))
    )
    rate = rates[Format.INT8] / rates[Format.FP8_E4M3]
    return with_products(gpu, rate, padding * older / newer)


def _decode_of_warps(gpu: Gpu, group: int) -> Gpu:
    """Older decode kernels compute a tile of query rows of which `group` are there."""
    padding = _FLASH_2_ROWS / group
    gpu = _products_of_warps(gpu, padding)
    # The matrix unit computes at least a step of rows without being told.
    rows = max(group, gpu.machine.cube_for("attention").unit.rows)
    gpu = with_products(gpu, min(1.0, rows / _FLASH_2_ROWS), energy=1.0)
    return with_vector_work(gpu, padding)


def gemm(dtype: Dtype, m: int, n: int, k: int) -> GpuRun:
    """Return out[m, n] = x[m, k] w[n, k]^T; fp8 gives bf16, int8 gives int32."""
    problem = GemmProblem.model_validate(
        {"kind": "gemm", "name": "product", "m": m, "n": n, "k": k, "dtype": _FORMATS[dtype]}
    )
    step = _STEP_BYTES * BITS_PER_BYTE // problem.dtype.bits
    # The library's INT8 kernels have the instructions of single warps, and their tiles.
    sizes = "powers" if dtype == "int8" else "warp_groups"
    return GpuRun(problem, "gemm", {**_GEMM, "tile_k": step, "tile_sizes": sizes})


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
        return GpuRun(problem, "flash", _FLASH_2, _products_of_warps)
    if q_len > 1:
        return GpuRun(problem, "flash", _PREFILL)
    # As many ranges as run at once, of at least a tile and at most what fits.
    at_once = max(1, machine.cores // (batch * kv_heads))
    splits = max(min(at_once, ceil_div(kv_len, _DECODE_TILE)), ceil_div(kv_len, _LONGEST_RANGE))
    if variant == "flash":
        code = partial(_decode_of_warps, group=heads // kv_heads)
        return GpuRun(problem, "split_kv", {"splits": splits, **_FLASH_2_DECODE}, code)
    return GpuRun(problem, "split_kv", {"splits": splits, "tile_k": _DECODE_TILE})
