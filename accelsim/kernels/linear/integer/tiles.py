"""Tile sizes of a quantized linear: what fits, and of that what should take the least time."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.timing import int_mac_cycles
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Scheme
from accelsim.kernels.linear.tiles import check_packing
from accelsim.kernels.tiling import fit_error, tile_sizes
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

_TILE_SIZES = tile_sizes(largest=256, smallest=16)
_NARROWEST_PANEL = 64
_VECTOR_OPS = 4
"""Passes over a result on its way from the accumulator to its format: convert, scale, add, round;
what is drained in between takes as many."""


class Tiles(NamedTuple):
    """Sizes in elements, and the column tiles of a work item."""

    m: int
    n: int
    k: int
    block: int


def choose_tiles(
    name: str,
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: QuantizedParameters,
    scheme: Scheme,
    allocate: Callable[[ProgramBuilder, Tiles], object],
) -> Tiles:
    """Return the tiles of the lowest estimated time among those asked for that fit.

    Of equal times the one that loads least. Raises DoesNotFitError.
    """
    bits: int = parameters.activation_bits
    check_packing(name, {"tile_k": (parameters.tile_k, problem.k, bits)})
    fitting: list[tuple[tuple[float, float], Tiles]] = []
    error: DoesNotFitError | None = None
    for tile_m, tile_n in _sides(problem, parameters):
        for tile_k in _panels(problem, parameters):
            builder = ProgramBuilder(name, with_numbers=False)
            allocate(builder, Tiles(tile_m, tile_n, tile_k, 1))
            error = fit_error(name, builder.buffers, machine)
            if error is None:
                for block in _blocks(ceil_div(problem.n, tile_n), machine.cores):
                    tiles = Tiles(tile_m, tile_n, tile_k, block)
                    cost = _estimate(problem, machine, parameters, scheme, tiles)
                    fitting.append((cost, tiles))
                break
    if not fitting:
        raise error or ValueError(f"{name}: no tiles to try")
    return min(fitting)[1]


def _sides(problem: GemmProblem, parameters: QuantizedParameters) -> Iterator[tuple[int, int]]:
    for tile_m in _sizes(parameters.tile_m, problem.m):
        for tile_n in _sizes(parameters.tile_n, problem.n):
            yield tile_m, tile_n


def _sizes(asked: int | None, length: int) -> list[int]:
    return sorted({min(size, length) for size in ([asked] if asked else _TILE_SIZES)}, reverse=True)


def _panels(problem: GemmProblem, parameters: QuantizedParameters) -> Iterator[int]:
    """Yield the channels of a panel: all, or equal shares that begin with a whole byte."""
    if parameters.tile_k:
        yield min(parameters.tile_k, problem.k)
        return
    yield problem.k
    panels = 2
    while (channels := ceil_div(problem.k, panels)) >= _NARROWEST_PANEL:
        yield ceil_div(channels, _NARROWEST_PANEL) * _NARROWEST_PANEL
        panels += 1 if panels < 8 else panels // 4


def _blocks(tiles_n: int, cores: int) -> Iterator[int]:
    """Yield column tiles per work item: all, and ever fewer while cores may want for items."""
    block = tiles_n
    while block > 1 and tiles_n // block < 2 * cores:
        yield block
        block = ceil_div(block, 2)
    yield block


def _estimate(
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: QuantizedParameters,
    scheme: Scheme,
    tiles: Tiles,
) -> tuple[float, float]:
    """Return cycles and bytes loaded: all work items over the cores, each at its slowest unit.

    An item has the rows of its tile, which the end of a chunk may cut short. The busiest core has
    its share of the work, and of the items so tall or taller it has a whole number.
    """
    blocks = ceil_div(ceil_div(problem.n, tiles.n), tiles.block)
    tile_rows = _tile_rows(scheme, tiles.m)
    active_cores = min(machine.cores, tile_rows.total() * blocks)
    items, run, work, loaded = 0, 0.0, 0.0, 0.0
    for rows, count in sorted(tile_rows.items(), reverse=True):
        cycles, loads = _item(problem, machine, parameters, scheme, tiles, rows, active_cores)
        items += count * blocks
        run = max(run, ceil_div(items, machine.cores) * cycles)
        work += count * blocks * cycles
        loaded += count * blocks * loads
    return max(run, work / machine.cores), loaded


def _tile_rows(scheme: Scheme, tile_m: int) -> Counter[int]:
    """Return how many tiles of X have how many rows."""
    counts: Counter[int] = Counter()
    for _, start, stop in scheme.spans:
        whole, rest = divmod(stop - start, tile_m)
        counts.update({tile_m: whole, rest: 1})
    del counts[0]
    return counts


def _item(
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: QuantizedParameters,
    scheme: Scheme,
    tiles: Tiles,
    rows: int,
    active_cores: int,
) -> tuple[float, float]:
    """Return cycles and bytes loaded of an item of `rows` while `active_cores` have one each."""
    array = machine.int_mac_for(problem.name)
    panels = ceil_div(problem.k, tiles.k)
    passes = max(1, scheme.work.drains)
    product = int_mac_cycles(
        rows,
        tiles.n,
        ceil_div(tiles.k, passes),
        scheme.work.shifts,
        parameters.activation_bits,
        parameters.weight_bits,
        array.rows,
        array.cols,
        float(machine.scratchpad.bandwidth),
    )
    outputs = rows * tiles.n
    drains = panels * scheme.work.drains + 1
    lanes = machine.vector.lanes.get(Format.FP32, 1)
    vector = drains * _VECTOR_OPS * (ceil_div(outputs, lanes) + machine.vector.issue_cycles)
    move = drains * outputs * 4 / machine.accumulator.bandwidth
    rate = min(machine.load.bandwidth, machine.hbm_bytes_per_cycle / active_cores)
    x_bytes = rows * problem.k * parameters.activation_bits / BITS_PER_BYTE
    w_bytes = tiles.n * problem.k * parameters.weight_bits / BITS_PER_BYTE
    loads = tiles.block * w_bytes + x_bytes * (tiles.block if panels > 1 else 1)
    slowest = max(panels * passes * product, vector, move)
    return max(tiles.block * slowest, loads / rate), loads
