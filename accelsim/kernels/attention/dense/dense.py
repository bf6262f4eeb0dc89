"""Attention as three kernels, the textbook baseline: scores and probabilities go through HBM.

S = Q K^T is stored, P = softmax(S / sqrt(d)) is stored, then O = P V. Every pair of query and key
is computed, also those that a causal mask or a window hides. Source: standard attention in Dao et
al., "FlashAttention" (2022), Algorithm 0.

HBM reads of one head with query tiles of B_r rows: S_q d b + ceil(S_q / B_r) 2 S_k d b plus S and P
once; writes: S and P once, and S_q d b. With K and V of c bytes an element and values of d_v
elements, S_k (d + d_v) c stands for 2 S_k d b, and S_q d_v b is written.
"""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.dense.tiles import (
    DenseParameters,
    allocate,
    dense_rivals,
    dense_tiles,
)
from accelsim.kernels.attention.flash.online_softmax import Rows, keys_of
from accelsim.kernels.attention.folding import mask_keys, mask_window, query_heads, shared_fields
from accelsim.kernels.attention.kernel import AttentionKernel, Recording, Task
from accelsim.kernels.attention.operands import Operands, as_cube_operand, declare_operands
from accelsim.kernels.attention.precision import formats_of, score_factor
from accelsim.kernels.attention.softcap import cap_scores


class Layout(NamedTuple):
    """Sizes in elements, tensors and tiles on chip.

    `group` query heads share one KV head, or are folded as in `folding`.
    """

    heads: int
    group: int
    q_len: int
    span: int
    """Query rows that follow each other in time: after them the next folded head begins."""
    kv_len: int
    dim: int
    value_dim: int
    tile_q: int
    tile_k: int
    softmax_rows: int
    causal: bool
    window: int
    """Latest keys that a row sees; 0: all."""
    sinks: int
    """First keys that it sees besides."""
    softcap: float
    """What scores are capped by; 0: nothing."""
    factor: float
    divides_by_scale: bool
    """Whether values were divided by a scale when they were stored."""
    sum_factor: float
    """1 / that scale, which row sums are multiplied by."""
    hbm: Operands
    all_scores: al.Tensor
    all_weights: al.Tensor
    queries: al.Buffer
    keys: al.Buffer
    """Keys, and in the last phase values."""
    key_operands: al.Buffer
    """The same as the cube takes them: what is loaded, unless it is converted first."""
    value_operands: al.Buffer
    acc: al.Buffer
    scores: al.Buffer
    weights: al.Buffer
    output: al.Buffer
    score_rows: al.Buffer
    x: al.Buffer
    """Whole rows of scores on their way to weights; buffers of one format are shared."""
    weight_rows: al.Buffer
    row_max: al.Buffer
    row_sum: al.Buffer


