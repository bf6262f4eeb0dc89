"""PASA: pseudo-average shifting attention, made to run in FP16 throughout.

Sources: "Online Pseudo-average Shifting Attention" (arXiv 2503.01873), Algorithm 1, and for the
order of operations the authors' `PASA_Verification.py` (github.com/chenglong92/PASA at 14f5c6f).

    K'_j = M K_j            M = (I - beta/n 1 1^T) / sqrt(d), rounded: the scale is folded in
    S'   = Q K'_j^T         mu_j = row mean of S', before masking
    F_j  = running mean of mu_1 .. mu_j, the pseudo-average
    d_j  = Inv (mu_j - F_j), d_old = Inv (F_j-1 - F_j): from one frame to the next
    m    = max(m_old + d_old, m_j + d_j), and so on as in online softmax

The true scores are S' + Inv mu_j with Inv = beta / (1 - beta); all tiles together are kept relative
to Inv F_j, which softmax does not see. M, beta and Inv: `accelsim.kernels.attention.beta`.

The last key tile is filled up with copies of the last keys, as published: they take part in the
mean only, and every tile has the same M, so the same Inv. In FP16 a sum of n scores may overflow
where their mean does not, so scores are divided by n before they are summed.

HBM reads of one head with query tiles of B_r rows and T = ceil(S_k / n) key tiles, elements of b
bytes, in K' and M of b': S_q d b + ceil(S_q / B_r) (T n d b' + S_k d b), under a causal mask only
the key tiles at or below the diagonal; writes: S_q d b. `shift: once` reads T n d b and writes
T n d b' more for each KV head, and reads M, n^2 b', with each work item that shifts.
`shift: per_query_tile` reads K in place of K' (b for b'), and M with each query tile.
"""

from dataclasses import replace
from typing import ClassVar

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.common import softmax_attention
from accelsim.kernels.attention.folding import seen_keys
from accelsim.kernels.attention.old_online_softmax import finish_rows
from accelsim.kernels.attention.pasa_plan import PasaParameters, Plan
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
    load,
    matmul,
    maximum,
    move,
    row_sum,
    rows_from,
    scale,
    store,
    subtract,
    tile,
)
from accelsim.program.program import Program
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


