"""Which tiles the gemm kernel cuts a product into: what it buffers, and how it may split k."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from accelsim.config.spec import Size
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import bytes_again
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.linear.estimate.choice import rival_tilings
from accelsim.kernels.linear.estimate.facts import MERGED_ELEMENTS
from accelsim.kernels.linear.estimate.products import ONE_MATRIX, Grouping, Slots, Step, Work
from accelsim.kernels.linear.product import TileParameters
from accelsim.kernels.linear.tiles import (
    BufferSize,
    Choice,
    Tiles,
    TileSizes,
    candidates,
    check_packing,
    even_ranges,
    fits,
    sum_slots,
    too_large,
)
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem, GroupedGemmProblem

_STAGES = (4, 3, 2)


class GemmParameters(TileParameters):
    """Choices of the gemm kernel."""

    tile_sizes: TileSizes = "balanced"
    """Rows and columns that are tried: multiples of 16 that cut the matrix into pieces of about
    equal size, powers of two, or those of products of Hopper's warp groups, multiples of 64 along
    one axis and of 8 along the other."""
    stages: Size | None = None
    """Tiles of A and of B on chip at once: 2 is double buffering, more cover a longer latency;
    absent: chosen."""
    splits: Size | Literal["chosen"] | None = None
    """Ranges of k that work items of their own sum, whose results a second phase adds; absent:
    chosen."""
    swizzle: Size | None = None
    """Rows of tiles walked together, column by column, so that tiles alive share operands; absent:
    chosen with an L2, else 1."""
    b_layout: Literal["kn", "nk"] = "kn"
    """Whether B lies in HBM as [k, n] or, like the weights of a linear, as [n, k]."""
    output_format: Format | None = None
    """Format of C in HBM; absent: that of the operands, bf16 for fp8, int32 for integers."""


def range_steps(tiles: Tiles, k: int) -> int:
    """Return the steps of each range of k; the last one may have fewer."""
    return ceil_div(ceil_div(k, tiles.k), tiles.splits)


def merged_rows(tiles: Tiles) -> Any:
    """Return the rows of C that one work item of the second phase sums."""
    if isinstance(tiles.n, int):
        return min(tiles.m, ceil_div(MERGED_ELEMENTS, tiles.n))
    return np.minimum(tiles.m, np.ceil(MERGED_ELEMENTS / tiles.n))


def formats_of(
    problem: GemmProblem | GroupedGemmProblem, parameters: GemmParameters
) -> tuple[Format, Format, Format]:
    """Return the formats of operands, accumulator and output."""
    accumulator = Format.INT32 if problem.dtype.is_integer else Format.FP32
    return problem.dtype, accumulator, parameters.output_format or problem.output_dtype


def buffers_of(
    tiles: Tiles, formats: Sequence[Format], b_layout: str, merged: Any = None
) -> list[BufferSize]:
    """Return the buffers of a tiling; formats: of operands, accumulator and output.

    merged: rows of a work item of the second phase, where they are known.
    """
    operand, accumulator, output = formats
    b_shape = (tiles.k, tiles.n) if b_layout == "kn" else (tiles.n, tiles.k)
    is_whole, is_split = 1 * (tiles.splits == 1), 1 * (tiles.splits > 1)
    rows = merged_rows(tiles) if merged is None else merged
    sizes = [
        BufferSize("a", tiles.m, tiles.k, operand, tiles.stages),
        BufferSize("b", *b_shape, operand, tiles.stages),
        BufferSize("acc", tiles.m, tiles.n, accumulator, tiles.acc_slots, "accumulator"),
        BufferSize("c", tiles.m, tiles.n, output, 2 * is_whole),
        BufferSize("c", tiles.m, tiles.n, accumulator, 2 * is_split),
        BufferSize("total", rows, tiles.n, accumulator, is_split),
        BufferSize("part", rows, tiles.n, accumulator, 2 * is_split),
        BufferSize("merged", rows, tiles.n, output, is_split),
    ]
    return [size for size in sizes if np.any(size.slots)]


def check_tiles(
    name: str, problem: GemmProblem, parameters: GemmParameters, formats: Sequence[Format]
) -> None:
    """Refuse tiles that would begin in the middle of a byte, where two 4-bit elements lie."""
    operand, _, output = formats
    n_bits = min(operand.bits, output.bits) if parameters.b_layout == "kn" else output.bits
    own = {
        "tile_k": (parameters.tile_k, problem.k, operand.bits),
        "tile_n": (parameters.tile_n, problem.n, n_bits),
    }
    check_packing(name, own)


def given_tiles(
    problem: GemmProblem, machine: MachineSpec, parameters: GemmParameters
) -> Tiles | None:
    """Return the tiling of parameters that leave nothing open; None if they do, or it is too large.

    What does not fit is refused by `rival_tiles`, which says why.
    """
    tile_m, tile_n, tile_k = parameters.tile
    stages, splits, swizzle = parameters.stages, parameters.splits, parameters.swizzle
    if not (tile_m and tile_n and tile_k and stages and swizzle and isinstance(splits, int)):
        return None
    sizes = min(tile_m, problem.m), min(tile_n, problem.n), min(tile_k, problem.k)
    ranges = int(even_ranges(splits, ceil_div(problem.k, sizes[2])))
    tiles = Tiles(*sizes, 1, stages, ranges, swizzle)
    tiles = tiles._replace(acc_slots=int(sum_slots(tiles, machine)))
    formats = formats_of(problem, parameters)
    check_tiles(f"gemm on {problem.name}", problem, parameters, formats)
    is_known = tiles.acc_slots and fits(machine, buffers_of(tiles, formats, parameters.b_layout))
    return tiles if is_known else None


@remembered
def rival_tiles(
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: GemmParameters,
    kernel: str = "gemm",
    grouping: Grouping = ONE_MATRIX,
) -> Sequence[Choice]:
    """Return the tilings that may be the fastest, of those asked for that fit, best guess first.

    grouping: of row blocks, if those of the problem have matrices B of their own. Raises
    DoesNotFitError, which names the kernel.
    """
    name = f"{kernel} on {problem.name}"
    machine.cube_for(name)
    formats = formats_of(problem, parameters)
    check_tiles(name, problem, parameters, formats)
    costs, fmt = OpCosts(machine), problem.dtype

    def step(tiles: Tiles) -> Step:
        side_bytes = tiles.k * fmt.bits / BITS_PER_BYTE
        return Step(
            costs.product(tiles.m, tiles.n, tiles.k, fmt, (fmt.bits, fmt.bits)),
            machine.cube_for(name).latency_cycles,
            (tiles.m * side_bytes, tiles.n * side_bytes),
        )

    is_transposed = parameters.b_layout == "nk"
    work = Work(problem, machine, step, formats[2].bits, is_transposed, grouping)
    tiles = candidates(problem, parameters.tile, parameters.tile_sizes)
    splits, swizzle = 0, parameters.swizzle or (0 if machine.l2 else 1)
    if isinstance(parameters.splits, int):
        splits = even_ranges(parameters.splits, ceil_div(problem.k, tiles.k))
    own = sum_slots(tiles, machine)
    tiles = tiles._replace(acc_slots=own, splits=splits, swizzle=swizzle)
    slots = _slots(problem, machine, parameters, tiles)
    found = rival_tilings(work, tiles, slots)
    if found[0].cycles == np.inf:
        smallest = tiles._replace(stages=slots.fewest, splits=np.maximum(splits, 1), acc_slots=1)
        sizes = buffers_of(smallest.at(-1), formats, parameters.b_layout)
        raise too_large(name, machine, sizes)
    return found


def _slots(
    problem: GemmProblem, machine: MachineSpec, parameters: GemmParameters, tiles: Tiles
) -> Slots:
    """Return how many slots the operands of tilings may have, and what is on chip beside them."""
    most, fewest = (parameters.stages,) * 2 if parameters.stages else (_STAGES[0], _STAGES[-1])
    known, merged = (formats_of(problem, parameters), parameters.b_layout), merged_rows(tiles)
    beside, ranged = (
        bytes_again(_declare, (*known, splits), tiles.m, tiles.n, tiles.k, merged)["scratchpad"]
        for splits in (1, 2)
    )
    return Slots(most, fewest, 1, beside, ranged)


def _declare(
    builder: ProgramBuilder,
    formats: Sequence[Format],
    b_layout: str,
    splits: int,
    *sizes: Any,
) -> None:
    """Declare all buffers but those of operands; sizes: m, n and k, and rows that are merged."""
    m, n, k, merged = sizes
    tiles = Tiles(m, n, k, 1, 0, splits)
    for name, rows, cols, fmt, slots, memory in buffers_of(tiles, formats, b_layout, merged):
        builder.buffer(name, rows, cols, fmt, slots=slots, memory=memory)
