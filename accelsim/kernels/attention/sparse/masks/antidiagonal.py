"""Blocks scored by antidiagonal sums: every token of a group meets one token of another group.

Source: XAttention (arXiv 2503.16428). Tokens are taken in groups of `stride` s; the score of two
groups is sum_i q[s-1-i] . k[i] / (s sqrt(d)), the sum along one antidiagonal of their s x s scores.
Softmax over the key groups; the probability of a block is the mean over its query groups of the
sum over its key groups. 1/s of the multiplications of Q K^T.

HBM traffic of one head with G_q and G_k groups and tiles of R groups: reads S_q d b, and S_k d b
for every R query groups, under a causal mask only the key tiles at or below the diagonal; the group
scores of these tiles, 4 bytes each, are written, and each query block reads those of the key groups
that it sees; 4 n_q n_k bytes of scores are written.
"""

from typing import NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.sparse.masks.base import Heads, ScoredMask, Setting, Stage
from accelsim.kernels.attention.sparse.masks.stages import rows_at, softmax_rows, store_products


class Layout(NamedTuple):
    """Groups of `stride` tokens and blocks of such groups: matrices in HBM, tiles on chip."""

    stride: int
    causal: bool
    offset: int
    """Group of the last key that the first query group sees."""
    factor: float
    queries: Heads
    keys: Heads
    scores: Heads
    """One row for each query group, one column for each key group."""
    blocks: Heads
    """The scores of blocks."""
    left: al.Buffer
    """A slot for each token of a group."""
    right: al.Buffer
    acc: al.Buffer
    out: al.Buffer
    x: al.Buffer
    """Probabilities of as many query groups as a block has."""
    sums: al.Buffer
    row: al.Buffer
    row_max: al.Buffer
    row_sum: al.Buffer


def antidiagonal_mask(setting: Setting) -> ScoredMask:
    """Declare the mask of antidiagonal sums; raises WorkloadError where groups cross blocks."""
    block, stride = setting.grid.block, setting.parameters.stride
    if block % stride:
        raise al.WorkloadError(
            f"mask antidiagonal: found stride {stride} with blocks of {block}, allowed: "
            f"a divisor of the block"
        )
    k = _layout_of(setting, stride)
    multiplying = Stage(0, k.scores.tiles(setting.rows), multiply_groups, k)
    summing = Stage(1, k.blocks.tiles(1), sum_groups, k)
    return ScoredMask(k.blocks, (multiplying, summing), are_logits=False)


def _layout_of(setting: Setting, stride: int) -> Layout:
    grid, stored, fp32, (q, k) = (
        setting.grid,
        setting.formats.stored,
        al.Format.FP32,
        setting.operands,
    )
    q_groups, k_groups = al.ceil_div(q.length, stride), al.ceil_div(k.length, stride)
    rows, block, dim, buffer = setting.rows, grid.block // stride, grid.dim, setting.builder.buffer
    return Layout(
        stride=stride,
        causal=grid.causal,
        offset=al.ceil_div(grid.offset, stride),
        factor=dim**-0.5 / stride,
        queries=q,
        keys=k,
        scores=setting.between_stages("group_scores", q.heads, q_groups, k_groups, fp32),
        blocks=setting.block_scores(q.heads),
        left=buffer("group_queries", rows, dim, stored, slots=stride),
        right=buffer("group_keys", rows, dim, stored, slots=2),
        acc=buffer("group_acc", rows, rows, fp32, memory="accumulator"),
        out=buffer("group_products", rows, rows, fp32, slots=2),
        x=buffer("group_rows", block, k_groups, fp32, slots=2),
        sums=buffer("group_sums", block, grid.k_blocks, fp32),
        row=buffer("group_row", 1, grid.k_blocks, fp32, slots=2),
        row_max=buffer("group_max", block, 1, fp32),
        row_sum=buffer("group_total", block, 1, fp32),
    )


@al.jit
def multiply_groups(p, phase, items, k):
    """Antidiagonal sums of all pairs of groups that a causal mask leaves, tile by tile."""
    step, dim, k_groups = k.left.rows, k.left.cols, k.scores.matrix.cols
    for item in range(items):
        al.begin_item(p, phase)
        at = rows_at(item, k.scores, step)
        kv_head = at.head * k.keys.heads // k.queries.heads
        for i in range(k.stride):
            queries = al.tile(k.left, i, at.rows, dim)
            _load_members(p, queries, at.head, at.first * k.stride + i, k.queries, k.stride)
        for j in range(-(-_seen_groups(at, k) // step)):
            cols = min(step, k_groups - j * step)
            acc = al.tile(k.acc, 0, at.rows, cols)
            for i in range(k.stride):
                keys, member = al.tile(k.right, i, cols, dim), k.stride - 1 - i
                _load_members(p, keys, kv_head, j * step * k.stride + member, k.keys, k.stride)
                al.matmul_transposed(p, acc, al.tile(k.left, i, at.rows, dim), keys, i > 0)
            out = al.tile(k.out, j, at.rows, cols)
            store_products(p, acc, out, k.factor, k.scores.matrix, at.row, j * step)


@al.jit_inner
def _load_members(p, dst, head, start, x, stride):
    """Load every `stride`-th token of a head from `start` on; tokens past the end are zeros."""
    present = min(dst.rows, max(0, -(-(x.length - start) // stride)))
    if present < dst.rows:
        al.fill(p, dst, 0.0)
    if present > 0:
        tokens = al.rows_from(dst, 0, present)
        al.load_strided(p, tokens, x.matrix, head * x.length + start, stride)


@al.jit_inner
def _seen_groups(at, k):
    """Key groups that a tile of query groups sees."""
    if k.causal:
        return min(k.scores.matrix.cols, at.first + at.rows + k.offset)
    return k.scores.matrix.cols


@al.jit
def sum_groups(p, phase, items, k):
    """Softmax over key groups, summed over the key groups of a block, averaged over its queries."""
    block = k.x.rows
    for item in range(items):
        al.begin_item(p, phase)
        at = rows_at(item, k.scores, block)
        cols = _seen_groups(at, k)
        blocks = -(-cols // block)
        x, sums = al.tile(k.x, item, at.rows, cols), al.tile(k.sums, 0, at.rows, blocks)
        row = al.tile(k.row, item, 1, k.row.cols)
        seen = al.columns(row, 0, blocks)
        al.load(p, x, k.scores.matrix, at.row, 0)
        if k.causal:
            al.mask_above_diagonal(p, x, at.first + k.offset, 0)
        softmax_rows(p, x, k)
        al.segment_sum(p, sums, x, block)
        al.fill(p, row, 0.0)
        al.column_sum(p, seen, sums)
        al.scale(p, seen, seen, 1 / at.rows)
        al.store(p, k.blocks.matrix, item, 0, row)
