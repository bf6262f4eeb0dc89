"""Tiles of a function of elements or rows: those that fit, and the fastest by an estimate."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import Footprint, Sizes, fitting
from accelsim.kernels.estimate.memory import miss_cycles, sustained_bytes_per_cycle
from accelsim.kernels.tiling import misfit
from accelsim.kernels.vector.functions import PRODUCTS
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import VectorProblem

ROW_FUNCTIONS = ("softmax", "rmsnorm", "layernorm")
_ELEMENT_FUNCTIONS = (
    *("copy", "gelu", "silu", "silu_mul"),
    *("gelu_mul", "relu", "relu_squared", "softcap"),
)
_LARGEST_ROWS, _LARGEST_ELEMENTS, _SMALLEST_ELEMENTS = 64, 1 << 16, 256
_SHORTEST_STEP = 64
_WAVES = np.array([1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128])
_MULTIPLE = 128
"""Of the elements of a tile: whole bytes of every format, and whole groups of lanes."""
OPS = {
    "copy": (),
    "softmax": ("reduce", "add", "exp", "reduce", "divide"),
    "rmsnorm": ("multiply", "reduce", "divide"),
    "layernorm": ("reduce", "add", "multiply", "reduce", "divide"),
    "gelu": ("multiply", "multiply", "add", "multiply", "exp", "add", "divide"),
    "silu": ("multiply", "exp", "add", "divide"),
    "silu_mul": ("multiply", "exp", "add", "divide", "multiply"),
    "gelu_mul": (
        *("multiply", "multiply", "add", "multiply", "exp", "add", "divide"),
        "multiply",
    ),
    "relu": ("maximum",),
    "relu_squared": ("maximum", "multiply"),
    "softcap": ("multiply", "exp", "add", "divide", "add"),
}
"""Ops on all elements of a tile."""
_SECOND_PASS = {"softmax": ("add", "exp"), "rmsnorm": (), "layernorm": ("add",)}
"""Ops that rows in steps take besides, when they are read again."""
COLUMN_OPS = {"softmax": (0, 7), "rmsnorm": (3, 1), "layernorm": (4, 10)}
"""Ops on one number a row: of whole rows, and of each step."""
MOVED_BITS = {"reduce": 32, "multiply": 96, "add": 96, "divide": 96}
"""Of FP32 operands and results for each element; 64 for what is not named."""


class Tile(NamedTuple):
    """Rows and columns of a tile in elements, or arrays with one element for each of many."""

    rows: Any
    cols: Any


Declare = Callable[[ProgramBuilder | Footprint, Any, Any], object]


def matrix_of(problem: VectorProblem) -> Tile:
    """Return rows and columns as the kernel sees them: without rows, all is one long row."""
    if problem.function in _ELEMENT_FUNCTIONS:
        return Tile(1, problem.rows * problem.cols)
    return Tile(problem.rows, problem.cols)


def in_steps(problem: VectorProblem, tile_cols: Any) -> bool:
    """Whether tiles of so many columns hold steps of rows that belong together.

    Of an array, all must agree.
    """
    return problem.function in ROW_FUNCTIONS and bool(np.all(tile_cols < problem.cols))


def choose_tile(
    name: str,
    problem: VectorProblem,
    machine: MachineSpec,
    asked: VectorParameters,
    declare: Declare,
) -> tuple[Tile, float]:
    """Return the tile of the lowest estimated time of those asked for that fit, and that time.

    Raises DoesNotFitError.
    """
    tried = _candidates(problem, machine, asked)
    best = [
        _fastest(problem, machine, asked.stages, Tile(*(each[group] for each in tried)), declare)
        for group in _groups(problem, tried)
    ]
    found = [each for each in best if each]
    if found:
        return min(found, key=lambda each: each[1])
    smallest = int(tried.rows[-1]), int(tried.cols[-1])
    raise misfit(name, machine, lambda builder: declare(builder, *smallest))


def _groups(problem: VectorProblem, tile: Tile) -> list[Sizes]:
    """Return the places of tiles of whole rows, and of those of steps: they have other buffers."""
    is_whole = tile.cols >= matrix_of(problem).cols
    return [group for group in (np.flatnonzero(is_whole), np.flatnonzero(~is_whole)) if len(group)]


def _fastest(
    problem: VectorProblem, machine: MachineSpec, stages: int, tile: Tile, declare: Declare
) -> tuple[Tile, float] | None:
    fits = np.flatnonzero(fitting(machine, declare, *tile))
    if not len(fits):
        return None
    tile = Tile(*(each[fits] for each in tile))
    cycles = _estimate(problem, machine, stages, tile)
    # The first of equal ones is the largest.
    best = int(cycles.argmin())
    return Tile(int(tile.rows[best]), int(tile.cols[best])), float(cycles[best])


def _candidates(problem: VectorProblem, machine: MachineSpec, asked: VectorParameters) -> Tile:
    """Return tiles, the smallest last: what was asked for, or even shares of the cores."""
    rows, cols = matrix_of(problem)
    if problem.function in ROW_FUNCTIONS:
        even = shares(rows, machine.cores, 1, _LARGEST_ROWS)
        sizes = [asked.tile_rows] if asked.tile_rows else even
        steps = [asked.tile_cols] if asked.tile_cols else _halvings(cols, _SHORTEST_STEP)
        grid = np.meshgrid(np.minimum(steps, cols), np.minimum(sizes, rows), indexing="ij")
        return Tile(grid[1].ravel(), grid[0].ravel())
    own = asked.tile_elements
    each = np.minimum([own] if own else _element_shares(cols, machine.cores), cols)
    return Tile(np.ones_like(each), each)


def shares(length: int, cores: int, multiple: int, largest: int) -> Sizes:
    """Return sizes that give all cores as many pieces each, and a few more, the largest first."""
    powers = 1 << np.arange(largest.bit_length())
    pieces: Any = cores * _WAVES
    even = ceil_div(ceil_div(length, pieces), multiple) * multiple
    sizes = np.unique(np.concatenate([even, powers]))[::-1]
    return sizes[sizes <= largest]


def _element_shares(cols: int, cores: int) -> Sizes:
    sizes = shares(cols, cores, _MULTIPLE, _LARGEST_ELEMENTS)
    return sizes[sizes >= _SMALLEST_ELEMENTS]


def _halvings(cols: int, shortest: int) -> list[int]:
    """Return all columns, and what a step of half, a quarter and so on has, down to `shortest`."""
    halves = max(1, (cols // shortest).bit_length())
    return [ceil_div(cols, 1 << i) for i in range(halves)]


def _estimate(problem: VectorProblem, machine: MachineSpec, stages: int, tile: Tile) -> Any:
    """Return the cycles of the run: a core's items, or the bytes of all, whichever is slower."""
    rows, cols = matrix_of(problem)
    is_streamed = in_steps(problem, tile.cols)
    blocks = ceil_div(cols, tile.cols)
    items = ceil_div(rows, tile.rows) * (1 if is_streamed else blocks)
    passes = 2 * blocks if is_streamed else 1
    operands = 2 if problem.function in PRODUCTS else 1
    tile_bytes = tile.rows * tile.cols * problem.dtype.bits / BITS_PER_BYTE
    result_bytes = tile_bytes * problem.output_dtype.bits / problem.dtype.bits
    load = operands * tile_bytes / machine.load.bandwidth
    store = result_bytes / machine.store.bandwidth
    work = _vector_cycles(problem, machine, tile) / passes * (blocks if is_streamed else 1)
    latency = miss_cycles(machine)
    # What is computed in place keeps its slot until it is stored.
    in_place = is_in_place(problem)
    until_stored = latency + store
    # What is converted leaves its slot then, and takes one of the result at the end.
    convert = _convert_cycles(problem.dtype, machine, tile)
    held = latency + load + (work + until_stored if in_place else operands * convert)
    step = np.maximum(np.maximum(load, work), held / slots_of_a_core(stages, machine, is_streamed))
    if not in_place:
        convert = _convert_cycles(problem.output_dtype, machine, tile)
        step = np.maximum(step, (convert + until_stored) / slots_of_a_core(2, machine, is_streamed))
    item = passes * np.maximum(step, store / (2 if is_streamed else 1))
    # Steps follow each other as items do, also in the first item.
    whole = 2 * latency + load + (item if is_streamed else work) + store
    item = np.maximum(item, whole / machine.items_in_flight)
    passes_of_memory = 1 if machine.l2 or not is_streamed else 2
    moved_bits = operands * passes_of_memory * problem.dtype.bits
    moved_bits += (machine.l2 is None) * problem.output_dtype.bits
    moved = rows * cols * moved_bits / BITS_PER_BYTE
    # Tiles at the end are shorter: a core has no less than its share of all elements.
    share = items / machine.cores * (rows * cols) / (items * tile.rows * tile.cols)
    if is_streamed:
        share = rows / tile.rows / machine.cores
    waves = ceil_div(items, machine.cores)
    run = whole + np.maximum(0, (waves + share) / 2 - 1) * item
    by_memory = moved / sustained_bytes_per_cycle(machine)
    return np.maximum(run, by_memory + 2 * latency + np.minimum(load, work) + store)


