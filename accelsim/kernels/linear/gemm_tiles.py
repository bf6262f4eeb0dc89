"""Which tiles a matrix product is cut into: those that fit, by the lowest estimated time."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

from pydantic import PositiveInt

from accelsim.config.spec import Spec
from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.tiling import MEMORIES, capacity_bytes, fit_error, tile_sizes
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Memory
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

_TILE_SIZES = tile_sizes(largest=512, smallest=16)
_ACCUMULATOR_BYTES = 4
_MERGED_ELEMENTS = 4096
"""Elements of C in a work item of the second phase, unless its row is longer (assumption)."""


class GemmParameters(Spec):
    """Choices of the gemm kernel."""

    tile_m: PositiveInt | None = None
    """Rows of a tile of A and C, in elements; absent: chosen."""
    tile_n: PositiveInt | None = None
    """Columns of a tile of B and C, in elements; absent: chosen."""
    tile_k: PositiveInt | None = None
    """Depth of one step, in elements; absent: chosen."""
    stages: PositiveInt = 2
    """Tiles of A and of B on chip at once: 2 is double buffering, more cover a longer latency."""
    splits: PositiveInt | Literal["chosen"] = 1
    """Ranges of k that work items of their own sum, whose results a second phase adds."""
    swizzle: PositiveInt = 1
    """Rows of tiles walked together, column by column, so that tiles alive share operands."""
    b_layout: Literal["kn", "nk"] = "kn"
    """Whether B lies in HBM as [k, n] or, like the weights of a linear, as [n, k]."""
    output_format: Format | None = None
    """Format of C in HBM; absent: that of the operands, or int32 for integers."""


class Tiling(NamedTuple):
    """Tile sizes in elements, slots of operands and accumulator, and ranges of k."""

    m: int
    n: int
    k: int
    acc_slots: int
    stages: int
    splits: int

    @property
    def merged_rows(self) -> int:
        """Rows of C that one work item of the second phase sums."""
        return min(self.m, ceil_div(_MERGED_ELEMENTS, self.n))

    def range_steps(self, k: int) -> int:
        """Return the steps of a range of k; those of the last range may be fewer."""
        return ceil_div(ceil_div(k, self.k), self.splits)


class BufferSize(NamedTuple):
    """Arguments of `ProgramBuilder.buffer`."""

    name: str
    rows: int
    cols: int
    fmt: Format
    slots: int
    memory: Memory


def buffers_of(tiles: Tiling, formats: Sequence[Format], b_layout: str) -> Mapping[str, BufferSize]:
    """Return the buffers of a tiling by name, with formats of operand, accumulator and output."""
    operand, accumulator, output = formats
    b_shape = (tiles.k, tiles.n) if b_layout == "kn" else (tiles.n, tiles.k)
    sizes = [
        BufferSize("a", tiles.m, tiles.k, operand, tiles.stages, "scratchpad"),
        BufferSize("b", *b_shape, operand, tiles.stages, "scratchpad"),
        BufferSize("acc", tiles.m, tiles.n, accumulator, tiles.acc_slots, "accumulator"),
        BufferSize("c", tiles.m, tiles.n, output, 2, "scratchpad"),
    ]
    if tiles.splits > 1:
        rows = tiles.merged_rows
        sizes[-1] = sizes[-1]._replace(fmt=accumulator)
        sizes += [
            BufferSize("total", rows, tiles.n, accumulator, 1, "scratchpad"),
            BufferSize("part", rows, tiles.n, accumulator, 2, "scratchpad"),
            BufferSize("merged", rows, tiles.n, output, 1, "scratchpad"),
        ]
    return {size.name: size for size in sizes}


def choose_tiles(
    name: str,
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: GemmParameters,
    formats: Sequence[Format],
) -> Tiling:
    """Return the tiling of the lowest estimated time among those asked for that fit.

    Raises DoesNotFitError.
    """
    fitting = []
    tightest: Mapping[str, BufferSize] = {}
    for tiles in _candidates(problem, machine, parameters):
        sizes = buffers_of(tiles, formats, parameters.b_layout)
        if all(_used_bytes(sizes, m) <= capacity_bytes(machine, m) for m in MEMORIES):
            fitting.append((_estimate_cycles(problem, machine, tiles), tiles))
        tightest = sizes
    if fitting:
        return min(fitting)[1]
    builder = ProgramBuilder(name, with_numbers=False)
    for size in tightest.values():
        builder.buffer(**size._asdict())
    raise fit_error(name, builder.buffers, machine) or ValueError(f"{name}: no tiles to try")


def check_packing(
    name: str,
    problem: GemmProblem,
    parameters: GemmParameters,
    formats: Sequence[Format],
) -> None:
    """Refuse tiles that would begin in the middle of a byte, where two 4-bit elements lie."""
    operand, _, output = formats
    n_bits = min(operand.bits, output.bits) if parameters.b_layout == "kn" else output.bits
    columns = {
        "tile_k": (parameters.tile_k, problem.k, operand.bits),
        "tile_n": (parameters.tile_n, problem.n, n_bits),
    }
    for key, (size, length, bits) in columns.items():
        if size is not None and size < length and size * bits % BITS_PER_BYTE:
            raise DoesNotFitError(
                f"{name}: found {key} = {size}, but elements of {bits} bits are packed "
                f"{BITS_PER_BYTE // bits} to a byte; allowed: multiples of {BITS_PER_BYTE // bits}"
            )


def _candidates(
    problem: GemmProblem, machine: MachineSpec, parameters: GemmParameters
) -> Iterator[Tiling]:
    """Yield tilings, the smallest last; the accumulator is double-buffered or not."""
    asked = (parameters.tile_m, parameters.tile_n, parameters.tile_k)
    lengths = (problem.m, problem.n, problem.k)
    sizes = [
        sorted({min(size, length) for size in ([own] if own else _TILE_SIZES)}, reverse=True)
        for own, length in zip(asked, lengths, strict=True)
    ]
    for tile_m, tile_n, tile_k in product(*sizes):
        for splits in _splits(problem, machine, parameters, (tile_m, tile_n, tile_k)):
            for acc_slots in (2, 1):
                yield Tiling(tile_m, tile_n, tile_k, acc_slots, parameters.stages, splits)


def _splits(
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: GemmParameters,
    tile: tuple[int, int, int],
) -> list[int]:
    """Return the numbers of ranges to try: the one asked for, or what fills the cores once."""
    steps = ceil_div(problem.k, tile[2])
    if parameters.splits != "chosen":
        return [_used_splits(steps, parameters.splits)]
    most = machine.cores // (ceil_div(problem.m, tile[0]) * ceil_div(problem.n, tile[1]))
    return sorted({_used_splits(steps, splits) for splits in (1, 2, 3, 4, 6, 8, most) if splits})


def _used_splits(steps: int, splits: int) -> int:
    """Return how many ranges have any step when `steps` are cut into `splits` equal ranges."""
    return ceil_div(steps, ceil_div(steps, splits))


def _used_bytes(sizes: Mapping[str, BufferSize], memory: str) -> float:
    own = (size for size in sizes.values() if size.memory == memory)
    return sum(size.slots * size.rows * size.cols * size.fmt.bits / BITS_PER_BYTE for size in own)


def _estimate_cycles(problem: GemmProblem, machine: MachineSpec, tiles: Tiling) -> float:
    """Return the time of all waves of items over the cores, each step at its slowest part."""
    cube = machine.cube
    num_tiles = ceil_div(problem.m, tiles.m) * ceil_div(problem.n, tiles.n)
    num_items = num_tiles * tiles.splits
    steps = tiles.range_steps(problem.k)
    products = ceil_div(tiles.m, cube.tile_m) * ceil_div(tiles.n, cube.tile_n)
    steps_per_cycle = cube.rates.get(problem.dtype, 1.0)
    compute = cube.issue_cycles + products * ceil_div(tiles.k, cube.tile_k) / steps_per_cycle
    operand_bytes = [size * tiles.k * problem.dtype.bits / BITS_PER_BYTE for size in tiles[:2]]
    hbm_share = machine.hbm_bytes_per_cycle / min(machine.cores, num_items)
    load = max(
        sum(operand_bytes) / machine.load.bandwidth,
        sum(each / _channel_share(each, machine) for each in operand_bytes) / hbm_share,
    )
    # A slot is loaded again once the step `stages` before has been computed.
    arrival = machine.hbm_latency_cycles + load
    reuse = (arrival + compute + cube.pipeline_depth_cycles) / tiles.stages
    move = tiles.m * tiles.n * _ACCUMULATOR_BYTES / machine.accumulator.bandwidth
    per_item = steps * max(compute, load, reuse) + (move if tiles.acc_slots == 1 else 0)
    waves = ceil_div(num_items, machine.cores)
    return waves * per_item + arrival + _merge_cycles(problem, machine, tiles)


def _merge_cycles(problem: GemmProblem, machine: MachineSpec, tiles: Tiling) -> float:
    """Return the time to write the sums of all ranges, launch the second phase and read them."""
    if tiles.splits == 1:
        return 0.0
    partial_bytes = 2 * tiles.splits * problem.m * problem.n * _ACCUMULATOR_BYTES
    latency = machine.launch_cycles + 2 * machine.hbm_latency_cycles
    return latency + partial_bytes / machine.hbm_bytes_per_cycle


def _channel_share(num_bytes: float, machine: MachineSpec) -> float:
    """Return the share of the channels that one transfer keeps busy.

    Tiles of one matrix often begin at the same channel, so that others do not fill the gap.
    """
    return min(1.0, num_bytes / machine.hbm.interleave / machine.hbm.channels)
