"""PASA: pseudo-average shifting attention, made to run in FP16 throughout.

Sources: "Online Pseudo-average Shifting Attention" (arXiv 2503.01873), Algorithm 1, and for the
order of operations the authors' `PASA_Verification.py` (github.com/chenglong92/PASA at 14f5c6f).

    K'_j = M K_j            M = (I - beta/n 1 1^T) / sqrt(d), rounded: the scale is folded in
    S'   = Q K'_j^T         mu_j = row mean of S', before masking
    F_j  = running mean of mu_1 .. mu_j, the pseudo-average
    d_j  = Inv (mu_j - F_j), d_old = Inv (F_j-1 - F_j): from one frame to the next
    m    = max(m_old + d_old, m_j + d_j), and so on as in online softmax

The true scores are S' + Inv mu_j with Inv = beta / (1 - beta); all tiles together are kept relative
to Inv F_j, which softmax does not see. M, beta and Inv: `accelsim.kernels.attention.shifted.beta`.

The last key tile is filled up with copies of the last keys, as published: they take part in the
mean only, and every tile has the same M, so the same Inv. In FP16 a sum of n scores may overflow
where their mean does not, so scores are divided by n before they are summed.

HBM reads of one head with query tiles of B_r rows and T = ceil(S_k / n) key tiles, elements of b
bytes, in K' and M of b': S_q d b + ceil(S_q / B_r) (T n d b' + S_k d b), under a causal mask only
the key tiles at or below the diagonal; writes: S_q d b. `shift: once` reads T n d b and writes
T n d b' more for each KV head, and reads M, n^2 b', with each work item that shifts.
`shift: per_query_tile` reads K in place of K' (b for b'), and M with each query tile.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from accelsim.kernels import language as al
from accelsim.kernels.attention.kernel import Recording, Task
from accelsim.kernels.attention.precision import Precision
from accelsim.kernels.attention.shifted import steps
from accelsim.kernels.attention.shifted.beta import Condition, solve_pseudo_average
from accelsim.kernels.attention.shifted.frame import (
    Buffers,
    Frame,
    ShiftedKernel,
    Sizes,
    allocate_shared,
)
from accelsim.kernels.attention.shifted.tiles import (
    ShiftedFormats,
    ShiftedParameters,
    shifted_formats,
)
from accelsim.numerics.rounding import round_array

_COLUMNS = {"mean": 1, "frame": 2, "old_frame": 1, "tile_shift": 1, "old_shift": 1, "tile_end": 1}
"""Slots of the buffers that have one number for each row."""


class PasaParameters(ShiftedParameters):
    """Choices of the pasa kernel."""

    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16. Absent: fp16 for FP16
    problems, fp32_scores for others. K' is in FP32 where scores are, else in FP16."""
    statistics: Literal["fp16", "fp32"] | None = None
    """Format of means, offsets and maxima of rows; absent: that of the vector path."""
    beta: float = Field(default=0.9375, gt=0, lt=1)
    """Share of the mean to take off, where the search for the condition starts. The default,
    1 - 2^-4, multiplies the rounding of the row means least of the published three."""
    condition: Condition = "corrected"
    """Which beta is optimal: corrected accounts for the scale in M, published does not."""
    shift: Literal["once", "per_query_tile", "cached"] = "once"
    """Where K' is made: once per KV head, by every query tile, or before, in the KV cache."""


class Own(NamedTuple):
    """What PASA has beside the layout of the frame: constants, tensors and tiles on chip."""

    recovery: float
    """Inv."""
    mean_share: float
    """1 / n, by which a sum becomes a mean."""
    shares: Any
    """float32 [2, tiles_k]: weights of mu_j and F_j-1 in F_j."""
    is_shifted_by_rows: bool
    """Whether every query tile makes its own K'."""
    m: al.Tensor
    shifted: al.Tensor
    """K' with the copies that fill up the last tiles."""
    matrix: al.Buffer
    mean: al.Buffer
    frame: al.Buffer
    old_frame: al.Buffer
    tile_shift: al.Buffer
    old_shift: al.Buffer
    tile_end: al.Buffer


