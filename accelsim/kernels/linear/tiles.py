"""Tilings of a matrix product: which ones fit a machine, and which is estimated to be fastest."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, product
from typing import Literal, NamedTuple

from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.timing import matrix_steps
from accelsim.kernels.tiling import MEMORIES, capacity_bytes, fit_error, tile_sizes
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Memory
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

_LARGEST_TILE = 512
_TILE_SIZES = tile_sizes(_LARGEST_TILE, smallest=16)
_WARP_GROUP_ROWS = range(64, _LARGEST_TILE + 1, 64)
_WARP_GROUP_COLS = range(8, 256 + 1, 8)
"""The sides of a tile of wgmma.m64nNk16 and its kin, N from 8 to 256 by 8 (PTX ISA 8.0)."""
_SUM_BYTES = 4
"""Bytes of a sum in the accumulator."""


TileSizes = Literal["powers", "warp_groups"]


class Tiles(NamedTuple):
    """Tile sizes in elements, slots of the accumulator and the operands, and ranges of k."""

    m: int
    n: int
    k: int
    acc_slots: int
    stages: int = 2
    splits: int = 1


class BufferSize(NamedTuple):
    """Arguments of `ProgramBuilder.buffer`."""

    name: str
    rows: int
    cols: int
    fmt: Format
    slots: int = 1
    memory: Memory = "scratchpad"


class Step(NamedTuple):
    """What one step along k asks of the machine."""

    compute_cycles: float
    """Time of the busiest unit."""
    latency_cycles: float
    """What passes between the arrival of the operands and the result, beyond `compute_cycles`."""
    operand_bytes: tuple[float, ...]
    """Bytes of each load, that of the left operand first."""


class Cost(NamedTuple):
    """What a tiling is estimated to take; the lower one, compared field by field, is better."""

    cycles: float
    """Time of the run."""
    loaded_bytes: float
    """Bytes that all cores load."""
    items: int
    """Work items."""


def candidates(
    problem: GemmProblem, asked: Sequence[int | None], sizes: TileSizes = "powers"
) -> Iterator[Tiles]:
    """Yield tilings, the smallest last; the accumulator is double-buffered or not.

    asked: sizes along m, n and k that the user gave, or None. sizes: those tried along m and n;
    along k they are powers of two.
    """
    own_m, own_n, own_k = asked
    sides = {
        (min(own_m or m, problem.m), min(own_n or n, problem.n)) for m, n in _sides(problem, sizes)
    }
    depths = {min(own_k or k, problem.k) for k in _TILE_SIZES}
    for (tile_m, tile_n), tile_k in product(
        sorted(sides, reverse=True), sorted(depths, reverse=True)
    ):
        for acc_slots in (2, 1):
            yield Tiles(tile_m, tile_n, tile_k, acc_slots)


def _sides(problem: GemmProblem, sizes: TileSizes) -> Iterable[tuple[int, int]]:
    """Return sizes of a tile along m and n."""
    if sizes == "powers":
        return product(_TILE_SIZES, _TILE_SIZES)
    # A warp group computes 64 rows even where they are not there: short operands are its columns.
    shortest = min(_WARP_GROUP_ROWS[0], max(problem.m, problem.n))
    straight = product(_WARP_GROUP_ROWS, _WARP_GROUP_COLS) if problem.m >= shortest else ()
    swapped = product(_WARP_GROUP_COLS, _WARP_GROUP_ROWS) if problem.n >= shortest else ()
    return chain(straight, swapped)


def fastest_tiles(
    name: str,
    machine: MachineSpec,
    tilings: Iterable[Tiles],
    buffers: Callable[[Tiles], list[BufferSize]],
    cost: Callable[[Tiles], Cost],
) -> Tiles:
    """Return the tiling of the lowest estimated time among those that fit.

    Of equal times the one that loads least, then the one of fewest items. If none fits, raises
    DoesNotFitError with the buffers of the last.
    """
    fitting: list[tuple[Cost, Tiles]] = []
    tightest: list[BufferSize] = []
    for tiles in tilings:
        tightest = buffers(tiles)
        if all(_used_bytes(tightest, m) <= capacity_bytes(machine, m) for m in MEMORIES):
            fitting.append((cost(tiles), tiles))
    if fitting:
        return min(fitting)[1]
    builder = ProgramBuilder(name, with_numbers=False)
    for size in tightest:
        builder.buffer(**size._asdict())
    raise fit_error(name, builder.buffers, machine) or ValueError(f"{name}: no tiles to try")


def _used_bytes(sizes: list[BufferSize], memory: str) -> float:
    own = (size for size in sizes if size.memory == memory)
    return sum(size.slots * size.rows * size.cols * size.fmt.bits / BITS_PER_BYTE for size in own)


def cost_of(problem: GemmProblem, machine: MachineSpec, tiles: Tiles, step: Step) -> Cost:
    """Return the estimate for all waves of items over the cores, each step at its slowest part.

    The last wave may occupy fewer cores, which then share the supply.
    """
    items = ceil_div(problem.m, tiles.m) * ceil_div(problem.n, tiles.n) * tiles.splits
    steps = ceil_div(ceil_div(problem.k, tiles.k), tiles.splits)
    full_waves, rest = divmod(items, machine.cores)
    slots = min(tiles.stages, steps)
    run = full_waves * steps * _step_cycles(machine, step, slots, machine.cores)
    if rest:
        run += steps * _step_cycles(machine, step, slots, rest)
    if tiles.acc_slots == 1:
        move = tiles.m * tiles.n * _SUM_BYTES / machine.accumulator.bandwidth
        run += ceil_div(items, machine.cores) * move
    if machine.l2:
        run = max(run, problem.compulsory_bytes / machine.hbm_bytes_per_cycle)
    # Before the first product or after the last load, whichever of the two is not the bottleneck.
    load = _load_cycles(machine, step, min(machine.cores, items))
    ends = machine.hbm_latency_cycles + min(load, step.compute_cycles)
    return Cost(
        cycles=run + ends + _merge_cycles(problem, machine, tiles),
        loaded_bytes=_loaded_bytes(problem, tiles, step),
        items=items,
    )


def _loaded_bytes(problem: GemmProblem, tiles: Tiles, step: Step) -> float:
    """Return what all items load: tiles at the edges end with the operand."""
    left, *right = step.operand_bytes
    left_rows, right_cols = problem.m / tiles.m, problem.n / tiles.n
    loads = left_rows * ceil_div(problem.n, tiles.n) * left
    loads += ceil_div(problem.m, tiles.m) * right_cols * sum(right)
    return problem.k / tiles.k * loads


def _step_cycles(machine: MachineSpec, step: Step, slots: int, active_cores: int) -> float:
    """Return the time from one step of an item to the next while `active_cores` have an item.

    slots: of the operands that an item uses; each item begins again with the first.
    """
    load = _load_cycles(machine, step, active_cores)
    # A slot is loaded again once the step `slots` before has been computed.
    arrival = machine.hbm_latency_cycles + load
    reuse = (arrival + step.compute_cycles + step.latency_cycles) / slots
    return max(step.compute_cycles, load, reuse)


def _load_cycles(machine: MachineSpec, step: Step, active_cores: int) -> float:
    """Return the time to load the operands of a step: by the queue, or by a core's fair share."""
    share = _supply_bytes_per_cycle(machine) / active_cores
    return max(
        sum(step.operand_bytes) / machine.load.bandwidth,
        sum(each / machine.hbm.channel_share(each) for each in step.operand_bytes) / share,
    )


