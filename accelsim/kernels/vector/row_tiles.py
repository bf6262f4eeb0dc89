"""Functions whose tiles are whole rows, and how many rows a tile should have.

A work item is a tile of rows: its operands are loaded, computed and stored. Tiles are tried in all
heights that share the rows out evenly; the estimate takes the slower of a core's items and of the
bytes of all cores.
"""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import Footprint, fitting
from accelsim.kernels.estimate.memory import launch_cycles, miss_cycles, sustained_bytes_per_cycle
from accelsim.kernels.integer.code_form import COLUMN_OPS, CodeForm
from accelsim.kernels.tiling import misfit
from accelsim.kernels.vector.base import VectorFunction
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.tiles import MOVED_BITS, Tile, shares, slots_of_a_core
from accelsim.kernels.vector.workspace import Workspace
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import VectorProblem

_RESULT_SLOTS = 2
_MOST_ELEMENTS = 1 << 18
"""Of the highest tile that is tried, beside one of a single row."""


class RowCost(NamedTuple):
    """What one row of a function takes."""

    loaded_bytes: float
    stored_bytes: float
    ops: tuple[tuple[str, int], ...] = ()
    """Vector ops in FP32, and how many elements of the row each of them has."""
    is_in_place: bool = False
    """Whether a tile keeps its slot from its load until it is stored, as nothing is converted."""
    is_read_late: bool = False
    """Whether it keeps that slot until all ops are done, as the last of them reads it."""
    tile_bytes: float = 0
    """Loaded once for all rows of a tile."""
    coded: tuple[tuple[str, int, int], ...] = ()
    """Ops that code a result, elements of the row and bits that each moves for one of them."""

    def with_codes(self, problem: VectorProblem, form: CodeForm) -> "RowCost":
        """Return the cost with a result of all columns stored as codes, with a scale."""
        cols, in_place = problem.cols, problem.dtype == Format.FP32
        ops = list(self.ops)
        if not in_place:
            ops.remove(("convert", cols))
        codes_bytes = ceil_div(cols * form.bits, BITS_PER_BYTE) + Format.FP32.bits // BITS_PER_BYTE
        rows_of_powers = (form.groups > 1) + (form.candidates > 1)
        return self._replace(
            stored_bytes=self.stored_bytes - row_bytes(problem, cols) + codes_bytes,
            ops=(*ops, *(COLUMN_OPS * (("divide", 1),))),
            coded=tuple((op, cols, bits) for op, bits in form.ops),
            is_in_place=in_place,
            tile_bytes=rows_of_powers * cols * Format.E8M0.bits / BITS_PER_BYTE,
        )


