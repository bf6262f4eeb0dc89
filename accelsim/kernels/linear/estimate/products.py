"""How long tilings of a matrix product should take: what a kernel knows of them, for `waves`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.banks import crowding_in_view, piece_bytes, places_of, view_bytes
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.estimate.memory import (
    hit_cycles,
    launch_cycles,
    miss_cycles,
    sustained_bytes_per_cycle,
)
from accelsim.kernels.linear.estimate import facts, waves
from accelsim.kernels.linear.estimate.channels import DEPTHS, BankedLayout, FlatLayout
from accelsim.kernels.linear.estimate.facts import MERGED_ELEMENTS, Facts
from accelsim.kernels.linear.tiles import Tiles
from accelsim.kernels.tiling import capacity_bytes
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

KEPT_SHARE = 0.9
"""Of the capacity of an L2 that holds what is used again."""
_ALIGNMENT_BYTES = 4096
"""Of a matrix in the HBM."""
_SPLITS = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64, 96, 128], float)
"""Ranges of k that are tried; 0: as many as there are cores for each tile."""
_NO_VIEWS = np.ones((1, 1))


class Step(NamedTuple):
    """What one step along k asks of a core."""

    compute_cycles: Any
    """Time of the busiest unit."""
    latency_cycles: Any
    """What passes between the arrival of the operands and the result, beyond `compute_cycles`."""
    operand_bytes: tuple[Any, ...]
    """Bytes of each load, that of the left operand first."""


class Grouping(NamedTuple):
    """What differs where rows of A have matrices B of their own."""

    rows: tuple[int, ...]
    """Of each matrix."""
    filled: float
    """Share of the rows of all tiles that is there: tiles end with the rows of a matrix."""


ONE_MATRIX = Grouping((0,), 1.0)


class Work(NamedTuple):
    """A product as the estimate sees it."""

    problem: GemmProblem
    machine: MachineSpec
    step: Callable[[Tiles], Step]
    """Of tilings."""
    output_bits: int
    is_transposed: bool = False
    """Whether B lies as [n, k]."""
    grouping: Grouping = ONE_MATRIX


class Slots(NamedTuple):
    """How many slots the operands may have."""

    most: Any
    fewest: Any
    on_chip: float = 0.0
    """Bytes on chip of a slot of both operands, in those that are loaded; 0: all tilings fit."""
    beside_bytes: Any = 0
    """Of all other buffers."""
    ranged_bytes: Any = 0
    """The same with several ranges of k."""


TWO_SLOTS = Slots(2, 2)
"""Double buffering, of tilings that are known to fit."""


def estimates(work: Work, tiles: Tiles, slots: Slots) -> npt.NDArray[np.float64]:
    """Return the rows that `waves` finds, [found, tilings].

    Of a tiling, 0 ranges of k and 0 as its swizzle mean that these are chosen. Those that cannot be
    the fastest have a bound from below.
    """
    step = work.step(tiles)
    left, *others = step.operand_bytes
    known = np.empty((facts.NUM_FIELDS, len(tiles.m)))
    known[facts.M], known[facts.N], known[facts.K] = tiles.m, tiles.n, tiles.k
    known[facts.STAGES], known[facts.FEWEST] = slots.most, slots.fewest
    known[facts.SPLITS], known[facts.SWIZZLE] = tiles.splits, tiles.swizzle
    known[facts.SUM_SLOTS] = tiles.acc_slots
    known[facts.PRODUCT], known[facts.LATENCY] = step.compute_cycles, step.latency_cycles
    known[facts.LEFT], known[facts.RIGHT] = left * work.grouping.filled, sum(others)
    known[facts.SLOT] = slots.on_chip * (left + known[facts.RIGHT])
    known[facts.BESIDE], known[facts.RANGED] = slots.beside_bytes, slots.ranged_bytes
    hbm = work.machine.hbm
    layout = _banked(work, hbm, known) if isinstance(hbm, BankedHbmSpec) else _flat(work, known)
    found, own = np.empty((waves.NUM_FOUND, len(tiles.m))), _facts(work, 1 + len(others))
    times = waves.NUM_TIMES + int(known[facts.STAGES].max() + own.in_flight)
    room = np.empty(times + 8 * int(layout.channels) + 6)
    waves.estimate(known, _SPLITS, own, layout, found, room)
    return found


def _facts(work: Work, loads: int) -> Facts:
    """Return what all tilings share; loads: of a step."""
    problem = work.problem
    return _of_machine(work.machine, loads)._replace(
        m=float(problem.m),
        n=float(problem.n),
        k=float(problem.k),
        matrices=float(len(work.grouping.rows)),
        rows=np.array(work.grouping.rows, float),
        filled=work.grouping.filled,
        out_bytes=work.output_bits / BITS_PER_BYTE,
    )


@remembered
def _of_machine(machine: MachineSpec, loads: int) -> Facts:
    """Return the facts of a machine, of no product yet."""
    hbm, l2, elements = sustained_bytes_per_cycle(machine), machine.l2, np.array([MERGED_ELEMENTS])
    add = OpCosts(machine).vector("add", Format.FP32, 1, elements, 3 * Format.FP32.bits)
    return Facts(
        m=0.0,
        n=0.0,
        k=0.0,
        matrices=1.0,
        rows=None,
        filled=1.0,
        out_bytes=0.0,
        cores=float(machine.cores),
        overlaps=machine.items_in_flight > 1,
        in_flight=float(max(1, machine.load.in_flight // loads)),
        load=float(machine.load.bandwidth),
        store=float(machine.store.bandwidth),
        results=hbm if l2 is None or l2.writes == "through" else l2.bandwidth / machine.clock,
        accumulator=float(machine.accumulator.bandwidth),
        add=add.item() / MERGED_ELEMENTS,
        scratchpad_bytes=float(capacity_bytes(machine, "scratchpad")),
        hbm=hbm,
        l2=l2.bandwidth / machine.clock if l2 else 0.0,
        kept_bytes=KEPT_SHARE * l2.capacity if l2 else 0.0,
        hit=float(hit_cycles(machine)),
        miss=float(miss_cycles(machine)),
        launch=float(launch_cycles(machine)),
        launch_merge=float(launch_cycles(machine, with_products=False)),
    )


def _elements_bytes(known: Any) -> tuple[float, float]:
    """Return the bytes of an element of A and of B."""
    depth = known.item(facts.K, 0)
    left, right = known.item(facts.LEFT, 0), known.item(facts.RIGHT, 0)
    return left / (known.item(facts.M, 0) * depth), right / (known.item(facts.N, 0) * depth)


def _flat(work: Work, known: Any) -> FlatLayout:
    problem, hbm, l2 = work.problem, work.machine.hbm, work.machine.l2
    a_bytes, b_bytes = _elements_bytes(known)
    end, row_bytes = int(problem.m * problem.k * a_bytes), problem.n * b_bytes
    return FlatLayout(
        channels=float(hbm.channels),
        piece=float(hbm.interleave),
        is_transposed=work.is_transposed,
        sector=float(l2.sector) if l2 is not None and row_bytes % l2.sector == 0 else 0.0,
        b_begin=float(ceil_div(end, _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES),
    )


def _banked(work: Work, hbm: BankedHbmSpec, known: Any) -> BankedLayout:
    problem = work.problem
    b_bytes = _elements_bytes(known)[1]
    row_bytes = b_bytes * (problem.k if work.is_transposed else problem.n)
    places = places_of(hbm, row_bytes)
    return BankedLayout(
        channels=float(places.loads.shape[2]),
        piece=float(piece_bytes(hbm)),
        column=float(places.column_bytes),
        is_transposed=work.is_transposed,
        places=places.loads,
        views=_views(hbm, row_bytes, b_bytes if work.is_transposed else 0.0),
    )


@remembered
def _views(hbm: BankedHbmSpec, row_bytes: float, element_bytes: float) -> Any:
    """Return how much longer B takes by the depth that cores ask for; element_bytes: of one along
    a row, if depths lie along rows, else 0."""
    rows, widths = DEPTHS, view_bytes(hbm) / DEPTHS
    if element_bytes:
        widths = element_bytes * DEPTHS
        rows = view_bytes(hbm) / widths
    places = places_of(hbm, row_bytes)
    return crowding_in_view(hbm, places, rows, widths, is_swept=not element_bytes)