def _supply_bytes_per_cycle(machine: MachineSpec) -> float:
    """Return what all cores can load: at the rate of the L2, where tiles alive share operands."""
    return machine.l2.bandwidth / machine.clock if machine.l2 else machine.hbm_bytes_per_cycle


def _merge_cycles(problem: GemmProblem, machine: MachineSpec, tiles: Tiles) -> float:
    """Return the time to store the sums of all ranges of k, and to launch what merges them.

    The first three ranges arrive together, then two at a time.
    """
    if tiles.splits == 1:
        return 0.0
    moved_bytes = 2 * tiles.splits * problem.m * problem.n * _SUM_BYTES
    arrivals = ceil_div(tiles.splits - 1, 2) - 1
    latency = machine.launch * machine.clock + 2 * machine.hbm_latency_cycles
    latency += arrivals * (machine.l2_latency_cycles or machine.hbm_latency_cycles)
    return latency + moved_bytes / machine.hbm_bytes_per_cycle


def product_cycles(work: str, machine: MachineSpec, tiles: Tiles, fmt: Format) -> float:
    """Return the cycles of the cube for one step of a tiling."""
    cube = machine.cube_for(work)
    steps = matrix_steps(tiles.m, tiles.n, tiles.k, cube.unit)
    return cube.issue_cycles + steps / cube.rates.get(fmt, 1.0)


def check_packing(name: str, tiles: dict[str, tuple[int | None, int, int]]) -> None:
    """Refuse tiles that would begin in the middle of a byte, where two 4-bit elements lie.

    tiles: key -> (size that the user gave, length of the axis, fewest bits of an element along it).
    """
    for key, (size, length, bits) in tiles.items():
        if size is not None and size < length and size * bits % BITS_PER_BYTE:
            raise DoesNotFitError(
                f"{name}: found {key} = {size}, but elements of {bits} bits are packed "
                f"{BITS_PER_BYTE // bits} to a byte; allowed: multiples of {BITS_PER_BYTE // bits}"
            )
