"""Tile sizes of a quantized linear: what fits, and of that what should take the least time."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import Footprint, fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.estimate.memory import miss_cycles
from accelsim.kernels.linear.integer.parameters import QuantizedParameters
from accelsim.kernels.linear.integer.scheme import Scheme
from accelsim.kernels.linear.tiles import Cost, Sizes, balanced, check_packing, fastest_of
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

_SIDES = (256, 192, 128, 96, 64, 48, 32, 16)
_NARROWEST_PANEL = 64
_VECTOR_OPS = 4
"""Passes over a result on its way from the accumulator to its format: convert, scale, add, round;
what is drained in between takes as many."""


class Tiles(NamedTuple):
    """Sizes in elements, and the column tiles of a work item.

    Integers, or arrays with one element for each tiling.
    """

    m: Any
    n: Any
    k: Any
    block: Any

    def at(self, index: Any) -> "Tiles":
        """Return one tiling of arrays, or those at some places."""
        return Tiles(*(each[index] for each in self))


class Work(NamedTuple):
    """A linear as the estimate sees it."""

    problem: GemmProblem
    machine: MachineSpec
    parameters: QuantizedParameters
    scheme: Scheme


@remembered
def choose_tiles(
    name: str,
    problem: GemmProblem,
    machine: MachineSpec,
    parameters: QuantizedParameters,
    scheme: Scheme,
    _beside: int,
    allocate: Callable[[ProgramBuilder, Tiles], object],
) -> Tiles:
    """Return the tiles of the lowest estimated time among those asked for that fit.

    Of times that the estimate cannot tell apart, the one that loads least. _beside: channels beside
    those of the problem, for which `allocate` makes room. Raises DoesNotFitError.
    """
    check_packing(name, {"tile_k": (parameters.tile_k, problem.k, parameters.activation_bits)})
    tiles = _candidates(problem, parameters, scheme, machine.cores)

    def declare(room: Footprint, *sizes: Any) -> None:
        allocate(cast(ProgramBuilder, room), Tiles(*sizes))

    fits = np.flatnonzero(fitting(machine, declare, *tiles))
    if not len(fits):
        last = Tiles(*(int(each) for each in tiles.at(-1)))
        raise misfit(name, machine, lambda builder: allocate(builder, last))
    tiles = tiles.at(fits)
    best = fastest_of(_estimate(Work(problem, machine, parameters, scheme), tiles))
    return Tiles(*(int(each) for each in tiles.at(best)))


def _candidates(
    problem: GemmProblem, parameters: QuantizedParameters, scheme: Scheme, cores: int
) -> Tiles:
    """Return tilings, the smallest last."""
    longest = max(stop - start for _, start, stop in scheme.spans)
    sides_m = _asked(parameters.tile_m, problem.m, balanced(longest, _SIDES))
    sides_n = _asked(parameters.tile_n, problem.n, balanced(problem.n, _SIDES))
    grid = np.meshgrid(sides_m, sides_n, panel_sizes(problem, parameters), indexing="ij")
    tile_m, tile_n, tile_k = (each.ravel() for each in grid)
    blocks = [_blocks(ceil_div(problem.n, int(n)), cores) for n in sides_n]
    block = np.array([blocks[at] for at in np.searchsorted(-sides_n, -tile_n)])
    repeats = block.shape[1]
    each = [np.repeat(sizes, repeats) for sizes in (tile_m, tile_n, tile_k)]
    return Tiles(each[0], each[1], each[2], block.ravel())


def _asked(size: int | None, length: int, chosen: Sizes) -> Sizes:
    return np.array([min(size, length)]) if size else chosen


def panel_sizes(problem: GemmProblem, parameters: QuantizedParameters) -> Sizes:
    """Return the channels of a panel: all, or equal shares that begin with a whole byte."""
    if parameters.tile_k:
        return np.array([min(parameters.tile_k, problem.k)])
    sizes, panels = [problem.k], 2
    while (channels := ceil_div(problem.k, panels)) >= _NARROWEST_PANEL:
        sizes.append(ceil_div(channels, _NARROWEST_PANEL) * _NARROWEST_PANEL)
        panels += 1 if panels < 8 else panels // 4
    return np.unique(np.minimum(sizes, problem.k))[::-1]


def _blocks(tiles_n: int, cores: int) -> list[int]:
    """Return column tiles per work item: all, and ever fewer while cores may want for items.

    There are as many for every number of tiles, the last ones alike.
    """
    blocks = [tiles_n]
    for _ in range((2 * cores).bit_length()):
        wants = blocks[-1] > 1 and tiles_n // blocks[-1] < 2 * cores
        blocks.append(ceil_div(blocks[-1], 2) if wants else blocks[-1])
    return blocks


def _estimate(work: Work, tiles: Tiles) -> Cost:
    """Return cycles and bytes loaded: all work items over the cores, each at its slowest unit.

    An item has the rows of its tile, which the end of a chunk may cut short. The busiest core has
    its share of the work, and of the items so tall or taller it has a whole number. What an
    item takes alone, beyond the step to the next one, passes once.
    """
    cores = work.machine.cores
    blocks = ceil_div(ceil_div(work.problem.n, tiles.n), tiles.block)
    rows, counts = _tile_rows(work.scheme, tiles.m)
    counts = counts * blocks
    active_cores = np.minimum(cores, counts.sum(0))
    alone, step, loads = _item(work, tiles, rows, active_cores)
    in_flight = work.machine.items_in_flight
    cycles = np.maximum(step, alone / in_flight)
    together: Any = counts.cumsum(0)
    so_tall = np.where(counts > 0, ceil_div(together, cores) * cycles, 0)
    run = np.maximum(so_tall.max(0), (counts * cycles).sum(0) / cores)
    if in_flight > 1:
        run = run + np.maximum(0, alone - cycles)[0]
    steps = counts.sum(0) * tiles.block * ceil_div(work.problem.k, tiles.k)
    return Cost(run, (counts * loads).sum(0), steps)


def _tile_rows(scheme: Scheme, tile_m: Sizes) -> tuple[Sizes, Sizes]:
    """Return the heights that tiles of X have, the tallest first, and how many have each
    [heights, tilings]; of a height that is not there, none."""
    sizes, places = np.unique(tile_m, return_inverse=True)
    each = [sorted(_heights(scheme, int(size)).items(), reverse=True) for size in sizes]
    most = max(len(heights) for heights in each)
    padded = np.array([heights + [(1, 0)] * (most - len(heights)) for heights in each])
    rows, counts = padded.transpose(2, 1, 0)
    return rows[:, places], counts[:, places]


def _heights(scheme: Scheme, tile_m: int) -> Counter[int]:
    """Return how many tiles of X have how many rows."""
    counts: Counter[int] = Counter()
    for _, start, stop in scheme.spans:
        whole, rest = divmod(stop - start, tile_m)
        counts.update({tile_m: whole, rest: 1})
    del counts[0]
    return +counts


def _item(work: Work, tiles: Tiles, rows: Any, active_cores: Any) -> tuple[Any, Any, Any]:
    """Return of items of `rows`, while `active_cores` have one each, the cycles of one alone, those
    from one to the next, and the bytes loaded."""
    problem, machine, parameters, own = *work[:3], work.scheme.work
    panels = ceil_div(problem.k, tiles.k)
    products = _products(own.drains, tiles.k) if own.drains else panels
    bits = (parameters.activation_bits, parameters.weight_bits)
    product = OpCosts(machine).int_product(
        rows, tiles.n, np.ceil(tiles.k * panels / products), own.shifts, bits
    )
    outputs = rows * tiles.n
    drains = products * bool(own.drains) + 1
    lanes, miss = machine.vector.lanes.get(Format.FP32, 1), miss_cycles(machine)
    vector = drains * _VECTOR_OPS * (ceil_div(outputs, lanes) + machine.vector.issue_cycles)
    move = drains * outputs * 4 / machine.accumulator.bandwidth
    rate = np.minimum(machine.load.bandwidth, machine.hbm_bytes_per_cycle / active_cores)
    x_bytes = rows * problem.k * bits[0] / BITS_PER_BYTE
    w_bytes = tiles.n * problem.k * bits[1] / BITS_PER_BYTE
    # With several panels, the rows of X come again for every column tile.
    loads = tiles.block * w_bytes + x_bytes * np.where(panels > 1, tiles.block, 1)
    slowest = np.maximum(products * product, np.maximum(vector, move))
    work_cycles, first = tiles.block * slowest, (w_bytes + x_bytes) / panels / rate
    stored = outputs * problem.output_dtype.bits / BITS_PER_BYTE / machine.store.bandwidth
    alone = np.maximum(first + work_cycles, loads / rate + slowest / panels) + 2 * miss + stored
    # With an even number of cores, the items of a core come to the same slot again and again.
    is_held = (panels == 1) & (machine.cores % 2 == 0)
    held = x_bytes + np.where(tiles.block > 1, 0, w_bytes)
    step = work_cycles + np.where(is_held, miss + held / rate, 0)
    return alone, np.maximum(step, loads / rate), loads


def _products(drains: tuple[tuple[int, float], ...], tile_k: Sizes) -> Any:
    """Return the products of all panels of each tiling."""
    sizes, places = np.unique(tile_k, return_inverse=True)
    of_size = dict(drains)
    return np.array([of_size[size] for size in sizes.tolist()])[places]