@al.jit_inner
def _load_matrix(p, k):
    """Load M."""
    al.load(p, al.tile(k.own.matrix, 0, k.tile_k, k.tile_k), k.own.m, 0, 0)


@al.jit_inner
def _store_shifted(p, turn, number, k):
    """Make K' of a key tile and store it."""
    shifted = _shift_keys(p, turn, number, k)
    al.store(p, k.own.shifted, number * k.tile_k, 0, shifted)


@al.jit_inner
def _shift_keys(p, turn, number, k):
    """K' = M K of a key tile, the last of a head filled up with copies of its last keys."""
    first, keys = steps.place_of(number, k)
    copies = k.tile_k - keys
    raw, shifted = al.tile(k.keys, turn, k.tile_k, k.dim), _shifted_keys(turn, k)
    acc = al.tile(k.output_acc, turn, k.tile_k, k.dim)
    al.load(p, al.rows_from(raw, 0, keys), k.hbm.k, first, 0)
    if copies > 0:
        al.load(p, al.rows_from(raw, keys, copies), k.hbm.k, first + keys - copies, 0)
    al.matmul(p, acc, al.tile(k.own.matrix, 0, k.tile_k, k.tile_k), raw, False)
    al.move(p, shifted, acc)
    return shifted


@al.jit_inner
def _shifted_keys(turn, k):
    """A tile of K', copies included."""
    return al.tile(k.shifted_keys, turn, k.tile_k, k.dim)


@al.jit_inner
def _begin_rows(p, at, k):
    """Load a tile of query rows, and M where it makes its own K'."""
    steps.begin_rows(p, at, k)
    if k.own.is_shifted_by_rows:
        _load_matrix(p, k)


@al.jit_inner
def _multiply_keys(p, j, at, k):
    """S' of key tile j, the copies of a filled tile included."""
    number = steps.number_of(j, at, k)
    if k.own.is_shifted_by_rows:
        _shift_keys(p, j, number, k)
    else:
        al.load(p, _shifted_keys(j, k), k.own.shifted, number * k.tile_k, 0)
    steps.multiply_shifted(p, j, k.tile_k, at, k)


@al.jit_inner
def _update_weights(p, j, at, k):
    """Row means, weights in the frame of key tile j, and its way into the common frame."""
    _row_mean(p, j, at, k)
    steps.local_softmax(p, j, at, k)
    _change_frame(p, j, at, k)


@al.jit_inner
def _row_mean(p, j, at, k):
    """mu_j: mean of S' along key tile j."""
    scores, mean = al.tile(k.scores, j, at.rows, k.tile_k), steps.column(k.own.mean, 0, at)
    if mean.fmt == al.FP32:
        al.row_sum(p, mean, scores)
        al.scale(p, mean, mean, k.own.mean_share)
    else:
        x = al.tile(k.x, j, at.rows, k.tile_k)
        al.scale(p, x, scores, k.own.mean_share)
        al.row_sum(p, mean, x)


@al.jit_inner
def _change_frame(p, j, at, k):
    """Update the pseudo-average and bring the maxima of the past and of tile j into its frame."""
    own = k.own
    mean, frame = steps.column(own.mean, 0, at), steps.column(own.frame, j + 1, at)
    before = mean if j == 0 else steps.column(own.frame, j, at)
    scratch = steps.column(own.old_frame, 0, at)
    al.scale(p, frame, mean, own.shares[0, j])
    al.scale(p, scratch, before, own.shares[1, j])
    al.add(p, frame, frame, scratch)

    tile_shift, old_shift = steps.column(own.tile_shift, 0, at), steps.column(own.old_shift, 0, at)
    for shift, average in ((tile_shift, mean), (old_shift, before)):
        al.subtract(p, shift, average, frame)
        al.scale(p, shift, shift, own.recovery)

    old_max, new_max = steps.column(k.row_max, j, at), steps.column(k.row_max, j + 1, at)
    tile_max, tile_end = steps.column(k.wide_max, 0, at), steps.column(own.tile_end, 0, at)
    al.add(p, new_max, old_max, old_shift)
    al.add(p, tile_end, tile_max, tile_shift)
    al.maximum(p, new_max, new_max, tile_end)

    keep, enter = steps.column(k.wide_keep, 0, at), steps.column(k.wide_enter, 0, at)
    for exponent, largest, shift in ((keep, old_max, old_shift), (enter, tile_max, tile_shift)):
        # Adding the shift last brings back what rounding new_max lost.
        al.subtract(p, exponent, largest, new_max)
        al.add(p, exponent, exponent, shift)
    steps.merge_factors(p, at, k)