def slots_of_a_core(slots: int, machine: MachineSpec, is_streamed: bool) -> int:
    """Return how many slots of a buffer one core has the use of.

    Items take them in turn, and cores take items in turn: with an even number of both, each core
    comes to the same ones again and again.
    """
    return slots if is_streamed else slots // math.gcd(slots, machine.cores)


def _vector_cycles(problem: VectorProblem, machine: MachineSpec, tile: Tile) -> Any:
    """Return the cycles of the vector unit for a tile, which rows in steps pass twice."""
    costs, fp32 = OpCosts(machine), Format.FP32
    is_streamed = in_steps(problem, tile.cols)
    ops = list(OPS[problem.function])
    ops += _SECOND_PASS[problem.function] if is_streamed else ()
    cycles = np.zeros(tile.rows.shape)
    for op in ops:
        cycles = cycles + costs.vector(op, fp32, *tile, MOVED_BITS.get(op, 64))
    if not is_in_place(problem):
        loads = 2 if is_streamed or problem.function in PRODUCTS else 1
        for fmt, converts in ((problem.dtype, loads), (problem.output_dtype, 1)):
            if fmt != fp32:
                cycles = cycles + converts * _convert_cycles(fmt, machine, tile)
    of_column = COLUMN_OPS.get(problem.function, (0, 0))[is_streamed]
    return cycles + of_column * costs.vector("add", fp32, tile.rows, 1, MOVED_BITS["add"])


def is_in_place(problem: VectorProblem) -> bool:
    """Whether no number is converted on its way from operand to result."""
    formats = {problem.dtype, problem.output_dtype}
    return len(formats) == 1 and (problem.function == "copy" or problem.dtype == Format.FP32)


def _convert_cycles(fmt: Format, machine: MachineSpec, tile: Tile) -> Any:
    """Return the cycles to bring a tile from a format to FP32, or the other way."""
    moved_bits = fmt.bits + Format.FP32.bits
    return OpCosts(machine).vector("convert", Format.FP32, *tile, moved_bits)