class RowFunction(VectorFunction):
    """A function that its tiles of rows say all about."""

    entry: ClassVar[Any]
    """Compiled loop over tiles, of a recorder and a layout."""

    @classmethod
    @abstractmethod
    def cost(cls, problem: VectorProblem) -> RowCost:
        """Return what one row takes."""

    @classmethod
    @abstractmethod
    def layout(cls, at: Workspace) -> Any:
        """Return what the loop needs."""

    @classmethod
    def unit(cls, problem: VectorProblem) -> int:
        """Return how many rows no tile parts, unless so many do not fit."""
        return 1

    @classmethod
    def steps(cls, problem: VectorProblem, asked: VectorParameters) -> dict[str, int]:
        """Return the parameters, beside the rows of a tile, that stand for what was chosen."""
        return {}

    @classmethod
    def loop(cls, at: Workspace) -> tuple[Any, int, Any]:
        """Return the compiled loop over tiles of rows, their number and the layout."""
        return cls.entry, ceil_div(at.problem.rows, at.tile.rows), cls.layout(at)

    @classmethod
    def chosen(cls, at: Workspace) -> dict[str, int]:
        """Return the parameters that stand for a tile."""
        return {"tile_rows": at.tile.rows, **cls.steps(at.problem, at.asked)}

    @classmethod
    def choose(
        cls, problem: VectorProblem, machine: MachineSpec, asked: VectorParameters
    ) -> tuple[Tile, float]:
        """Return the fastest tile that fits, and its estimated time; raises DoesNotFitError."""
        cols = cls.steps(problem, asked).get("tile_cols", problem.cols)

        def declare(builder: ProgramBuilder | Footprint, rows: Any) -> None:
            cls.layout(Workspace(builder, problem, asked, Tile(rows, cols)))

        heights = cls._heights(problem, machine, asked)
        tried = heights[fitting(machine, declare, heights)]
        if not len(tried) and asked.tile_rows is None and cls.unit(problem) > 1:
            heights = _parts_of(cls.unit(problem))
            tried = heights[fitting(machine, declare, heights)]
        if not len(tried):
            name, fewest = f"vector on {problem.name}", int(heights[-1])
            raise misfit(name, machine, lambda builder: declare(builder, fewest))
        cost, form = cls.cost(problem), asked.form
        cost = cost if form is None else cost.with_codes(problem, form)
        cycles = _estimate(cost, problem.rows, machine, tried, asked.stages)
        best = int(cycles.argmin())
        return Tile(int(tried[best]), cols), float(cycles[best])

    @classmethod
    def _heights(cls, problem: VectorProblem, machine: MachineSpec, asked: VectorParameters) -> Any:
        """Return the rows of tiles to try, the fewest last."""
        unit = cls.unit(problem)
        units = ceil_div(problem.rows, unit)
        if asked.tile_rows:
            return np.array([min(ceil_div(asked.tile_rows, unit), units) * unit])
        most = max(1, _MOST_ELEMENTS // (problem.cols * unit))
        return np.unique(np.minimum(shares(units, machine.cores, 1, most), units))[::-1] * unit


def _parts_of(rows: int) -> Any:
    """Return the even parts of so many rows, the smallest last."""
    return np.array([part for part in range(rows - 1, 0, -1) if rows % part == 0])


def _estimate(cost: RowCost, rows: int, machine: MachineSpec, tile: Any, stages: int) -> Any:
    """Return the cycles of a run for tiles of so many rows [tilings]."""
    costs, latency = OpCosts(machine), miss_cycles(machine)
    load = (tile * cost.loaded_bytes + cost.tile_bytes) / machine.load.bandwidth
    store = tile * cost.stored_bytes / machine.store.bandwidth
    work = np.zeros(tile.shape)
    for op, cols in cost.ops:
        work = work + costs.vector(op, Format.FP32, tile, cols, MOVED_BITS.get(op, 64))
    for op, cols, moved_bits in cost.coded:
        work = work + costs.vector(op, Format.FP32, tile, cols, moved_bits)
    whole = 2 * latency + load + work + store
    slots = slots_of_a_core(stages, machine, is_streamed=False)
    stored = latency + store
    step = np.maximum(np.maximum(load, work), store)
    held = latency + load + (work + stored if cost.is_in_place else 0)
    held = held + (work if cost.is_read_late else 0)
    step = np.maximum(step, held / slots)
    if not cost.is_in_place:
        own = slots_of_a_core(_RESULT_SLOTS, machine, is_streamed=False)
        step = np.maximum(step, stored / own)
    item = np.maximum(step, whole / machine.items_in_flight)
    run = whole + (ceil_div(ceil_div(rows, tile), machine.cores) - 1) * item
    moved = rows * (cost.loaded_bytes + cost.stored_bytes) + ceil_div(rows, tile) * cost.tile_bytes
    moved = moved / sustained_bytes_per_cycle(machine)
    run = np.maximum(run, moved + 2 * latency + np.minimum(load, work) + store)
    return launch_cycles(machine, with_products=False) + run


def row_bytes(problem: VectorProblem, cols: int) -> float:
    """Return the bytes of so many elements in the format of the problem."""
    return cols * problem.dtype.bits / BITS_PER_BYTE