_LOOPS = steps.loops_of(
    steps.Steps(_load_matrix, _store_shifted, _begin_rows, _multiply_keys, _update_weights)
)


class Pasa(ShiftedKernel):
    """Attention over pseudo-average shifted keys."""

    name = "pasa"
    summary = "flash attention in FP16 throughout, keys shifted by their tile mean"
    parameters = PasaParameters
    loops = _LOOPS

    @classmethod
    def formats(cls, task: Task[PasaParameters]) -> ShiftedFormats:
        """Return the format of every step; refuse statistics of fewer bits than the vector path."""
        asked = task.parameters.statistics
        statistics = al.Format(asked) if asked else None
        formats = shifted_formats(task.problem.dtype, task.parameters.precision, statistics)
        if formats.statistics == al.Format.FP16 and formats.steps.vector != al.Format.FP16:
            raise al.ConfigError(
                [
                    f"statistics: found fp16 with a vector path in {formats.steps.vector}, "
                    f"allowed: fp32, or precision fp16"
                ]
            )
        return formats

    @classmethod
    def allocate(cls, builder: al.ProgramBuilder, sizes: Sizes) -> tuple[Buffers, Buffers]:
        """Declare the buffers, without M in them where K' is cached."""
        keys, shifted, statistics = sizes.tile_k, sizes.formats.shifted, sizes.formats.statistics
        shared = allocate_shared(builder, sizes, made_rows=keys if sizes.is_shifting else 0)
        matrix = builder.no_buffer(shifted)
        if sizes.is_shifting:
            matrix = builder.buffer("m", keys, keys, shifted)
        columns = {
            name: builder.buffer(name, sizes.tile_q, 1, statistics, slots=slots)
            for name, slots in _COLUMNS.items()
        }
        return shared, {"matrix": matrix, **columns}

    @classmethod
    def declare(cls, frame: Frame, builder: al.ProgramBuilder, own: Buffers) -> Own:
        """Return the constants, rounded to the formats they are used in, with M and K'."""
        keys, formats, asked = frame.sizes.tile_k, frame.sizes.formats, frame.task.parameters
        average = solve_pseudo_average(
            asked.beta, keys, frame.scale, asked.condition, formats.shifted
        )
        count = np.arange(1, frame.tiles_k + 1)
        recovery, mean_share = round_array([average.recovery, 1 / keys], formats.statistics)
        m = shifted = builder.no_tensor(formats.shifted)
        if frame.sizes.is_shifting:
            m = builder.tensor("m", "input", keys, keys, formats.shifted, average.matrix())
        is_shifted_by_rows = frame.sizes.shift == "per_query_tile"
        if not is_shifted_by_rows:
            shifted = frame.made_keys(builder, "k_shifted", frame.kv_heads * frame.tiles_k * keys)
        return Own(
            recovery=float(recovery),
            mean_share=float(mean_share),
            shares=round_array([1 / count, (count - 1) / count], formats.statistics),
            is_shifted_by_rows=is_shifted_by_rows,
            m=m,
            shifted=shifted,
            **own,
        )

    @classmethod
    def recorded(cls, task: Task[PasaParameters]) -> Recording:
        """Return the program, with the format of its statistics, and the output."""
        program, output = super().recorded(task)
        return program.with_parameters(statistics=str(cls.formats(task).statistics)), output
