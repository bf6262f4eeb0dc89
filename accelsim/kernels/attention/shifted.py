"""What attention over shifted keys shares: formats, sizes and buffers.

Shifted keys K' are scaled keys without (most of) the mean of their tile, so that the scores
S' = q K'^T are small enough for FP16. Each key tile has its own frame then: the true scores of a
row are S' plus an offset of the row and the tile. So each tile gets its own softmax (maximum m_j,
weights exp(S' - m_j), sum l_j), and is merged into the running result by two factors per row:
`keep` for what is there and `enter` for what comes. How the offset is known is what the kernels
differ in. The shared steps are in `accelsim.kernels.attention.shifted_steps`.

K' is made `once` for each KV head, stored, and loaded again by every query tile; or it is `cached`,
lying in the KV cache in place of K when the kernel starts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from accelsim.config.spec import Size, Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.attention.common import (
    Precision,
    StepFormats,
    step_formats,
)
from accelsim.kernels.attention.flash_blocks import tilings_of
from accelsim.kernels.attention.flash_estimate import (
    OnlineEstimate,
    online_work,
)
from accelsim.kernels.attention.folding import query_heads
from accelsim.kernels.attention.online_estimate import Work
from accelsim.kernels.estimate.choice import fastest
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.kernels.estimate.footprint import fitting, larger
from accelsim.kernels.estimate.memo import remembered
from accelsim.kernels.tiling import misfit
from accelsim.numerics.formats import Format, common_format
from accelsim.program.builder import ProgramBuilder
from accelsim.units import BITS_PER_BYTE, ceil_div
from accelsim.workload.problem import AttentionProblem

_LOWEST_FP16, _LOWEST_FP32 = -60000.0, -3e38
"""Below every score, and yet finite: near the end of each format."""
_OFFSET_OPS = 12
"""Ops on columns that find the offset of a tile and bring two frames together, more or fewer."""


class FormatCodes(NamedTuple):
    """Codes of the formats of `ShiftedFormats`, for jitted code."""

    stored: int
    scores: int
    vector: int
    weights: int
    output: int
    output_operand: int
    shifted: int
    shift_operand: int
    score_operand: int
    statistics: int


@dataclass(frozen=True, slots=True)
class ShiftedFormats:
    """Format of every step."""

    steps: StepFormats
    """Formats that every attention kernel has."""
    shifted: Format
    """K', and the matrix that makes it."""
    statistics: Format
    """Running row maximum and the offsets of rows: one number for each row."""

    @property
    def codes(self) -> FormatCodes:
        """The same formats as jitted code knows them, with those the cube multiplies in."""
        stored, shifted = self.steps.stored, self.shifted
        operand = common_format(stored, shifted).code
        return FormatCodes(*self.steps.codes, shifted.code, operand, operand, self.statistics.code)


def shifted_formats(
    stored: Format, precision: Precision | None, statistics: Format | None
) -> ShiftedFormats:
    """Return the formats that a precision stands for; statistics as the vector path if None.

    K' is a difference of stored numbers, of which BF16 would keep too few digits.
    """
    steps = step_formats(stored, precision, of_fp16="fp16")
    shifted = Format.FP32 if steps.scores == Format.FP32 else Format.FP16
    return ShiftedFormats(steps, shifted, statistics or steps.vector)


class Shape(NamedTuple):
    """Sizes in elements; `group` query heads share one KV head, or are folded as in `folding`.

    All batches together.
    """

    heads: int
    kv_heads: int
    group: int
    q_len: int
    span: int
    kv_len: int
    dim: int
    tile_q: int
    tile_k: int
    tiles_k: int
    causal: bool
    scale: float
    """1 / sqrt(dim)."""
    lowest: float
    """Least maximum of a masked row: a row without a visible key has weights 0, not NaN."""
    is_shifted_first: bool
    """Whether a phase before the attention makes K'."""

    shift_items: int
    """Work items of that phase; item i makes the tiles i, i + shift_items, ..."""

    @property
    def chosen(self) -> dict[str, int]:
        """Values of the parameters that may be left to the kernel."""
        sizes = {"tile_q": self.tile_q, "tile_k": self.tile_k}
        return {**sizes, "fold": self.q_len > self.span}


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


def fit_shape(
    name: str,
    problem: AttentionProblem,
    machine: MachineSpec,
    chosen: ShiftedParameters,
    formats: ShiftedFormats,
    allocate: Callable[[ProgramBuilder, tuple[int, ...]], object],
    *,
    is_shifted_first: bool,
) -> Shape:
    """Return the sizes with the tiles that were asked for, or those of the lowest estimated time.

    Raises DoesNotFitError if none fit.
    """
    tile_q, tile_k, fold = _fastest(name, problem, machine, chosen, formats, allocate)
    heads = query_heads(problem, fold=fold)
    kv_heads, tiles_k = problem.batch * problem.kv_heads, ceil_div(problem.kv_len, tile_k)
    return Shape(
        heads=heads.heads,
        kv_heads=kv_heads,
        group=heads.group,
        q_len=heads.rows,
        span=problem.q_len,
        kv_len=problem.kv_len,
        dim=problem.head_dim,
        tile_q=tile_q,
        tile_k=tile_k,
        tiles_k=tiles_k,
        causal=problem.causal,
        scale=1 / np.sqrt(problem.head_dim),
        lowest=_LOWEST_FP16 if formats.steps.vector == Format.FP16 else _LOWEST_FP32,
        is_shifted_first=is_shifted_first,
        # As many as the cores hold at once, so that each loads its constants only once.
        shift_items=min(kv_heads * tiles_k, machine.cores * machine.items_in_flight),
    )