@jit
def pasa(p, shape, constants, fmt, hbm, b, own):
    """Make K' if it is due, then all query tiles of all heads."""
    first_phase = 0
    if shape.is_shifted_first:
        shift_keys(p, shape, constants, fmt, hbm, b, own)
        first_phase = 1
    for item in range(-(-shape.q_len // shape.tile_q) * shape.heads):
        begin_item(p, first_phase)
        _query_tile(p, item, shape, constants, fmt, hbm, b, own)


@jit
def shift_keys(p, shape, constants, fmt, hbm, b, own):
    """Phase 0: K' = M K of all key tiles of all KV heads."""
    keys = shape.tile_k
    for item in range(shape.shift_items):
        begin_item(p, 0)
        load(p, tile(own.matrix, item), hbm.matrix, 0, 0, keys, keys)
        for turn in range(item, shape.kv_heads * shape.tiles_k, shape.shift_items):
            kv_row = turn // shape.tiles_k * shape.kv_len
            slot = turn // shape.shift_items
            _shift_tile(
                p, slot, item, turn % shape.tiles_k, kv_row, shape, constants, fmt, hbm, b, own
            )
            store(p, hbm.shifted, turn * keys, 0, tile(b.k, slot), keys, shape.dim)


@jit_inner
def _shift_tile(p, slot, item, j, kv_row, shape, constants, fmt, hbm, b, own):
    """Load key tile j of a head and put its K' into `slot` of b.k."""
    keys, dim = shape.tile_k, shape.dim
    raw, acc, matrix = tile(own.keys, slot), tile(b.output_acc, slot), tile(own.matrix, item)
    first = kv_row + j * keys
    if j < shape.tiles_k - 1 or constants.tail_copies == 0:
        load(p, raw, hbm.k, first, 0, keys, dim)
    else:
        copies, end = constants.tail_copies, kv_row + shape.kv_len
        load(p, raw, hbm.k, first, 0, keys - copies, dim)
        load(p, rows_from(raw, keys - copies), hbm.k, end - copies, 0, copies, dim)
    matmul(p, acc, matrix, raw, keys, dim, keys, fmt.shift_operand, FP32, False)
    move(p, tile(b.k, slot), acc, keys, dim, FP32, fmt.shifted)


@jit_inner
def _query_tile(p, item, shape, constants, fmt, hbm, b, own):
    """One tile of query rows against all the keys it sees."""
    head, row = query_tile_of(item, shape)
    rows = min(shape.tile_q, shape.q_len - row)
    q_row, kv_head = head * shape.q_len + row, head // shape.group
    tiles_k = -(-seen_keys(row, rows, shape) // shape.tile_k)
    begin_rows(p, item, q_row, rows, shape, fmt, hbm, b)
    if constants.is_shifted_by_rows:
        load(p, tile(own.matrix, item), hbm.matrix, 0, 0, shape.tile_k, shape.tile_k)
    _scores(p, 0, item, rows, kv_head, shape, constants, fmt, hbm, b, own)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            _scores(p, j + 1, item, rows, kv_head, shape, constants, fmt, hbm, b, own)
        _row_mean(p, j, rows, shape, constants, fmt, b, own)
        local_softmax(p, j, rows, row, shape, fmt, b)
        _change_frame(p, j, rows, constants, fmt, b, own)
        merge_tile(p, j, rows, kv_head * shape.kv_len, shape, fmt, hbm, b)
    finish_rows(p, q_row, rows, shape, fmt, hbm, b)


@jit_inner
def _scores(p, j, item, rows, kv_head, shape, constants, fmt, hbm, b, own):
    """S' of key tile j, the copies of a filled tile included."""
    keys = shape.tile_k
    if constants.is_shifted_by_rows:
        kv_row = kv_head * shape.kv_len
        _shift_tile(p, j, item, j, kv_row, shape, constants, fmt, hbm, b, own)
    else:
        first = (kv_head * shape.tiles_k + j) * keys
        load(p, tile(b.k, j), hbm.shifted, first, 0, keys, shape.dim)
    score_tile(p, j, tile(b.q, item), rows, keys, shape, fmt, b)


@jit_inner
def _row_mean(p, j, rows, shape, constants, fmt, b, own):
    """Mean of S' along the key tile."""
    scores, x, mean = tile(b.scores, j), tile(b.x, j), tile(own.mean, 0)
    keys, share = shape.tile_k, constants.mean_share
    if fmt.statistics == FP32:
        row_sum(p, mean, scores, rows, keys, FP32)
        scale(p, mean, mean, share, rows, 1, FP32)
    else:
        scale(p, x, scores, share, rows, keys, fmt.vector)
        row_sum(p, mean, x, rows, keys, fmt.vector)


@jit_inner
def _change_frame(p, j, rows, constants, fmt, b, own):
    """Update the pseudo-average and bring the maxima of the past and of tile j into its frame."""
    statistics, recovery = fmt.statistics, constants.recovery
    mean, frame, scratch = tile(own.mean, 0), tile(own.frame, j + 1), tile(own.old_frame, 0)
    before = mean if j == 0 else tile(own.frame, j)
    scale(p, frame, mean, constants.shares[0, j], rows, 1, statistics)
    scale(p, scratch, before, constants.shares[1, j], rows, 1, statistics)
    add(p, frame, frame, scratch, rows, 1, statistics)

    tile_shift, old_shift = tile(own.tile_shift, 0), tile(own.old_shift, 0)
    subtract(p, tile_shift, mean, frame, rows, 1, statistics)
    scale(p, tile_shift, tile_shift, recovery, rows, 1, statistics)
    subtract(p, old_shift, before, frame, rows, 1, statistics)
    scale(p, old_shift, old_shift, recovery, rows, 1, statistics)

    old_max, new_max, tile_max = tile(b.row_max, j), tile(b.row_max, j + 1), tile(b.wide_max, 0)
    tile_end = tile(own.tile_end, 0)
    add(p, new_max, old_max, old_shift, rows, 1, statistics)
    add(p, tile_end, tile_max, tile_shift, rows, 1, statistics)
    maximum(p, new_max, new_max, tile_end, rows, 1, statistics)
    # Not tile_end - new_max: adding the shift last brings back what rounding new_max lost.
    keep, enter = tile(b.wide_keep, 0), tile(b.wide_enter, 0)
    subtract(p, keep, old_max, new_max, rows, 1, statistics)
    add(p, keep, keep, old_shift, rows, 1, statistics)
    subtract(p, enter, tile_max, new_max, rows, 1, statistics)
    add(p, enter, enter, tile_shift, rows, 1, statistics)
    merge_factors(p, rows, fmt, b)


class Pasa(Kernel):
    """Attention over pseudo-average shifted keys."""

    name: ClassVar[str] = "pasa"
    summary: ClassVar[str] = "flash attention in FP16 throughout, keys shifted by their tile mean"
    problem_kind: ClassVar[str] = "attention"
    parameters: ClassVar[type[Spec]] = PasaParameters

    @classmethod
    def record(
        cls,
        problem: AttentionProblem,
        machine: MachineSpec,
        parameters: PasaParameters,
        tensors: AttentionTensors | None,
    ) -> tuple[Program, Array | None]:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim]."""
        plan = Plan.of(problem, machine, parameters)
        cached = None
        if plan.shift == "cached" and tensors is not None:
            cached = _shifted_keys(plan, tensors)
        builder = ProgramBuilder(plan.name, with_numbers=tensors is not None)
        hbm, buffers = plan.declare(builder, tensors, cached), plan.allocate(builder)
        arguments = (plan.shape, plan.constants, plan.formats.codes, hbm, *buffers)
        program = builder.record(pasa, num_items(plan.shape), *arguments)
        return program.with_parameters(**plan.chosen), hbm.o.data

    @classmethod
    def oracle(cls, problem: AttentionProblem, tensors: AttentionTensors) -> Array:
        """Return softmax attention in float64."""
        return softmax_attention(problem, tensors)


def _shifted_keys(plan: Plan, tensors: AttentionTensors) -> Array:
    """Return the K' that a cache would hold: what shifting once stores."""
    plan = replace(plan, shift="once")
    builder = ProgramBuilder(plan.name, with_numbers=True)
    hbm, buffers = plan.declare(builder, tensors, None), plan.allocate(builder)
    arguments = (plan.shape, plan.constants, plan.formats.codes, hbm, *buffers)
    builder.record(shift_keys, plan.shape.shift_items, *arguments)
    return hbm.shifted.data
