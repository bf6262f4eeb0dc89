"""SageAttention: scores of integers over smoothed keys, the second product in FP16 or FP8.

    K'   = K - mean of K over all tokens          softmax does not see it: q mean(K)^T is one number
                                                  for all keys of a row
    S    = codes(q / sqrt(d)) codes(K')^T, times the scales of what shares one
    O    = codes(P) codes(V) of a key tile, added up in FP32 with the rescaling of online softmax

P is at most 1, so in FP16 it needs no scale, and in FP8 the static one of 448, which comes with the
exponent: e^(s - m + ln 448). Row sums have it too, so it leaves with the division. Values are FP16,
or FP8 with a scale for each channel of a head.

Sources: Zhang et al., "SageAttention" (2024, arXiv 2410.02367), section 4, and "SageAttention2"
(2024, arXiv 2411.10958), section 3; the authors' code (github.com/thu-ml/SageAttention). What
differs is in docs/algorithms/sage.md.

HBM reads of one query head with query tiles of B_r rows, T = ceil(S_k / B_c) key tiles with s
scales each, codes of c bytes, Q and V of b bytes: S_q d b + ceil(S_q / B_r) (S_k d (c + b) +
4 s T); with V in FP8 S_k d (c + 1) for S_k d (c + b), and 4 d more for its scales. Under a causal
mask only the key tiles at or below the diagonal. Writes: the output. `shift: once` reads K twice,
for its mean and for its codes, and writes S_k d c + 4 s T for each KV head; its P sums of 4 d bytes
are written once and read with each key tile. V in FP8 the same, with 4 d bytes of scales.
"""

from dataclasses import replace
from functools import partial
from math import log
from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash import online_softmax as online
from accelsim.kernels.attention.folding import mask_keys
from accelsim.kernels.attention.kernel import AttentionKernel, Recording, Task
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.attention.sage.coding import BLOCK, THREAD, Coder, code_rows, spread_scales
from accelsim.kernels.attention.sage.making import LARGEST_WEIGHT
from accelsim.kernels.attention.sage.parameters import SageParameters
from accelsim.kernels.attention.sage.plan import Plan
from accelsim.kernels.integer.phases import Loop, record_phases

_MOST_QUERIES, _MOST_KEYS, _FEWEST_ROWS = 128, 64, 16
_LOG_LARGEST = log(LARGEST_WEIGHT)


class Own(NamedTuple):
    """What SageAttention has beside the layout of `online_softmax`."""

    uses_array: bool
    """Whether the integer array multiplies queries and keys, not the cube."""
    accumulator: al.Accumulator
    has_fp8: bool
    """Whether weights and values are FP8."""
    factor: float
    """1 / sqrt(head_dim), which queries are multiplied by before they become codes."""
    coder: Coder
    k_scales: al.Tensor
    """Scales of keys: a column of those of each tile, or a row for each KV head."""
    tile_scales: int
    """Scales of a key tile."""
    v_scales: al.Tensor
    """[kv_heads, dim]"""
    raw: al.Buffer
    kept: al.Buffer
    """Scales of a key tile as they lie in HBM: a column, or a row where each key has its own."""
    k_row: al.Buffer
    v_row: al.Buffer
    shifted_max: al.Buffer


