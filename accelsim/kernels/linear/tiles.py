"""Tilings of a matrix product: which ones there are, and which of those that fit is the fastest.

Tilings are tried all at once: every size is an array with one element for each of them.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.errors import DoesNotFitError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.estimate.choice import grid
from accelsim.kernels.tiling import capacity_bytes, misfit, tile_sizes
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.program.program import Memory
from accelsim.program.recording import Buffer
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import GemmProblem

SUM_BYTES = 4
"""Bytes of a sum in the accumulator."""
_LARGEST_TILE = 512
_POWERS = tuple(tile_sizes(_LARGEST_TILE, smallest=16))
_SIDES = (512, 384, 320, 256, 224, 192, 160, 128, 112, 96, 64, 48, 32, 16)
_MULTIPLE = 16
"""Of the sides of balanced tiles: the side of a cube, and whole bytes of every format."""
_WARP_GROUP_ROWS = np.arange(64, _LARGEST_TILE + 1, 64)
_WARP_GROUP_COLS = np.arange(8, 256 + 1, 8)
"""The sides of a tile of wgmma.m64nNk16 and its kin, N from 8 to 256 by 8 (PTX ISA 8.0)."""
_INDIFFERENCE = 0.005
"""Estimates that differ by less are taken for equal."""
_BEYOND = 2**31
"""More than the side of any tile."""


TileSizes = Literal["balanced", "powers", "warp_groups"]
Sizes = npt.NDArray[np.int64]


class Tiles(NamedTuple):
    """Tile sizes in elements, slots of the accumulator and the operands, and ranges of k.

    Integers, or arrays with one element for each tiling.
    """

    m: Any
    n: Any
    k: Any
    acc_slots: Any
    stages: Any = 2
    splits: Any = 1
    swizzle: Any = 1

    def at(self, index: Any) -> "Tiles":
        """Return one tiling of arrays, or those that a mask keeps; what all share stays."""
        return Tiles(*(each[index] if isinstance(each, np.ndarray) else each for each in self))

    def as_floats(self) -> "Tiles":
        """Return the tilings in floats: whole numbers are divided several times as slowly."""
        return Tiles(*(np.asarray(each, np.float64) for each in self))


class BufferSize(NamedTuple):
    """Arguments of `ProgramBuilder.buffer`, with an array for a size that differs by tiling."""

    name: str
    rows: Any
    cols: Any
    fmt: Format
    slots: Any = 1
    memory: Memory = "scratchpad"


class Cost(NamedTuple):
    """What tilings are estimated to take."""

    cycles: Any
    """Time of the run."""
    loaded_bytes: Any
    """Bytes that all cores load."""
    steps: Any
    """Of all work items."""


class Choice(NamedTuple):
    """The tiling that is estimated to be the fastest."""

    tiles: Tiles
    cycles: float
    """Its estimated time."""


def candidates(
    problem: GemmProblem, asked: Sequence[int | None], sizes: TileSizes = "balanced"
) -> Tiles:
    """Return tilings, the smallest last.

    asked: sizes along m, n and k that the user gave, or None. sizes: those tried along m and n.
    """
    own_m, own_n, own_k = asked
    is_balanced = sizes == "balanced"
    depths = _lengths(own_k, problem.k, _POWERS, is_balanced=is_balanced)
    if sizes != "warp_groups":
        sides = _SIDES if is_balanced else _POWERS
        sides_m = _lengths(own_m, problem.m, sides, is_balanced=is_balanced)
        sides_n = _lengths(own_n, problem.n, sides, is_balanced=is_balanced)
        all_m, all_n, all_k = grid(sides_m, sides_n, depths)
        return Tiles(all_m, all_n, all_k, 1)
    tile_m, tile_n = _warp_group_sides(problem)
    tile_m, tile_n = np.minimum(own_m or tile_m, problem.m), np.minimum(own_n or tile_n, problem.n)
    tile_m, tile_n = np.divmod(np.unique(tile_m * _BEYOND + tile_n)[::-1], _BEYOND)
    (place, depth) = grid(np.arange(len(tile_m)), depths)
    return Tiles(tile_m[place], tile_n[place], depth, 1)


def with_two_accumulators(tiles: Tiles, machine: MachineSpec) -> Tiles:
    """Return the tilings with an accumulator that is double-buffered where that fits."""
    return tiles._replace(acc_slots=np.maximum(sum_slots(tiles, machine), 1))


def sum_slots(tiles: Tiles, machine: MachineSpec) -> Any:
    """Return how many slots the accumulator has: two where they fit, 0 where not even one does."""
    sums_bytes = tiles.m * tiles.n * SUM_BYTES
    return np.minimum(capacity_bytes(machine, "accumulator") // sums_bytes, 2)


def even_ranges(splits: Any, steps: Any) -> Any:
    """Return how many ranges of equal length there are: fewer than asked for, so none is empty."""
    return quotient(steps, quotient(steps, splits)).astype(np.int64)


def quotient(numerator: Any, denominator: Any) -> Any:
    """Return the quotient of whole numbers, rounded up, as floats: integers divide slowly."""
    return np.ceil(numerator / denominator)


def _warp_group_sides(problem: GemmProblem) -> Sizes:
    # A warp group computes 64 rows even where they are not there: short operands are its columns.
    shortest = min(_WARP_GROUP_ROWS[0], max(problem.m, problem.n))
    sides = []
    if problem.m >= shortest:
        sides.append(_pairs(_WARP_GROUP_ROWS, _WARP_GROUP_COLS))
    if problem.n >= shortest:
        sides.append(_pairs(_WARP_GROUP_COLS, _WARP_GROUP_ROWS))
    return np.concatenate(sides, axis=1)


def _pairs(a: Sizes, b: Sizes) -> Sizes:
    return np.array([np.repeat(a, len(b)), np.tile(b, len(a))])


def _lengths(asked: int | None, length: int, sizes: tuple[int, ...], *, is_balanced: bool) -> Sizes:
    """Return the size that was asked for, or those to choose from, the largest first."""
    if asked:
        return np.array([min(asked, length)])
    return balanced(length, sizes) if is_balanced else np.unique(np.minimum(sizes, length))[::-1]


@lru_cache(4096)
def balanced(length: int, sizes: tuple[int, ...]) -> Sizes:
    """Return sizes, the largest first, each as small as cuts a length into as few pieces."""
    even = (ceil_div(length, ceil_div(length, most)) for most in sizes)
    found = {min(ceil_div(each, _MULTIPLE) * _MULTIPLE, length) for each in even}
    sides = np.array(sorted(found, reverse=True))
    sides.flags.writeable = False  # All callers share it.
    return sides


def fits(machine: MachineSpec, sizes: Sequence[BufferSize]) -> Any:
    """Return which tilings fit."""
    used_bytes: dict[Memory, Any] = {}
    for each in sizes:
        own = each.fmt.bits / BITS_PER_BYTE * each.slots * each.rows * each.cols
        used_bytes[each.memory] = used_bytes.get(each.memory, 0) + own
    found: Any = True
    for memory, used in used_bytes.items():
        found = found & (used <= capacity_bytes(machine, memory))
    return found


def fitting(
    name: str,
    machine: MachineSpec,
    tiles: Tiles,
    buffers: Callable[[Tiles], Sequence[BufferSize]],
) -> Tiles:
    """Return the tilings that fit; if none does, raise DoesNotFitError with the last one."""
    kept = np.flatnonzero(fits(machine, buffers(tiles)))
    if not len(kept):
        raise too_large(name, machine, buffers(tiles.at(-1)))
    return tiles.at(kept)


def too_large(name: str, machine: MachineSpec, sizes: Sequence[BufferSize]) -> Exception:
    """Return the error of buffers that do not fit."""
    return misfit(name, machine, lambda builder: declare(builder, sizes))


def declare(builder: ProgramBuilder, sizes: Sequence[BufferSize]) -> dict[str, Buffer]:
    """Declare the buffers of one tiling, and return them by name."""
    return {
        name: builder.buffer(name, int(rows), int(cols), fmt, slots=int(slots), memory=memory)
        for name, rows, cols, fmt, slots, memory in sizes
    }


def fastest_of(cost: Cost) -> Any:
    """Return the place of the lowest time, or of one that the estimate cannot tell from it.

    Of these the one that loads least, of equal ones that of fewest steps.
    """
    near = np.flatnonzero(cost.cycles <= cost.cycles.min() * (1 + _INDIFFERENCE))
    if len(near) == 1:
        return near[0]
    fields = (cost.cycles, cost.steps, cost.loaded_bytes)
    return near[np.lexsort([each[near] for each in fields])[0]]


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
