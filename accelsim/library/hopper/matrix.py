"""How the libraries of a GPU run products and attention: the kernels with their parameters.

The same for every shape: which tiles and how many splits follow from the machine, by the kernels'
own estimates. Sources: NVIDIA, CUTLASS 3.x, Hopper kernels (pipelines of 128-byte steps, tile
order in bands, split-K); Shah et al., "FlashAttention-3" (2024); Dao et al., "Flash-Decoding"
(2023).
"""

from accelsim.hardware.machine import MachineSpec
from accelsim.library.base import Hardware
from accelsim.library.hopper.hardware import with_products, with_vector_work
from accelsim.library.recipe import Recipe
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem, GemmProblem, Problem

WARPS = "warps"
"""Code with the matrix instructions of single warps, as before Hopper."""
_STEP_BYTES = 128
"""Depth of a step of a product: the widest row of shared memory that a copy can swizzle."""
_GEMM = {"stages": 4, "splits": "chosen", "swizzle": 8, "b_layout": "nk"}
_PREFILL = {"query_tiles": 2, "tile_q": 64, "tile_k": 128, "order": "by_head"}
_LATENT = {"order": "by_head", "splits": "chosen"}
"""As FlashMLA (DeepSeek-AI, 2025) splits keys; its tiles hold half of the output of 64 rows in the
registers of each of two warp groups, which buffers here do not, so tiles are chosen."""
_WIDEST = 128
"""Elements of the widest heads whose tiles are those; FlashAttention-3 has smaller ones of wider
heads (hopper/tile_size.h), and what its registers hold twice here leaves them to be chosen."""
_FLASH_2 = {"tile_q": 128, "tile_k": 64, "order": "by_head", "query_tiles": 1}
"""Tiles of FlashAttention-2 at head_dim 128 (hdim128 forward of its launch template)."""
_FLASH_2_ROWS, _FLASH_2_DECODE = 64, {"tile_k": 128, "stages": 1}
"""Query rows of its decode tiles, mostly empty; their keys, and buffers of keys and of values
(launch template of its split kernel)."""
_OLDER_ENERGY = 1.45
"""Energy of a product of single warps, whose operands come through registers, over one of a warp
group: INT8 products of the library take that much more than those of warp groups (docs/h200.md)."""
_DECODE_TILE, _LONGEST_RANGE = 256, 4096
"""Keys of a tile, and most keys whose scores a block keeps on chip (assumption)."""
_WIDENED_TILE = 64
"""Keys of a tile that is converted for the product, whose other form lies in registers: 64 or 32 in
tuned Triton kernels (h200-fp8kv.csv)."""


def products_of_warps(gpu: Hardware, padding: float = 1.0) -> Hardware:
    """Older instructions, of single warps: slower, and costlier, as those of INT8 kernels are.

    padding: products that are computed, over those that count.
    """
    # The data sheet gives INT8 and FP8 the same rate; the library's INT8 kernels are the old ones.
    rates = gpu.machine.cube_for("attention").rates
    if Format.INT8 not in rates or Format.FP8_E4M3 not in rates:
        return with_products(gpu, rate=1.0, energy=padding)
    rate = rates[Format.INT8] / rates[Format.FP8_E4M3]
    return with_products(gpu, rate, padding * _OLDER_ENERGY)


def _decode_of_warps(gpu: Hardware, group: int) -> Hardware:
    """Older decode kernels compute a tile of query rows of which `group` are there."""
    padding = _FLASH_2_ROWS / group
    gpu = products_of_warps(gpu, padding)
    # The matrix unit computes at least a step of rows without being told.
    rows = max(group, gpu.machine.cube_for("attention").unit.rows)
    gpu = with_products(gpu, min(1.0, rows / _FLASH_2_ROWS), energy=1.0)
    return with_vector_work(gpu, padding)


def gemm(problem: GemmProblem) -> Recipe:
    """Return the recipe of a product whose weights lie as [n, k]."""
    step = _STEP_BYTES * BITS_PER_BYTE // problem.dtype.bits
    # The library's INT8 kernels have the instructions of single warps, and their tiles.
    sizes = "powers" if problem.dtype.is_integer else "warp_groups"
    return Recipe("gemm", **_GEMM, tile_k=step, tile_sizes=sizes)


def attention(problem: AttentionProblem, machine: MachineSpec) -> Recipe:
    """Return the recipe of a decode step where there is one query row, or of a prefill."""
    if problem.values_in_keys:
        return Recipe("flash", **_LATENT)
    if problem.most_queries > 1:
        # Two tiles in turn share all key tiles, which those of a window are not.
        turns = {} if problem.window is None else {"query_tiles": 1}
        if max(problem.widths) > _WIDEST:
            return Recipe("flash", order="by_head", **turns)
        return Recipe("flash", **_PREFILL | turns)
    # As many ranges as run at once, of at least a tile and at most what fits.
    tile_k = _decode_tile(problem, machine)
    at_once = max(1, machine.cores // (problem.num_sequences * problem.kv_heads))
    fewest = ceil_div(problem.most_keys, _LONGEST_RANGE)
    splits = max(min(at_once, ceil_div(problem.most_keys, tile_k)), fewest)
    return Recipe("split_kv", splits=splits, tile_k=tile_k)


def _decode_tile(problem: AttentionProblem, machine: MachineSpec) -> int:
    """Return the keys of a tile: fewer of heads wider than usual, as many bytes."""
    is_taken = machine.takes_beside(problem.kv_format, problem.dtype)
    most, widest = _DECODE_TILE if is_taken else _WIDENED_TILE, max(problem.widths)
    return most if widest <= _WIDEST else most * _WIDEST // widest // 16 * 16


def flash_2(problem: AttentionProblem) -> Recipe:
    """Return what FlashAttention-2 says of itself, which was written before Hopper."""
    if problem.most_queries > 1:
        return Recipe("flash", **_FLASH_2, code=WARPS)
    return Recipe("split_kv", **_FLASH_2_DECODE, code=WARPS)


def of_warps(gpu: Hardware, problem: Problem) -> Hardware:
    """Return the GPU as code with the instructions of single warps uses it."""
    if isinstance(problem, AttentionProblem) and problem.most_queries == 1:
        return _decode_of_warps(gpu, problem.q_heads // problem.kv_heads)
    return products_of_warps(gpu)