@al.jit
def dense(p, k):
    """Three phases; each needs all of the one before."""
    for item in range(k.heads * -(-k.q_len // k.tile_q)):
        al.begin_item(p, 0)
        _score_rows(p, _query_rows(item, k.tile_q, k), k)
    for item in range(k.heads * -(-k.q_len // k.softmax_rows)):
        al.begin_item(p, 1)
        _softmax_rows(p, _query_rows(item, k.softmax_rows, k), k)
    for item in range(k.heads * -(-k.q_len // k.tile_q)):
        al.begin_item(p, 2)
        _output_rows(p, _query_rows(item, k.tile_q, k), k)


@al.jit_inner
def _query_rows(item, most, k):
    """The tile of at most `most` query rows that is a work item; heads follow each other."""
    tiles = -(-k.q_len // most)
    head, first = item // tiles, item % tiles * most
    rows = min(most, k.q_len - first)
    q_row, kv_row = head * k.q_len + first, head // k.group * k.kv_len
    return Rows(item, first, rows, q_row, kv_row, k.span, k.kv_len, head)


@al.jit_inner
def _score_rows(p, at, k):
    """S = Q K^T: scores of one tile of query rows against all keys."""
    queries = al.tile(k.queries, at.item, at.rows, k.dim)
    al.load(p, queries, k.hbm.q, at.q_row, 0)
    for j in range(-(-k.kv_len // k.tile_k)):
        start, cols = j * k.tile_k, keys_of(j, at, k)
        keys, acc = al.tile(k.keys, j, cols, k.dim), al.tile(k.acc, j, at.rows, cols)
        scores = al.tile(k.scores, j, at.rows, cols)
        al.load(p, keys, k.hbm.k, at.kv_row + start, 0)
        keys = as_cube_operand(p, keys, k.key_operands, j)
        al.matmul_transposed(p, acc, queries, keys, False)
        al.move(p, scores, acc)
        al.store(p, k.all_scores, at.q_row, start, scores)


@al.jit_inner
def _softmax_rows(p, at, k):
    """P = softmax(S / sqrt(d)) of whole rows."""
    scores = al.tile(k.score_rows, at.item, at.rows, k.kv_len)
    x = al.tile(k.x, at.item, at.rows, k.kv_len)
    weights = al.tile(k.weight_rows, at.item, at.rows, k.kv_len)
    largest, total = al.tile(k.row_max, 0, at.rows, 1), al.tile(k.row_sum, 0, at.rows, 1)
    al.load(p, scores, k.all_scores, at.q_row, 0)
    al.scale(p, x, scores, k.factor)
    cap_scores(p, x, k.softcap)
    if k.causal:
        mask_keys(p, x, 0, at, k)
    if k.window:
        mask_window(p, x, 0, at, k)
    al.row_max(p, largest, x)
    al.subtract_column(p, x, x, largest)
    al.exp(p, x, x)
    al.row_sum(p, total, x)
    if k.divides_by_scale:
        al.scale(p, total, total, k.sum_factor)
    al.divide_column(p, x, x, total)
    if weights.fmt != x.fmt:
        al.convert(p, weights, x)
    al.store(p, k.all_weights, at.q_row, 0, weights)


@al.jit_inner
def _output_rows(p, at, k):
    """O = P V: output of one tile of query rows."""
    acc = al.tile(k.acc, at.item, at.rows, k.value_dim)
    output = al.tile(k.output, at.item, at.rows, k.value_dim)
    for j in range(-(-k.kv_len // k.tile_k)):
        start, cols = j * k.tile_k, keys_of(j, at, k)
        weights = al.tile(k.weights, j, at.rows, cols)
        values = al.tile(k.keys, j, cols, k.value_dim)
        al.load(p, weights, k.all_weights, at.q_row, start)
        al.load(p, values, k.hbm.v, at.kv_row + start, 0)
        values = as_cube_operand(p, values, k.value_operands, j)
        al.matmul(p, acc, weights, values, j > 0)
    al.move(p, output, acc)
    al.store(p, k.hbm.o, at.q_row, 0, output)


class Dense(AttentionKernel):
    """Attention with scores and probabilities in HBM."""

    name = "dense"
    summary = "textbook attention; scores and probabilities go through HBM"
    leaves_open = "tile_q", "tile_k", "softmax_rows", "fold"
    parameters = DenseParameters
    takes_any_kv = True
    windows = "any"
    caps_scores = True

    @classmethod
    def recorded(cls, task: Task[DenseParameters]) -> Recording:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, value_dim]."""
        problem, builder, (k_scale, v_scale) = task.problem, task.builder(), task.scales
        formats = formats_of(problem, task.machine, task.parameters.precision)
        tiles = dense_tiles(problem, task.machine, task.parameters)
        own = query_heads(problem, fold=tiles.fold)
        rows, cols = own.heads * own.rows, problem.kv_len
        layout = Layout(
            tile_q=tiles.tile_q,
            tile_k=tiles.tile_k,
            softmax_rows=tiles.softmax_rows,
            window=problem.window or 0,
            sinks=problem.sink_tokens,
            softcap=problem.softcap or 0.0,
            factor=score_factor(problem, formats.vector, k_scale),
            hbm=declare_operands(builder, problem, task.tensors),
            all_scores=builder.tensor("s", "intermediate", rows, cols, formats.scores),
            all_weights=builder.tensor("p", "intermediate", rows, cols, formats.weights),
            **shared_fields(problem, fold=tiles.fold, v_scale=v_scale)
            | allocate(builder, problem, formats, *tiles.sizes),
        )
        items = 2 * al.ceil_div(own.rows, tiles.tile_q) + al.ceil_div(own.rows, tiles.softmax_rows)
        program = builder.record(dense, own.heads * items, layout)
        return program.with_parameters(**tiles.parameters), layout.hbm.o.data

    @classmethod
    def rivals(
        cls, problem: al.AttentionProblem, machine: al.MachineSpec, parameters: DenseParameters
    ) -> list[dict[str, int | bool]]:
        """Return the tiles that may be the fastest, those that `record` takes first."""
        return [each.parameters for each in dense_rivals(problem, machine, parameters)]

    @classmethod
    def estimated_cycles(
        cls, problem: al.AttentionProblem, machine: al.MachineSpec, parameters: DenseParameters
    ) -> float:
        """Return the estimated time with the tiles that `record` takes; raises as it does."""
        return dense_rivals(problem, machine, parameters)[0].cycles
