"""Attention in FP16 over centered keys, with the exact offset of every key tile; our own variant.

PASA finds what shifting took off a row of scores from the mean of the row, times beta / (1 - beta):
this multiplies the rounding of the mean. Here the offset is computed, not recovered:

    kb_j = mean of the keys of tile j, rounded        K'_j = (K_j - kb_j) / sqrt(d), rounded
    S'   = Q K'_j^T                                   o_j  = Q kb_j / sqrt(d), in FP32

The true scores are S' + o_j whatever the rounding of kb_j, because the same kb_j is in both. So
maxima of rows are kept in FP32 and true frames, and no row is multiplied by more than one.
Everything else is as in PASA: local softmax of each tile in FP16, FP16 sums and output.

It is K smoothing (Zhang et al., "SageAttention", 2024, section 4.2) by tiles instead of by heads;
the offsets differ between tiles, so they cannot be dropped as there. Measured against PASA:
experiments/pasa_accuracy.

HBM reads of one head with query tiles of B_r rows and T = ceil(S_k / B_c) key tiles, elements of b
bytes, in K' and kb of b': S_q d b + ceil(S_q / B_r) (S_k d (b + b') + T d b'), under a causal mask
only the key tiles at or below the diagonal; writes: S_q d b. `shift: once` reads S_k d b and writes
(S_k + T) d b' more for each KV head.
"""

from typing import Any, Literal, NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash.online_softmax import keys_of
from accelsim.kernels.attention.kernel import Task
from accelsim.kernels.attention.precision import Precision
from accelsim.kernels.attention.shifted import steps
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


class CenteredParameters(ShiftedParameters):
    """Choices of the centered kernel."""

    precision: Precision | None = None
    """fp32: every step in FP32; fp32_scores: FP32 scores and vector path, weights in the format of
    the output; fp16_fp32: FP16 scores, FP32 vector path; fp16: all FP16 but the offsets and maxima
    of rows. Absent: fp16 for FP16 problems, fp32_scores for others. K' is in FP32 where scores are,
    else in FP16."""
    shift: Literal["once", "cached"] = "once"
    """Where K' and the tile means are made: once per KV head, or before, in the KV cache."""


class Own(NamedTuple):
    """What centering has beside the layout of the frame: tensors and tiles on chip."""

    shifted: al.Tensor
    means: al.Tensor
    """A row for each key tile."""
    ones: al.Buffer
    sums: al.Buffer
    wide: al.Buffer
    mean: al.Buffer
    offset: al.Buffer


@al.jit_inner
def _begin_centering(p, k):
    """Fill a row with ones, whose product with keys is their sum."""
    al.fill(p, al.computed_in(al.tile(k.own.ones, 0, 1, k.tile_k), k.x.fmt), 1.0)


@al.jit_inner
def _center_keys(p, turn, number, k):
    """kb and K' of a key tile; the mean is a product with ones, on the cube."""
    (first, keys), own, dim = steps.place_of(number, k), k.own, k.dim
    raw, wide = al.tile(k.keys, turn, keys, dim), al.tile(own.wide, turn, keys, dim)
    shifted, mean = al.tile(k.shifted_keys, turn, keys, dim), al.tile(own.mean, turn, 1, dim)
    acc, sums = al.tile(k.output_acc, turn, 1, dim), al.tile(own.sums, 0, 1, dim)
    al.load(p, raw, k.hbm.k, first, 0)
    al.matmul(p, acc, al.tile(own.ones, 0, 1, keys), raw, False)
    al.move(p, sums, acc)
    al.scale(p, sums, sums, 1 / keys)
    al.convert(p, mean, sums)
    al.subtract_row(p, wide, raw, mean)
    al.scale(p, wide, wide, k.scale)
    al.convert(p, shifted, wide)
    al.store(p, own.shifted, first, 0, shifted)
    al.store(p, own.means, number, 0, mean)


@al.jit_inner
def _multiply_keys(p, j, at, k):
    """S' of key tile j, and o_j, the offsets of its rows."""
    keys, queries = keys_of(j, at, k), al.tile(k.queries, at.item, at.rows, k.dim)
    mean, offset = al.tile(k.own.mean, j, 1, k.dim), steps.column(k.own.offset, j, at)
    shifted, acc = al.tile(k.shifted_keys, j, keys, k.dim), steps.column(k.output_acc, j, at)
    al.load(p, shifted, k.own.shifted, at.kv_row + j * k.tile_k, 0)
    al.load(p, mean, k.own.means, steps.number_of(j, at, k), 0)
    steps.multiply_shifted(p, j, keys, at, k)
    al.matmul_transposed(p, acc, queries, mean, False)
    al.move(p, offset, acc)
    al.scale(p, offset, offset, k.scale)


@al.jit_inner
def _update_weights(p, j, at, k):
    """Weights in the frame of key tile j, and its way into the true frame."""
    old_max, new_max = steps.column(k.row_max, j, at), steps.column(k.row_max, j + 1, at)
    keep, enter = steps.column(k.wide_keep, 0, at), steps.column(k.wide_enter, 0, at)
    steps.local_softmax(p, j, at, k)
    al.add(p, enter, steps.column(k.wide_max, 0, at), steps.column(k.own.offset, j, at))
    al.maximum(p, new_max, old_max, enter)
    al.subtract(p, keep, old_max, new_max)
    al.subtract(p, enter, enter, new_max)
    steps.merge_factors(p, at, k)


_LOOPS = steps.loops_of(
    steps.Steps(_begin_centering, _center_keys, steps.begin_rows, _multiply_keys, _update_weights)
)


class Centered(ShiftedKernel):
    """Attention over centered keys with exact offsets."""

    name = "centered"
    summary = "FP16 attention, tile means of keys taken off and kept as FP32 offsets"
    parameters = CenteredParameters
    loops = _LOOPS

    @classmethod
    def formats(cls, task: Task[CenteredParameters]) -> ShiftedFormats:
        """Return the format of every step; offsets and maxima are FP32."""
        return shifted_formats(task.problem.dtype, task.parameters.precision, al.Format.FP32)

    @classmethod
    def allocate(cls, builder: al.ProgramBuilder, sizes: Sizes) -> tuple[Buffers, Buffers]:
        """Declare the buffers; without those that center keys where these are cached."""
        dim, tile_k, fmt = sizes.dim, sizes.tile_k, sizes.formats.shifted

        def centering(name: str, rows: Any, cols: Any, fmt: al.Format) -> al.Buffer:
            is_there = sizes.is_shifting
            return builder.buffer(name, rows, cols, fmt) if is_there else builder.no_buffer(fmt)

        return allocate_shared(builder, sizes), {
            "ones": centering("ones", 1, tile_k, fmt),
            "sums": centering("sums", 1, dim, al.Format.FP32),
            "wide": centering("wide", tile_k, dim, al.Format.FP32),
            "mean": builder.buffer("mean", 1, dim, fmt, slots=2),
            "offset": builder.buffer("offset", sizes.tile_q, 1, al.Format.FP32, slots=2),
        }

    @classmethod
    def declare(cls, frame: Frame, builder: al.ProgramBuilder, own: Buffers) -> Own:
        """Place K' and the tile means in HBM."""
        keys = frame.kv_heads * frame.task.problem.kv_len
        return Own(
            shifted=frame.made_keys(builder, "k_shifted", keys),
            means=frame.made_keys(builder, "k_means", frame.kv_heads * frame.tiles_k),
            **own,
        )
