"""How long tilings of a matrix product should take, for all of them at once.

One core works through the steps of its items as fast as the slowest of its units and the wait for
a free slot allow. The memory serves the bytes of all cores. A run takes as long as the slower of
the two, and a little longer where they are close.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.banks import places_of_rows
from accelsim.kernels.estimate.memory import (
    hit_cycles,
    miss_cycles,
    shared_bytes_per_cycle,
    sustained_bytes_per_cycle,
)
from accelsim.kernels.linear.tiles import SUM_BYTES, Cost, Tiles, quotient
from accelsim.units import BITS_PER_BYTE
from accelsim.workload.problem import GemmProblem

_CLOSENESS = 8.0
"""Exponent by which times that overlap are joined: two equal ones take 9 % longer than one
(assumption, as are the next three; together they came nearest to simulated products)."""
KEPT_SHARE = 0.9
"""Of the capacity of an L2 that holds what is used again."""
_CROWDING = 0.5
"""Of what loads that lie on few channels would cost if all cores asked for them at once."""
_SEEN_TOGETHER = 12.5
"""Of so many times the rows that fit the view of all controllers, half are served in good order
(found by simulating, as is the next one)."""
_ORDER_POWER = 4
"""How fast that falls with more rows."""


class Step(NamedTuple):
    """What one step along k asks of a core."""

    compute_cycles: Any
    """Time of the busiest unit."""
    latency_cycles: Any
    """What passes between the arrival of the operands and the result, beyond `compute_cycles`."""
    operand_bytes: tuple[Any, ...]
    """Bytes of each load, that of the left operand first."""


class Work(NamedTuple):
    """A product as the estimate sees it."""

    problem: GemmProblem
    machine: MachineSpec
    step: Callable[[Tiles], Step]
    """Of a tiling; sizes may be arrays of any shape."""
    output_bits: int
    is_transposed: bool = False
    """Whether B lies as [n, k]."""


class _Grid(NamedTuple):
    """How the tilings cut the product, [tilings]."""

    rows: Any
    """Tiles along m."""
    cols: Any
    steps: Any
    """Of a range of k."""
    depth: Any
    """Elements of a range of k."""
    items: Any
    active_cores: Any
    wave_rows: Any
    """Tile rows and columns that cores work on at the same time."""
    wave_cols: Any


class _Bytes(NamedTuple):
    """What moves in a run."""

    left: Any
    """Loads of A by all cores."""
    right: Any
    stored: Any
    step_left: Any
    """Of one load of a whole tile of A."""
    step_right: Any


def cost_of(work: Work, tiles: Tiles) -> Cost:
    """Return the estimates of all tilings."""
    tiles = tiles.as_floats()
    problem, machine = work.problem, work.machine
    grid = _grid(problem, machine, tiles)
    moved = _bytes(work, tiles, grid)
    hbm, l2, first_wave, missed = _memory(work, tiles, grid, moved)
    compute, slack, run = _core_cycles(work, tiles, grid, missed)
    late = np.maximum(0, first_wave - run / quotient(grid.items, machine.cores))
    run = run + np.maximum(late, _queued_cycles(work, tiles, grid, moved, slack))
    run = (run**_CLOSENESS + hbm**_CLOSENESS + l2**_CLOSENESS) ** (1 / _CLOSENESS)
    load = (moved.step_left + moved.step_right) / machine.load.bandwidth
    cycles = run + end_cycles(work, tiles, load, compute)
    cycles = cycles + merge_cycles(work, tiles, grid.active_cores)
    return Cost(cycles, moved.left + moved.right, grid.items * grid.steps)


def end_cycles(work: Work, tiles: Tiles, load: Any, compute: Any) -> Any:
    """Return the time before the first product or after the last load, whichever of the two is not
    the bottleneck, and to bring away the last tile of C."""
    machine = work.machine
    outputs = tiles.m * tiles.n
    last = outputs * SUM_BYTES / machine.accumulator.bandwidth
    last = last + outputs * work.output_bits / BITS_PER_BYTE / machine.store.bandwidth
    latency = miss_cycles(machine) + hit_cycles(machine)
    return latency + last + np.minimum(load, compute)


def _grid(problem: GemmProblem, machine: MachineSpec, tiles: Tiles) -> _Grid:
    rows, cols = quotient(problem.m, tiles.m), quotient(problem.n, tiles.n)
    steps = quotient(quotient(problem.k, tiles.k), tiles.splits)
    items = rows * cols * tiles.splits
    at_once = np.minimum(np.maximum(1, np.floor(machine.cores / tiles.splits)), rows * cols)
    wave_rows = np.minimum(np.minimum(tiles.swizzle, rows), at_once)
    wave_cols = np.minimum(quotient(at_once, wave_rows), cols)
    depth = np.minimum(problem.k, steps * tiles.k)
    active = np.minimum(machine.cores, items)
    return _Grid(rows, cols, steps, depth, items, active, wave_rows, wave_cols)


def _bytes(work: Work, tiles: Tiles, grid: _Grid) -> _Bytes:
    """Return what is loaded and stored: tiles at the edges end with the operand."""
    problem = work.problem
    left, *right = work.step(tiles).operand_bytes
    of_right = sum(right)
    along_k = problem.k / tiles.k
    outputs = problem.m * problem.n
    sums = np.where(tiles.splits > 1, tiles.splits * outputs * SUM_BYTES, 0)
    return _Bytes(
        along_k * problem.m / tiles.m * grid.cols * left,
        along_k * problem.n / tiles.n * grid.rows * of_right,
        outputs * work.output_bits / BITS_PER_BYTE + sums,
        left,
        of_right,
    )


def _memory(work: Work, tiles: Tiles, grid: _Grid, moved: _Bytes) -> tuple[Any, Any, Any, Any]:
    """Return the cycles of the HBM and of the L2, those of the HBM until the first wave is there,
    and the share of the steps that wait for the HBM behind an L2."""
    machine = work.machine
    rate = sustained_bytes_per_cycle(machine)
    left, right = _hbm_shares(work, tiles, grid, moved)
    if machine.l2 is None:
        busy = (moved.left / left + moved.right / right + moved.stored) / rate
        return busy, 0.0, 0.0, 0.0
    of_left, of_right, stored = _missed_bytes(work, machine.l2, tiles, grid, moved)
    first = np.minimum(_first_wave_bytes(tiles, grid, moved), of_left + of_right)
    loaded = moved.left + moved.right
    missed = np.minimum(1.0, 2 * (of_left + of_right) / loaded)
    hbm = (of_left / left + of_right / right + stored) / rate
    left, right = _evenness(work, tiles, grid, moved, machine.l2.line * machine.l2.slices)
    l2 = moved.left / left + moved.right / right + moved.stored
    return hbm, l2 * machine.clock / machine.l2.bandwidth, first / rate, missed


def _missed_bytes(
    work: Work, l2: L2Spec, tiles: Tiles, grid: _Grid, moved: _Bytes
) -> tuple[Any, Any, Any]:
    """Return what of A and B comes from the HBM, and what of C goes there, behind an L2.

    A band of tile rows comes again for every wave of columns, and B for every band, unless it
    stays in the cache until then.
    """
    problem = work.problem
    capacity = KEPT_SHARE * l2.capacity
    left, right = moved.left / grid.cols, moved.right / grid.rows
    output = problem.m * problem.n * work.output_bits / BITS_PER_BYTE
    band = np.minimum(tiles.swizzle / grid.rows, 1)
    wave = grid.wave_cols / grid.cols
    keeps_left = (grid.cols <= grid.wave_cols) | (band * left + wave * right <= capacity)
    keeps_right = (band >= 1) | (band * (left + output) + right <= capacity)
    stores = moved.stored > 0 if l2.writes == "through" else left + right + output > capacity
    return (
        np.where(keeps_left, left, left * quotient(grid.cols, grid.wave_cols)),
        np.where(keeps_right, right, right * quotient(grid.rows, tiles.swizzle)),
        np.where(stores, moved.stored, 0),
    )


def _first_wave_bytes(tiles: Tiles, grid: _Grid, moved: _Bytes) -> Any:
    """Return what the first items of all cores load, each byte once: no cache has it yet."""
    ranges = np.minimum(tiles.splits, grid.active_cores)
    of_step = grid.wave_rows * moved.step_left + grid.wave_cols * moved.step_right
    return of_step * grid.depth / tiles.k * ranges


def _hbm_shares(work: Work, tiles: Tiles, grid: _Grid, moved: _Bytes) -> tuple[Any, Any]:
    """Return the shares of the rate of the HBM that loads of A and of B get."""
    hbm = work.machine.hbm
    if hbm.kind == "flat":
        return _evenness(work, tiles, grid, moved, hbm.interleave * hbm.channels)
    m, n, k = work.problem.m, work.problem.n, work.problem.k
    of_steps = tiles.k * tiles.stages
    element = moved.step_left / (tiles.m * tiles.k)
    left = _rows_share(hbm, (m, k), element, tiles.m * tiles.stages, of_steps)
    element = moved.step_right / (tiles.n * tiles.k)
    if work.is_transposed:
        return left, _rows_share(hbm, (n, k), element, tiles.n * tiles.stages, of_steps)
    # Each range of k asks for rows of its own.
    cols = np.minimum(tiles.n * grid.wave_cols, n)
    asked_rows = of_steps * np.maximum(1, tiles.splits * cols / n)
    return left, _rows_share(hbm, (k, n), element, asked_rows, cols)


def _rows_share(
    hbm: BankedHbmSpec, shape: tuple[int, int], element_bytes: Any, asked_rows: Any, cols: Any
) -> Any:
    """Return the share of the rate of a banked HBM with which it serves tiles of a matrix.

    shape: of the matrix; asked_rows: that a core asks for at once; cols: that all cores load.
    """
    rows, length = shape
    pitch = element_bytes * length
    places = places_of_rows(hbm, rows, float(pitch.flat[0]))
    # A controller sees a few bursts of each channel. Where more rows are asked for, they come from
    # the channels that the rows of one core lie on.
    seen = hbm.controller.window * hbm.dram.shape.burst / hbm.interleave * hbm.channels
    lines = asked_rows * np.minimum(1, pitch / hbm.interleave)
    in_view = 1 / (1 + (lines / (_SEEN_TOGETHER * seen)) ** _ORDER_POWER)
    even = places.evenness(element_bytes * np.minimum(cols, length))
    return even / (in_view + (1 - in_view) / places.reach)


def _evenness(
    work: Work, tiles: Tiles, grid: _Grid, moved: _Bytes, span_bytes: int
) -> tuple[Any, Any]:
    """Return how evenly loads of A and of B lie on channels, of which each has its share of a span.

    1 is even. Loads that begin at the same channel do not fill each other's gaps.
    """
    k = work.problem.k
    left = moved.step_left / tiles.k
    right = moved.step_right / tiles.k
    if work.is_transposed:
        right = right * k
    return (
        _even_share(moved.step_left, grid.wave_rows, left * k, span_bytes),
        _even_share(moved.step_right, grid.wave_cols, right, span_bytes),
    )


def _queued_cycles(work: Work, tiles: Tiles, grid: _Grid, moved: _Bytes, slack_cycles: Any) -> Any:
    """Return how much later the core is done that is served last at the start.

    Each core asks for as many steps as it has slots, and gets them one core after the other. Later
    it has them all, and saves what a step is longer than its compute. Those that wait take fewer
    items, where there are several for each.
    """
    machine = work.machine
    asked = np.minimum(np.minimum(tiles.stages, grid.steps), max(1, machine.load.in_flight // 2))
    of_core = moved.step_left + moved.step_right
    cycles = grid.active_cores * of_core / shared_bytes_per_cycle(machine)
    if machine.l2:
        once = grid.wave_rows * moved.step_left + grid.wave_cols * moved.step_right
        ranges = np.minimum(tiles.splits, grid.active_cores)
        cycles = np.maximum(cycles, once * ranges / sustained_bytes_per_cycle(machine))
    others = 1 - 1 / grid.active_cores
    late = asked * np.maximum(0, others * cycles - slack_cycles)
    return late * (1 + grid.active_cores / grid.items) / 2


def _even_share(run_bytes: Any, runs: Any, offset_bytes: Any, span_bytes: int) -> Any:
    """Return the mean load of a channel over that of the busiest, for runs at equal offsets.

    Cores drift apart, so that only a part of the crowd is there at once.
    """
    turns = run_bytes / span_bytes
    whole = np.floor(turns)
    rest = turns - whole
    reach = np.minimum(1, np.maximum(rest, (runs - 1) * (offset_bytes % span_bytes) / span_bytes))
    even = turns / (whole + rest / np.maximum(reach, 1e-9))
    return 1 / (1 + _CROWDING * (1 / even - 1))


def _core_cycles(work: Work, tiles: Tiles, grid: _Grid, missed: Any) -> tuple[Any, Any, Any]:
    """Return the compute cycles of a whole step, what it takes beyond them, and when the last core
    is done with its items."""
    problem = work.problem
    last_m = problem.m - (grid.rows - 1) * tiles.m
    last_n = problem.n - (grid.cols - 1) * tiles.n
    # [whole or at the lower edge, whole or at the right edge, tilings]
    kinds = tiles._replace(
        m=np.stack([tiles.m, last_m])[:, None], n=np.stack([tiles.n, last_n])[None]
    )
    step, period, time = _item_cycles(work, kinds, grid, missed)
    along_m = np.stack([grid.rows - 1, np.ones_like(grid.rows)])
    along_n = np.stack([(grid.cols - 1) * tiles.splits, tiles.splits + 0 * grid.cols])
    counts = along_m[:, None] * along_n[None]
    ends = _last_end(work.machine.cores, counts.reshape(4, -1), time.reshape(4, -1))
    compute = step.compute_cycles[0, 0]
    return compute, period[0, 0] - compute, ends


def _item_cycles(work: Work, tiles: Tiles, grid: _Grid, missed: Any) -> tuple[Step, Any, Any]:
    """Return a step of items, the time from one to the next, and that from one item to the next."""
    machine = work.machine
    step = work.step(tiles)
    rest = grid.depth - (grid.steps - 1) * tiles.k
    is_even = np.array_equal(rest, tiles.k)
    last = step.compute_cycles if is_even else work.step(tiles._replace(k=rest)).compute_cycles
    load = sum(step.operand_bytes) / machine.load.bandwidth
    # A slot is loaded again once the step `slots` before has been computed.
    slots = np.minimum(tiles.stages, grid.steps)
    hit = hit_cycles(machine)
    # What misses is on its way from the HBM while the queue works on what came before.
    arrival = hit + load + missed * np.maximum(0, miss_cycles(machine) - hit - load)
    reuse = (arrival + step.compute_cycles + step.latency_cycles) / slots
    loads = len(step.operand_bytes)
    latency = hit + missed * (miss_cycles(machine) - hit)
    queue = (loads * latency + load) / machine.load.in_flight
    period = np.maximum(np.maximum(step.compute_cycles, load), np.maximum(reuse, queue))
    # Each item begins again with the first slot, which the item before may have used last.
    ahead = np.where(grid.steps > tiles.stages, (grid.steps - 1) % tiles.stages, slots - 1)
    bubble = np.where(ahead + 1 < slots, np.maximum(0, arrival - ahead * period), 0)
    move, store = drain_cycles(work, tiles, step)
    time = (grid.steps - 1) * period + np.maximum(last, period * rest / tiles.k)
    return step, period, np.maximum(time + np.maximum(move, bubble), store)


def drain_cycles(work: Work, tiles: Tiles, step: Step) -> tuple[Any, Any]:
    """Return the time to move the sums of an item to the scratchpad, and that to store them."""
    machine, outputs = work.machine, tiles.m * tiles.n
    move = outputs * SUM_BYTES / machine.accumulator.bandwidth + step.latency_cycles
    out_bits = np.where(tiles.splits > 1, SUM_BYTES * BITS_PER_BYTE, work.output_bits)
    return move, outputs * out_bits / BITS_PER_BYTE / machine.store.bandwidth


def _last_end(cores: int, counts: Any, cycles: Any) -> Any:
    """Return when the last item of four kinds has ended; whole ones are the longest.

    No core does less than its share, or than its part of the items as long as any. What is placed
    in the order of the program comes half way to as many whole items.
    """
    corner, items = cycles[3], counts.sum(0)
    longest = np.where(counts > 0, cycles, 0).max(0)
    least = np.maximum((counts * cycles).sum(0) / cores, quotient(items, cores) * corner)
    for longer in ((0,), (0, 1), (0, 2), (0, 1, 2)):
        own = list(longer)
        there = np.where(counts[own] > 0, cycles[own], longest).min(0)
        least = np.maximum(least, quotient(counts[own].sum(0), cores) * there)
    return np.maximum(least, (least + quotient(items, cores) * longest) / 2)


def merge_cycles(work: Work, tiles: Tiles, active_cores: Any) -> Any:
    """Return the time to launch the second phase and add the sums of all ranges of k.

    The first three ranges arrive together, then two at a time.
    """
    problem, machine = work.problem, work.machine
    if np.all(tiles.splits == 1):
        return 0.0
    moved_bytes = 2 * tiles.splits * problem.m * problem.n * SUM_BYTES
    arrivals = quotient(tiles.splits - 1, 2) - 1
    latency = machine.launch * machine.clock + 2 * miss_cycles(machine)
    latency = latency + arrivals * hit_cycles(machine)
    rate = shared_bytes_per_cycle(machine)
    rate = np.minimum(rate, active_cores * machine.load.bandwidth)
    return np.where(tiles.splits > 1, latency + moved_bytes / rate, 0)