@remembered
def _fastest(
    name: str,
    problem: AttentionProblem,
    machine: MachineSpec,
    chosen: ShiftedParameters,
    formats: ShiftedFormats,
    allocate: Callable[[ProgramBuilder, tuple[int, ...]], object],
) -> tuple[int, int, bool]:
    """Return the tiles of the lowest estimated time, and whether heads are folded."""
    asked = tilings_of(problem, chosen.tile_q, chosen.tile_k, chosen.fold)
    if chosen.fold is None:
        # Estimates of whole tiles of one head are up to 13 % too high: fold where it clearly pays.
        asked = asked.at(~asked.fold | (asked.tile_q > problem.q_len))
    known = asked.at(fitting(machine, lambda b, *own: allocate(b, own), *asked[:2]))
    if not len(known.tile_q):
        smallest = int(asked.tile_q.min()), int(asked.tile_k.min())
        raise misfit(name, machine, lambda builder: allocate(builder, smallest))
    known.check_length(name, problem)
    best = fastest(OnlineEstimate(problem, machine, shifted_work(problem, formats)).of(known))
    return int(known.tile_q[best]), int(known.tile_k[best]), bool(known.fold[best])


def shifted_work(
    problem: AttentionProblem, formats: ShiftedFormats
) -> Callable[[OpCosts, Any, Any], Work]:
    """Return what gives the work of a query tile, where K' is made before."""
    plain = online_work(problem, formats.steps, scale_query=True)
    shifted, vector = formats.shifted, formats.steps.vector
    width, statistics = vector.bits, formats.statistics

    def work(costs: OpCosts, rows: Any, tile_k: Any) -> Work:
        own, dim = plain(costs, rows, tile_k), problem.head_dim
        operand = common_format(formats.steps.stored, shifted)
        bits = formats.steps.stored.bits, shifted.bits
        # The offsets of a tile: a pass over its scores, and columns of one number a row.
        column = costs.vector("add", statistics, rows, 1, 3 * statistics.bits)
        offsets = costs.vector("reduce", vector, rows, tile_k, width) + _OFFSET_OPS * column
        scale = costs.vector("multiply", vector, rows, dim, 2 * width)
        return own._replace(
            key_bytes=tile_k * dim * shifted.bits / BITS_PER_BYTE,
            scores=costs.product(rows, tile_k, dim, operand, bits),
            softmax=own.softmax + offsets,
            rescale=0 * scale,
            merge=own.merge + 2 * scale,
        )

    return work


def num_items(shape: Shape) -> int:
    """Return the work items of a kernel: those that make K', if any, and the query tiles."""
    query_items = shape.heads * ceil_div(shape.q_len, shape.tile_q)
    return query_items + (shape.shift_items if shape.is_shifted_first else 0)


class Steps(NamedTuple):
    """On-chip tiles of the shared steps; those of one format are the same buffer.

    Columns with one number for each row: `wide` ones are in the format of the statistics, the
    others in that of the vector path.
    """

    q: Any
    k: Any
    v: Any
    scores_acc: Any
    output_acc: Any
    scores: Any
    x: Any
    weights: Any
    product: Any
    output: Any
    stored: Any
    lowest: Any
    row_max: Any
    row_sum: Any
    tile_max: Any
    wide_max: Any
    tile_sum: Any
    keep: Any
    enter: Any
    wide_keep: Any
    wide_enter: Any


def allocate_steps(
    builder: ProgramBuilder,
    dim: int,
    formats: ShiftedFormats,
    tiles: tuple[int, ...],
    acc_rows: int,
) -> Steps:
    """Declare the shared buffers; `output_acc` gets at least acc_rows rows."""
    tile_q, tile_k = tiles
    steps, statistics = formats.steps, formats.statistics
    stored, vector = steps.stored, steps.vector

    def column(name: str, fmt: Format, slots: int = 1) -> Any:
        return builder.buffer(name, tile_q, 1, fmt, slots=slots)

    def widened(name: str, narrow: Any) -> Any:
        return narrow if statistics == vector else column(name, statistics)

    x = builder.buffer("x", tile_q, tile_k, vector, slots=2)
    weights = x
    if steps.weights != vector:
        weights = builder.buffer("weights", tile_q, tile_k, steps.weights, slots=2)
    output = builder.buffer("output", tile_q, dim, vector)
    tile_max, keep, enter = (column(name, vector) for name in ("tile_max", "keep", "enter"))
    return Steps(
        q=builder.buffer("q", tile_q, dim, stored, slots=2),
        k=builder.buffer("shifted_k", tile_k, dim, formats.shifted, slots=2),
        v=builder.buffer("v", tile_k, dim, stored, slots=2),
        scores_acc=builder.buffer("scores_acc", tile_q, tile_k, Format.FP32, memory="accumulator"),
        output_acc=builder.buffer(
            "output_acc", larger(tile_q, acc_rows), dim, Format.FP32, memory="accumulator"
        ),
        scores=builder.buffer("scores", tile_q, tile_k, steps.scores, slots=2),
        x=x,
        weights=weights,
        product=builder.buffer("product", tile_q, dim, vector),
        output=output,
        stored=output
        if steps.output == vector
        else builder.buffer("stored", tile_q, dim, steps.output),
        lowest=column("lowest", vector),
        row_max=column("row_max", statistics, slots=2),
        row_sum=column("row_sum", vector),
        tile_max=tile_max,
        wide_max=widened("wide_max", tile_max),
        tile_sum=column("tile_sum", vector),
        keep=keep,
        enter=enter,
        wide_keep=widened("wide_keep", keep),
        wide_enter=widened("wide_enter", enter),
    )