@al.jit
def sage(p, phase, own, k):
    """All query tiles of all heads; those that see the most keys under a causal mask come first."""
    tiles = -(-k.q_len // k.tile_q)
    for item in range(tiles * k.heads):
        al.begin_item(p, phase)
        head, tile = item % k.heads, tiles - 1 - item // k.heads
        _query_tile(p, online.query_rows(item, head, tile * k.tile_q, k), head // k.group, own, k)


@al.jit_inner
def _query_tile(p, at, kv_head, own, k):
    """One tile of query rows against all the keys it sees."""
    tiles_k = online.seen_tiles(at, k)
    q_scale = _code_queries(p, at, own, k)
    online.reset_rows(p, at.rows, -np.inf, k)
    _multiply_keys(p, 0, at, kv_head, own, k)
    for j in range(tiles_k):
        if j + 1 < tiles_k:
            _multiply_keys(p, j + 1, at, kv_head, own, k)
        x = _scale_scores(p, j, q_scale, at, own, k)
        if own.has_fp8:
            _exponentials(p, x, j, at, own, k)
        else:
            online.exponentials(p, x, j, j, at, k)
        al.convert(p, al.tile(k.weights, j, at.rows, x.cols), x)
        online.load_values(p, j, j, at, k)
        online.weigh_values(p, j, j, at, k)
        online.add_to_output(p, j, at, k)
    if own.has_fp8:
        output, v_row = al.tile(k.output, 0, at.rows, k.dim), al.tile(own.v_row, at.item, 1, k.dim)
        al.load(p, v_row, own.v_scales, kv_head, 0)
        al.multiply_row(p, output, output, v_row)
    online.finish_rows(p, at, k)


@al.jit_inner
def _code_queries(p, at, own, k):
    """Load a tile of queries and turn it into codes; returns the scale of each row."""
    raw = al.tile(own.raw, at.item, at.rows, k.dim)
    wide = al.tile(own.coder.wide, 0, at.rows, k.dim)
    al.load(p, raw, k.hbm.q, at.q_row, 0)
    al.scale(p, wide, raw, own.factor)
    _, scale = code_rows(p, at.item, wide, False, own.coder)
    return scale


@al.jit_inner
def _multiply_keys(p, j, at, kv_head, own, k):
    """Load key tile j with its scales and multiply the queries with it."""
    cols = online.keys_of(j, at, k)
    queries, keys = al.tile(k.queries, at.item, at.rows, k.dim), al.tile(k.keys, j, cols, k.dim)
    acc = al.tile(k.scores_acc, j, at.rows, cols)
    online.load_keys(p, j, j, at, k)
    if own.tile_scales == 0:
        al.load(p, al.tile(own.kept, j, 1, cols), own.k_scales, kv_head, j * k.tile_k)
    else:
        tiles_k = -(-k.kv_len // k.tile_k)
        rows = min(own.tile_scales, -(-cols // 2)) if own.tile_scales > 1 else 1
        first = (kv_head * tiles_k + j) * own.tile_scales
        al.load(p, al.tile(own.kept, j, rows, 1), own.k_scales, first, 0)
    if own.uses_array:
        al.int_matmul(p, acc, queries, al.transposed(keys), own.accumulator, False)
    else:
        al.matmul_transposed(p, acc, queries, keys, False)
    al.move(p, al.tile(k.scores, j, at.rows, cols), acc)


@al.jit_inner
def _scale_scores(p, j, q_scale, at, own, k):
    """Return the sums of key tile j times the scales of queries and keys."""
    cols = online.keys_of(j, at, k)
    x = al.tile(k.x, j, at.rows, cols)
    al.convert(p, x, al.tile(k.scores, j, at.rows, cols))
    if own.coder.shared_by == BLOCK:
        k_scale = al.read_element(p, al.tile(own.kept, j, 1, 1), 0)
        al.scale(p, x, x, np.float32(k_scale) * np.float32(al.read_element(p, q_scale, 0)))
        return x
    row = al.tile(own.kept, j, 1, cols) if own.tile_scales == 0 else al.tile(own.k_row, 0, 1, cols)
    if own.coder.shared_by == THREAD:
        spread_scales(p, row, al.tile(own.kept, j, min(own.tile_scales, -(-cols // 2)), 1))
    al.multiply_row(p, x, x, row)
    al.multiply_column(p, x, x, q_scale)
    return x


@al.jit_inner
def _exponentials(p, x, j, at, own, k):
    """As `online_softmax.exponentials`, with weights up to 448, and so row sums."""
    total, tile_total = al.tile(k.row_sum, 0, at.rows, 1), al.tile(k.tile_sum, 0, at.rows, 1)
    old, new = al.tile(k.row_max, j, at.rows, 1), al.tile(k.row_max, j + 1, at.rows, 1)
    rescale, shifted = al.tile(k.rescale, j, at.rows, 1), al.tile(own.shifted_max, 0, at.rows, 1)
    if k.causal:
        mask_keys(p, x, j * k.tile_k, at, k)
    al.row_max(p, new, x)
    al.maximum(p, new, new, old)
    al.subtract(p, rescale, old, new)
    al.exp(p, rescale, rescale)
    al.add_scalar(p, shifted, new, -_LOG_LARGEST)
    al.subtract_column(p, x, x, shifted)
    al.exp(p, x, x)
    al.row_sum(p, tile_total, x)
    al.multiply(p, total, total, rescale)
    al.add(p, total, total, tile_total)


class Sage(AttentionKernel):
    """SageAttention."""

    name = "sage"
    summary = "flash attention with integer scores over smoothed keys"
    is_exact = False
    parameters = SageParameters

    @classmethod
    def recorded(cls, task: Task[SageParameters]) -> Recording:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim].

        Raises QuantizationError for values that are not finite.
        """
        task.machine.cube_for(task.name)
        plan, builder, asked = Plan.of(task), task.builder(), _candidates(task)
        sizes = al.first_fit(task.name, asked, plan.allocate, task.machine)
        phases, output = plan.laid_out(builder, sizes, partial(_attention, plan))
        program = record_phases(builder, phases)
        if plan.uses_array:
            told = {"accumulator_overflows": float(program.overflows)}
            program = replace(program, statistics=told)
        return program.with_parameters(tile_q=sizes[0], tile_k=sizes[1]), output.data


def _candidates(task: Task[SageParameters]) -> list[tuple[int, int]]:
    """Return pairs of query and key rows of a tile, the largest first."""
    problem, parameters = task.problem, task.parameters

    def sizes(asked: int | None, most: int, rows: int) -> list[int]:
        each = [asked] if asked else al.tile_sizes(most, _FEWEST_ROWS)
        return list(dict.fromkeys(min(size, rows) for size in each))

    return [
        (tile_q, tile_k)
        for tile_k in sizes(parameters.tile_k, _MOST_KEYS, problem.kv_len)
        for tile_q in sizes(parameters.tile_q, _MOST_QUERIES, problem.q_len)
    ]


def _attention(plan: Plan, made: dict[str, Any], buffers: dict[str, Any]) -> Loop:
    """Return the loop over the query tiles, over the codes and scales that were `made`."""
    own = Own(
        uses_array=plan.uses_array,
        accumulator=plan.accumulator,
        has_fp8=plan.parameters.pv == "fp8",
        factor=float(np.float32(1 / np.sqrt(plan.problem.head_dim))),
        k_scales=made["k_scales"],
        tile_scales=plan.tile_scales,
        v_scales=made["v_scales"],
        **buffers["own"],
    )
    formats = step_formats(plan.problem.dtype, "fp32")
    layout = online.layout_of(plan.problem, formats, made["hbm"], buffers["shared"])
    items = layout.heads * -(-layout.q_len // layout.tile_q)
    return Loop(sage, items, (own, layout))
