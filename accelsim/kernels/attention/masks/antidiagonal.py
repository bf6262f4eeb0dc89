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

from typing import ClassVar, NamedTuple

from accelsim.errors import WorkloadError
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.masks.base import Heads, ScoredMask, Setting
from accelsim.kernels.attention.masks.stages import (
    SoftmaxBuffers,
    count_tiles,
    rows_at,
    softmax_rows,
    store_products,
)
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.recording import Buffer, Recorder
from accelsim.units import ceil_div


class GroupProducts(NamedTuple):
    """Scores of groups of `stride` tokens: Q, K and results in HBM, tiles on chip."""

    stride: int
    causal: bool
    offset: int
    """Group of the last key that the first query group sees."""
    factor: float
    queries: Heads
    keys: Heads
    scores: Heads
    """One row for each query group, one column for each key group."""
    left: Buffer
    """A slot for each token of a group."""
    right: Buffer
    acc: Buffer
    out: Buffer


class BlockSums(NamedTuple):
    """Scores of groups and of blocks in HBM, tiles on chip."""

    causal: bool
    offset: int
    """As in `GroupProducts`."""
    groups: Heads
    blocks: Heads
    x: Buffer
    """As many rows as a block has groups."""
    sums: Buffer
    row: Buffer
    statistics: SoftmaxBuffers


class AntidiagonalMask(ScoredMask):
    """Antidiagonal sums."""

    are_logits: ClassVar[bool] = False
    phases: ClassVar[int] = 2

    def __init__(self, setting: Setting) -> None:
        grid, stride = setting.grid, setting.parameters.stride
        if grid.block % stride:
            raise WorkloadError(
                f"mask antidiagonal: found stride {stride} with blocks of {grid.block}, allowed: "
                f"a divisor of the block"
            )
        self._groups = _groups_of(setting, stride)
        self._blocks = _blocks_of(setting, self._groups)
        self.scores = self._blocks.blocks
        self.items = self._groups.scores.tiles(setting.rows) + self.scores.tiles(1)

    def record(self, p: Recorder) -> None:
        """Multiply groups, then sum their probabilities over blocks."""
        multiply_groups(p, self._groups)
        sum_groups(p, self._blocks)


def _groups_of(setting: Setting, stride: int) -> GroupProducts:
    builder, grid, stored = setting.builder, setting.grid, setting.formats.stored
    rows, dim, (q, k) = setting.rows, grid.dim, setting.operands
    q_groups, k_groups = ceil_div(q.length, stride), ceil_div(k.length, stride)
    return GroupProducts(
        stride=stride,
        causal=grid.causal,
        offset=ceil_div(grid.offset, stride),
        factor=dim**-0.5 / stride,
        queries=q,
        keys=k,
        scores=setting.between_stages("group_scores", q.heads, q_groups, k_groups, Format.FP32),
        left=builder.buffer("group_queries", rows, dim, stored, slots=stride),
        right=builder.buffer("group_keys", rows, dim, stored, slots=2),
        acc=builder.buffer("group_acc", rows, rows, Format.FP32, memory="accumulator"),
        out=builder.buffer("group_products", rows, rows, Format.FP32, slots=2),
    )


def _blocks_of(setting: Setting, groups: GroupProducts) -> BlockSums:
    builder, grid = setting.builder, setting.grid
    rows, k_groups = grid.block // groups.stride, groups.scores.matrix.cols
    return BlockSums(
        causal=groups.causal,
        offset=groups.offset,
        groups=groups.scores,
        blocks=setting.block_scores(grid.heads),
        x=builder.buffer("group_rows", rows, k_groups, Format.FP32, slots=2),
        sums=builder.buffer("group_sums", rows, grid.k_blocks, Format.FP32),
        row=builder.buffer("group_row", 1, grid.k_blocks, Format.FP32, slots=2),
        statistics=SoftmaxBuffers(
            largest=builder.buffer("group_max", rows, 1, Format.FP32),
            total=builder.buffer("group_total", rows, 1, Format.FP32),
        ),
    )


@jit
def multiply_groups(p, k):
    """Antidiagonal sums of all pairs of groups that a causal mask leaves, tile by tile."""
    step, dim, k_groups = k.left.rows, k.left.cols, k.scores.matrix.cols
    for item in range(count_tiles(k.scores, step)):
        al.begin_item(p, 0)
        at = rows_at(item, k.scores, step)
        kv_head = at.head * k.keys.heads // k.queries.heads
        for i in range(k.stride):
            queries = al.tile(k.left, i, at.rows, dim)
            _load_members(p, queries, at.head, at.first * k.stride + i, k.queries, k.stride)
        for j in range(-(-_seen_groups(at, k_groups, k) // step)):
            cols = min(step, k_groups - j * step)
            acc = al.tile(k.acc, 0, at.rows, cols)
            for i in range(k.stride):
                keys, member = al.tile(k.right, i, cols, dim), k.stride - 1 - i
                _load_members(p, keys, kv_head, j * step * k.stride + member, k.keys, k.stride)
                al.matmul_transposed(p, acc, al.tile(k.left, i, at.rows, dim), keys, i > 0)
            store_products(p, acc, al.tile(k.out, j, at.rows, cols), at.row, j * step, k)


@jit_inner
def _load_members(p, dst, head, start, x, stride):
    """Load every `stride`-th token of a head from `start` on; tokens past the end are zeros."""
    present = min(dst.rows, max(0, -(-(x.length - start) // stride)))
    if present < dst.rows:
        al.fill(p, dst, 0.0)
    if present > 0:
        tokens = al.rows_from(dst, 0, present)
        al.load_strided(p, tokens, x.matrix, head * x.length + start, stride)


@jit_inner
def _seen_groups(at, k_groups, k):
    """Key groups that a tile of query groups sees."""
    if k.causal:
        return min(k_groups, at.first + at.rows + k.offset)
    return k_groups


@jit
def sum_groups(p, k):
    """Softmax over key groups, summed over the key groups of a block, averaged over its queries."""
    block = k.x.rows
    for item in range(count_tiles(k.groups, block)):
        al.begin_item(p, 1)
        at = rows_at(item, k.groups, block)
        cols = _seen_groups(at, k.groups.matrix.cols, k)
        blocks = -(-cols // block)
        x, sums = al.tile(k.x, item, at.rows, cols), al.tile(k.sums, 0, at.rows, blocks)
        row = al.tile(k.row, item, 1, k.row.cols)
        seen = al.columns(row, 0, blocks)
        al.load(p, x, k.groups.matrix, at.row, 0)
        if k.causal:
            al.mask_above_diagonal(p, x, at.first + k.offset, 0)
        softmax_rows(p, x, k.statistics)
        al.segment_sum(p, sums, x, block)
        al.fill(p, row, 0.0)
        al.column_sum(p, seen, sums)
        al.scale(p, seen, seen, 1 / at.rows)
        al.store(p, k.blocks.matrix, item, 0, row)
