"""Which tiles the gemm kernel cuts a product into: what it buffers, and how it may split k."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.linear.tiles import (
    BufferSize,
    Cost,
    Step,
    Tiles,
    TileSizes,
    candidates,
    check_packing,
    cost_of,
    fastest_tiles,
    product_cycles,
)
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

_MERGED_ELEMENTS = 4096
"""Elements of C in a work item of the second phase, unless its row is longer (assumption)."""


class GemmParameters(Spec):
    """Choices of the gemm kernel."""

    tile_m: Size | None = None
    """Rows of a tile of A and C, in elements; absent: chosen."""
    tile_n: Size | None = None
    """Columns of a tile of B and C, in elements; absent: chosen."""
    tile_k: Size | None = None
    """Depth of one step, in elements; absent: chosen."""
    tile_sizes: TileSizes = "powers"
    """Rows and columns that are tried: powers of two, or those of products of Hopper's warp groups,
    multiples of 64 along one axis and of 8 along the other."""
    stages: Size = 2
    """Tiles of A and of B on chip at once: 2 is double buffering, more cover a longer latency."""
    splits: Size | Literal["chosen"] = 1
    """Ranges of k that work items of their own sum, whose results a second phase adds."""
    swizzle: Size = 1
    """Rows of tiles walked together, column by column, so that tiles alive share operands."""
    b_layout: Literal["kn", "nk"] = "kn"
    """Whether B lies in HBM as [k, n] or, like the weights of a linear, as [n, k]."""
    output_format: Format | None = None
    """Format of C in HBM; absent: that of the operands, bf16 for fp8, int32 for integers."""


def range_steps(tiles: Tiles, k: int) -> int:
    """Return the steps of each range of k; the last one may have fewer."""
    return ceil_div(ceil_div(k, tiles.k), tiles.splits)


def merged_rows(tiles: Tiles) -> int:
    """Return the rows of C that one work item of the second phase sums."""
    return min(tiles.m, ceil_div(_MERGED_ELEMENTS, tiles.n))


def buffers_of(tiles: Tiles, formats: Sequence[Format], b_layout: str) -> list[BufferSize]:
    """Return the buffers of a tiling; formats: of operands, accumulator and output."""
    operand, accumulator, output = formats
    b_shape = (tiles.k, tiles.n) if b_layout == "kn" else (tiles.n, tiles.k)
    sizes = [
        BufferSize("a", tiles.m, tiles.k, operand, tiles.stages),
        BufferSize("b", *b_shape, operand, tiles.stages),
        BufferSize("acc", tiles.m, tiles.n, accumulator, tiles.acc_slots, "accumulator"),
    ]
    if tiles.splits == 1:
        return [*sizes, BufferSize("c", tiles.m, tiles.n, output, 2)]
    rows = merged_rows(tiles)
    return [
        *sizes,
        BufferSize("c", tiles.m, tiles.n, accumulator, 2),
        BufferSize("total", rows, tiles.n, accumulator),
        BufferSize("part", rows, tiles.n, accumulator, 2),
        BufferSize("merged", rows, tiles.n, output),
    ]


def choose_tiles(
    name: str,
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: GemmParameters,
    formats: Sequence[Format],
) -> Tiles:
    """Return the tiling of the lowest estimated cost among those asked for that fit.

    Raises DoesNotFitError.
    """

    def cost(tiles: Tiles) -> Cost:
        return cost_of(problem, machine, tiles, _step(name, problem, machine, tiles))

    return fastest_tiles(
        name,
        machine,
        _candidates(problem, machine, parameters),
        lambda tiles: buffers_of(tiles, formats, parameters.b_layout),
        cost,
    )


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


def _candidates(
    problem: GemmProblem, machine: MachineSpec, parameters: GemmParameters
) -> Iterator[Tiles]:
    asked = (parameters.tile_m, parameters.tile_n, parameters.tile_k)
    for tiles in candidates(problem, asked, parameters.tile_sizes):
        steps = ceil_div(problem.k, tiles.k)
        wanted: Iterable[int]
        if parameters.splits == "chosen":
            # More ranges than run at once would only add sums to merge.
            num_tiles = ceil_div(problem.m, tiles.m) * ceil_div(problem.n, tiles.n)
            wanted = range(1, max(1, machine.cores // num_tiles) + 1)
        else:
            wanted = (parameters.splits,)
        # Ranges of equal length may be fewer than asked for, so that none is empty.
        for splits in sorted({ceil_div(steps, ceil_div(steps, each)) for each in wanted}):
            yield tiles._replace(stages=parameters.stages, splits=splits)


def _step(name: str, problem: GemmProblem, machine: MachineSpec, tiles: Tiles) -> Step:
    """Return what one step along k asks of the cube and the load queue."""
    return Step(
        compute_cycles=product_cycles(name, machine, tiles, problem.dtype),
        latency_cycles=machine.cube_for(name).latency_cycles,
        operand_bytes=(
            tiles.m * tiles.k * problem.dtype.bits / BITS_PER_BYTE,
            tiles.n * tiles.k * problem.dtype.bits / BITS_PER_BYTE,
        ),
    )
