"""How products of experts run on a GPU: fused kernels for few rows an expert, then single products.

The fused kernel is the Triton one of serving engines (vLLM, fused_moe): a block of threads has a
row block of one expert and some columns, loads rows of tokens by their numbers, and knows no
multicast. It is chosen by the tokens, for nobody knows where they go before it starts: by the
mean rows of an expert. Below 64 rows its products are instructions of single warps, as a warp group
takes 64 rows. Tiles are usual ones of such kernels, and those that were the fastest of 8 to 15 for
uniform routing on the H200 (h200-moe.csv, column `tiles`). With many rows an expert, the CUTLASS
kernel of PyTorch (`torch._grouped_mm`) has the pipeline of single products.
"""

from typing import NamedTuple

from accelsim.hardware.technology import NetworkCost, TechnologySpec
from accelsim.library.base import Hardware
from accelsim.library.hopper.matrix import products_of_warps
from accelsim.library.hopper.plain import L2_LATENCY_CYCLES
from accelsim.library.recipe import CODE, Recipe
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GroupedGemmProblem

FUSED = "fused"
"""Code of the fused kernel of experts: blocks that share nothing."""
PREPARED = "prepared"
"""Code of single products, before which a kernel of its own finds where experts begin."""
_STEP_BYTES = 128
_SINGLE = {"stages": 4, "b_layout": "nk", "tile_sizes": "warp_groups"}
_FUSED_TILES = {16: (128, 256, 3), 32: (128, 256, 3), 64: (128, 128, 4), 128: (256, 128, 4)}
"""Rows of a tile -> its columns, bytes of a step along k, and stages."""
_ROOM = 1.5
"""Rows of a tile over the mean of an expert, at least: most experts then need one tile."""
_MANY_ROWS = 384
"""Mean rows of an expert from which the CUTLASS kernel was the faster one: between 256 and 512."""
_WARP_GROUP_ROWS = 64
_MULTICAST_GAIN = 15.2 / 8.75
"""Bandwidth of the L2 in the machine's file, of clusters that share operands, over what blocks read
that share nothing: 8.75 TB/s at 1,980 MHz, measured (benchmarks/h200_energy)."""
_ENERGY_ALONE = 1.5
"""Energy of a byte over the network that nobody shares, over that of the technology's file: 45 pJ,
measured as well."""
_LOADS_BEFORE = 2
"""Loads that a block waits for before it knows its rows: the expert and the rows of its block, then
the numbers of the tokens."""
SHARED_LATENCY_CYCLES, _PRODUCT_LATENCY_CYCLES = 29, 33
"""From shared memory to registers, and of mma.m16n8k16: a warp has them one after the other for
each 16 of the depth, and other blocks of the multiprocessor fill the gaps (assumption). Measured on
an H200, one warp: 34.5 cycles from ldmatrix to ldmatrix with an addition between, 24 from the sums
of a product to those of the next; that others read sums 9 later is from memory, unverified."""
_SHARED_BYTES = 227 * 1024
"""Of a multiprocessor for its blocks (H100 white paper)."""


class _Tile(NamedTuple):
    """A tile in elements; 0: not known."""

    tile_m: int
    tile_n: int
    tile_k: int
    stages: int


def grouped_gemm(problem: GroupedGemmProblem) -> Recipe:
    """Return the recipe of the products of experts."""
    mean = problem.m / len(problem.rows)
    if mean >= _MANY_ROWS:
        tile_k = _STEP_BYTES * BITS_PER_BYTE // problem.dtype.bits
        return Recipe("grouped_gemm", tile_k=tile_k, **_SINGLE, **{CODE: PREPARED})
    tile_m = next((rows for rows in _FUSED_TILES if rows >= _ROOM * mean), max(_FUSED_TILES))
    tile_n, step_bytes, stages = _FUSED_TILES[tile_m]
    tile = {"tile_m": tile_m, "tile_n": tile_n, "stages": stages}
    tile["tile_k"] = step_bytes * BITS_PER_BYTE // problem.dtype.bits
    return Recipe("grouped_gemm", b_layout="nk", **tile, **{CODE: FUSED})


def prepared(gpu: Hardware) -> Hardware:
    """Return the GPU as single products use it, which a small kernel prepares."""
    machine, technology = gpu
    return Hardware(machine.model_copy(update={"launch": 2 * machine.launch}), technology)


def _without_multicast(technology: TechnologySpec) -> TechnologySpec:
    """Return the technology of code whose blocks fetch all operands themselves."""
    if technology.network is None:
        return technology
    energy = technology.network.energy
    alone = energy.model_copy(update={"value": _ENERGY_ALONE * energy.value})
    return technology.model_copy(update={"network": NetworkCost(energy=alone)})


def fused(gpu: Hardware, problem: GroupedGemmProblem, recipe: Recipe) -> Hardware:
    """Return the GPU as the fused kernel uses it, with the tiles that the recipe names."""
    machine, technology = gpu
    technology = _without_multicast(technology)
    if machine.l2 is not None:
        bandwidth = machine.l2.bandwidth / _MULTICAST_GAIN
        l2 = machine.l2.model_copy(update={"bandwidth": bandwidth})
        machine = machine.model_copy(update={"l2": l2})
    cube = machine.cube_for("products of experts")
    update = {"setup": cube.setup + _LOADS_BEFORE * L2_LATENCY_CYCLES / machine.clock}
    tile = _Tile(**{name: recipe.settings.get(name) or 0 for name in _Tile._fields})
    is_of_warps = 0 < tile.tile_m < _WARP_GROUP_ROWS
    if is_of_warps:
        steps = ceil_div(tile.tile_k or 1, cube.unit.depth)
        chain = steps * (SHARED_LATENCY_CYCLES + _PRODUCT_LATENCY_CYCLES)
        chain = ceil_div(chain, _blocks_at_once(tile, problem, machine.cores))
        update["issue_cycles"] = max(cube.issue_cycles, chain)
    machine = machine.model_copy(update={"cube": cube.model_copy(update=update)})
    own = Hardware(machine, technology)
    return products_of_warps(own) if is_of_warps else own


def _blocks_at_once(tile: _Tile, problem: GroupedGemmProblem, cores: int) -> int:
    """Return how many blocks of threads a multiprocessor has: those that fit, if there are any."""
    operand_bytes = (tile.tile_m + tile.tile_n) * tile.tile_k * problem.dtype.bits // BITS_PER_BYTE
    fit = max(1, _SHARED_BYTES // max(1, tile.stages * operand_bytes))
    row_blocks = sum(ceil_div(rows, tile.tile_m) for rows in problem.rows)
    return min(fit, ceil_div(row_blocks * ceil_div(problem.n, max(1, tile.tile_n)), cores))
