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

from dataclasses import replace
from typing import ClassVar

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.centered_plan import CenteredKeys, CenteredParameters, Plan
from accelsim.kernels.attention.common import softmax_attention
from accelsim.kernels.attention.folding import seen_keys
from accelsim.kernels.attention.old_online_softmax import finish_rows
from accelsim.kernels.attention.shifted import num_items
from accelsim.kernels.attention.shifted_steps import (
    begin_rows,
    local_softmax,
    merge_factors,
    merge_tile,
    query_tile_of,
    score_tile,
)
from accelsim.kernels.base import Array, Kernel
from accelsim.numerics.formats import FP32
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.language import (
    add,
    begin_item,
    convert,
    fill,
    load,
    matmul,
    matmul_transposed,
    maximum,
    move,
    scale,
    store,
    subtract,
    subtract_row,
    tile,
)
from accelsim.program.program import Program
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


@jit
def centered(p, shape, fmt, hbm, b, own):
    """Center the keys if it is due, then all query tiles of all heads."""
    first_phase = 0
    if shape.is_shifted_first:
        center_keys(p, shape, fmt, hbm, b, own)
        first_phase = 1
    for item in range(-(-shape.q_len // shape.tile_q) * shape.heads):
        begin_item(p, first_phase)
        _query_tile(p, item, shape, fmt, hbm, b, own)


@jit
def center_keys(p, shape, fmt, hbm, b, own):
    """Phase 0: means and K' of all key tiles of all KV heads."""
    for item in range(shape.shift_items):
        begin_item(p, 0)
        fill(p, tile(own.ones, 0), 1.0, 1, shape.tile_k, fmt.vector)
        for number in range(item, shape.kv_heads * shape.tiles_k, shape.shift_items):
            _center_tile(p, number // shape.shift_items, number, shape, fmt, hbm, b, own)


@jit_inner
def _center_tile(p, turn, number, shape, fmt, hbm, b, own):
    """Mean and K' of one key tile; the mean is a product with ones, on the cube."""
    start, dim = number % shape.tiles_k * shape.tile_k, shape.dim
    keys = min(shape.tile_k, shape.kv_len - start)
    row = number // shape.tiles_k * shape.kv_len + start
    raw, sums, mean = tile(own.keys, turn), tile(own.sums, 0), tile(own.mean, turn)
    acc, wide, shifted = tile(b.output_acc, turn), tile(own.wide, turn), tile(b.k, turn)
    load(p, raw, hbm.k, row, 0, keys, dim)
    matmul(p, acc, tile(own.ones, 0), raw, 1, dim, keys, fmt.shift_operand, FP32, False)
    move(p, sums, acc, 1, dim, FP32, FP32)
    scale(p, sums, sums, 1 / keys, 1, dim, FP32)
    convert(p, mean, sums, 1, dim, FP32, fmt.shifted)
    subtract_row(p, wide, raw, mean, keys, dim, FP32)
    scale(p, wide, wide, shape.scale, keys, dim, FP32)
    convert(p, shifted, wide, keys, dim, FP32, fmt.shifted)
    store(p, hbm.shifted, row, 0, shifted, keys, dim)
    store(p, hbm.means, number, 0, mean, 1, dim)


@jit_inner
def _query_tile(p, item, shape, fmt, hbm, b, own):
    """One tile of query rows against all the keys it sees."""
    head, row = query_tile_of(item, shape)
    rows = min(shape.tile_q, shape.q_len - row)
    q_row, kv_head = head * shape.q_len + row, head // shape.group
    tiles_k = -(-seen_keys(row, rows, shape) // shape.tile_k)
    begin_rows(p, item, q_row, rows, shape, fmt, hbm, b)
    _scores(p, 0, tile(b.q, item), rows, kv_head, shape, fmt, hbm, b, own)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            _scores(p, j + 1, tile(b.q, item), rows, kv_head, shape, fmt, hbm, b, own)
        local_softmax(p, j, rows, row, shape, fmt, b)
        _change_frame(p, j, rows, fmt, b, own)
        merge_tile(p, j, rows, kv_head * shape.kv_len, shape, fmt, hbm, b)
    finish_rows(p, q_row, rows, shape, fmt, hbm, b)


@jit_inner
def _scores(p, j, queries, rows, kv_head, shape, fmt, hbm, b, own):
    """S' of key tile j, and the offsets of its rows."""
    start, dim = j * shape.tile_k, shape.dim
    keys = min(shape.tile_k, shape.kv_len - start)
    mean, acc, offset = tile(own.mean, j), tile(b.output_acc, j), tile(own.offset, j)
    load(p, tile(b.k, j), hbm.shifted, kv_head * shape.kv_len + start, 0, keys, dim)
    load(p, mean, hbm.means, kv_head * shape.tiles_k + j, 0, 1, dim)
    score_tile(p, j, queries, rows, keys, shape, fmt, b)
    matmul_transposed(p, acc, queries, mean, rows, 1, dim, fmt.score_operand, FP32, False)
    move(p, offset, acc, rows, 1, FP32, FP32)
    scale(p, offset, offset, shape.scale, rows, 1, FP32)


@jit_inner
def _change_frame(p, j, rows, fmt, b, own):
    """Bring the maximum of tile j into the true frame and update the running maximum."""
    old_max, new_max = tile(b.row_max, j), tile(b.row_max, j + 1)
    keep, enter = tile(b.wide_keep, 0), tile(b.wide_enter, 0)
    add(p, enter, tile(b.wide_max, 0), tile(own.offset, j), rows, 1, FP32)
    maximum(p, new_max, old_max, enter, rows, 1, FP32)
    subtract(p, keep, old_max, new_max, rows, 1, FP32)
    subtract(p, enter, enter, new_max, rows, 1, FP32)
    merge_factors(p, rows, fmt, b)


class Centered(Kernel):
    """Attention over centered keys with exact offsets."""

    name: ClassVar[str] = "centered"
    summary: ClassVar[str] = "FP16 attention, tile means of keys taken off and kept as FP32 offsets"
    problem_kind: ClassVar[str] = "attention"
    parameters: ClassVar[type[Spec]] = CenteredParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: CenteredParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        plan = Plan.of(problem, machine, parameters)
        cached = None
        if not plan.shape.is_shifted_first and tensors is not None:
            cached = _centered_keys(plan, tensors)
        builder = ProgramBuilder(plan.name, with_numbers=tensors is not None)
        hbm, buffers = plan.declare(builder, tensors, cached), plan.allocate(builder)
        arguments = (plan.shape, plan.formats.codes, hbm, *buffers)
        program = builder.record(centered, num_items(plan.shape), *arguments)
        return program.with_parameters(**plan.shape.chosen), hbm.o.data

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention in float64."""
        return softmax_attention(problem, tensors)


def _centered_keys(plan: Plan, tensors: AttentionTensors) -> CenteredKeys:
    """Return the K' and tile means that a cache would hold: what centering once stores."""
    plan = replace(plan, shape=plan.shape._replace(is_shifted_first=True))
    builder = ProgramBuilder(plan.name, with_numbers=True)
    hbm, buffers = plan.declare(builder, tensors, None), plan.allocate(builder)
    arguments = (plan.shape, plan.formats.codes, hbm, *buffers)
    builder.record(center_keys, plan.shape.shift_items, *arguments)
    return CenteredKeys(hbm.shifted.data, hbm.means.data)
