"""Formats and tiles of attention over shifted keys: those of the lowest estimated time that fit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.flash.blocks import tilings_of
from accelsim.kernels.attention.flash.estimate import (
    DIM,
    OnlineEstimate,
    of_items,
    online_work,
)
from accelsim.kernels.attention.flash.online_estimate import Work
from accelsim.kernels.attention.precision import Precision, StepFormats, step_formats
from accelsim.kernels.estimate.choice import ALIKE_ITEMS, fastest_of
from accelsim.kernels.estimate.costs import ONE, CostTable, moved_bytes, product, vector_op
from accelsim.kernels.estimate.footprint import fitting
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format, common_format
from accelsim.workload.problem import AttentionProblem

_OFFSET_OPS = 12
"""Ops on columns that find the offset of a tile and bring two frames together, more or fewer."""


@dataclass(frozen=True, slots=True)
class ShiftedFormats:
    """Format of every step."""

    steps: StepFormats
    """Formats that every attention kernel has."""
    shifted: Format
    """K', and the matrix that makes it."""
    statistics: Format
    """Running row maximum and the offsets of rows: one number for each row."""


def shifted_formats(
    stored: Format, precision: Precision | None, statistics: Format | None
) -> ShiftedFormats:
    """Return the formats that a precision stands for; statistics as the vector path if None.

    K' is a difference of stored numbers, of which BF16 would keep too few digits.
    """
    steps = step_formats(stored, precision, of_fp16="fp16")
    shifted = Format.FP32 if steps.scores == Format.FP32 else Format.FP16
    return ShiftedFormats(steps, shifted, statistics or steps.vector)


class ShiftedParameters(Spec):
    """Tiles of both kernels that shift keys."""

    tile_q: Size | None = None
    """Query rows of a tile, in elements; absent: those of the lowest estimated time."""
    tile_k: Size | None = None
    """Key and value rows of a tile, in elements; absent: those of the lowest estimated time."""
    fold: bool | None = None
    """Whether tiles are cut from the rows of all query heads that share a KV head, so that these
    read K and V once; absent: if the rows of one head do not fill a tile and that is estimated to
    be faster."""


@remembered
def fastest_tiles(
    name: str,
    problem: AttentionProblem,
    machine: MachineSpec,
    chosen: ShiftedParameters,
    formats: ShiftedFormats,
    allocate: Callable[..., object],
) -> tuple[int, int, bool]:
    """Return query and key rows of a tile, and whether heads are folded.

    They are those that were asked for, else those of the lowest estimated time.
    `allocate(builder, query rows, key rows)` declares the buffers. Raises DoesNotFitError if no
    tiles fit.
    """
    asked = tilings_of(problem, chosen.tile_q, chosen.tile_k, chosen.fold)
    if chosen.fold is None:
        # Estimates of whole tiles of one head are up to 13 % too high: fold where it clearly pays.
        asked = asked.at(~asked.fold | (asked.tile_q > problem.q_len))
    known = asked.at(fitting(machine, allocate, *asked[:2]))
    if not len(known.tile_q):
        smallest = int(asked.tile_q.min()), int(asked.tile_k.min())
        raise misfit(name, machine, lambda builder: allocate(builder, *smallest))
    known.check_length(name, problem)
    online = OnlineEstimate(problem, machine, shifted_costs(formats))
    best = fastest_of(len(known.tile_q), lambda: online.of(known), ALIKE_ITEMS)
    return int(known.tile_q[best]), int(known.tile_k[best]), bool(known.fold[best])


@cache
def shifted_costs(formats: ShiftedFormats) -> CostTable:
    """Return the costs of query tiles, where K' is made before."""
    return of_items(lambda *sizes: _work(formats, *sizes))


def _work(formats: ShiftedFormats, rows: int, keys: int) -> Work:
    plain = online_work(formats.steps, rows, keys, scale_query=True)
    stored, vector, statistics = formats.steps.stored, formats.steps.vector, formats.statistics
    bits = stored.bits, formats.shifted.bits
    # The offsets of a tile: a pass over its scores, and columns of one number a row.
    column = vector_op("add", statistics, rows, ONE, 3 * statistics.bits)
    offsets = vector_op("reduce", vector, rows, keys, vector.bits) + _OFFSET_OPS * column
    return plain._replace(
        key_bytes=moved_bytes(keys, DIM, formats.shifted.bits),
        scores=product(rows, keys, DIM, common_format(stored, formats.shifted), bits),
        softmax=plain.softmax + offsets,
        rescale=(),
        merge=plain.merge + 2 * vector_op("multiply", vector, rows, DIM, 2 * vector.bits),
    )
