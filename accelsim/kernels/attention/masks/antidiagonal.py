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

from typing import Any, ClassVar, NamedTuple

from accelsim.errors import WorkloadError
from accelsim.jit import jit, jit_inner
from accelsim.kernels.attention.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.masks.stages import SoftmaxBuffers, softmax_rows
from accelsim.numerics.formats import FP32, Format
from accelsim.program.old.block_ops import column_sum, load_strided, segment_sum
from accelsim.program.old.language import (
    begin_item,
    fill,
    load,
    mask_above_diagonal,
    matmul_transposed,
    move,
    scale,
    store,
    tile,
)
from accelsim.program.recording import Recorder
from accelsim.units import ceil_div


class _Groups(NamedTuple):
    """Sizes in groups of `stride` tokens; `step` groups are a tile."""

    stride: int
    q_groups: int
    k_groups: int
    block: int
    offset: int
    """Group of the last key that the first query group sees."""
    step: int
    factor: float


class _Buffers(NamedTuple):
    """Tiles; `queries` has a slot for each token of a group."""

    queries: Any
    keys: Any
    acc: Any
    products: Any
    x: Any
    sums: Any
    row: Any
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
        self._setting = setting
        self._groups = _Groups(
            stride=stride,
            q_groups=ceil_div(grid.q_len, stride),
            k_groups=ceil_div(grid.kv_len, stride),
            block=grid.block // stride,
            offset=ceil_div(grid.offset, stride),
            step=setting.rows,
            factor=grid.dim**-0.5 / stride,
        )
        q_groups, k_groups = self._groups.q_groups, self._groups.k_groups
        self._products = setting.builder.tensor(
            "group_scores", "intermediate", grid.heads * q_groups, k_groups, Format.FP32
        )
        self._buffers = _allocate(setting, self._groups)
        self.scores = setting.scores_tensor(grid.heads)
        self.items = grid.heads * (ceil_div(q_groups, setting.rows) + grid.q_blocks)

    def record(self, p: Recorder) -> None:
        """Multiply groups, then sum their probabilities over blocks."""
        setting = self._setting
        multiply_groups(
            p,
            setting.hbm,
            self._products,
            setting.grid,
            self._groups,
            setting.formats.stored.code,
            self._buffers,
        )
        sum_groups(p, self._products, self.scores, setting.grid, self._groups, self._buffers)


def _allocate(setting: Setting, groups: _Groups) -> _Buffers:
    builder, grid, stored = setting.builder, setting.grid, setting.formats.stored
    rows, block = setting.rows, groups.block
    return _Buffers(
        queries=builder.buffer("group_queries", rows, grid.dim, stored, slots=groups.stride),
        keys=builder.buffer("group_keys", rows, grid.dim, stored, slots=2),
        acc=builder.buffer("group_acc", rows, rows, Format.FP32, memory="accumulator"),
        products=builder.buffer("group_products", rows, rows, Format.FP32, slots=2),
        x=builder.buffer("group_rows", block, groups.k_groups, Format.FP32, slots=2),
        sums=builder.buffer("group_sums", block, grid.k_blocks, Format.FP32),
        row=builder.buffer("group_row", 1, grid.k_blocks, Format.FP32, slots=2),
        statistics=SoftmaxBuffers(
            largest=builder.buffer("group_max", block, 1, Format.FP32),
            total=builder.buffer("group_total", block, 1, Format.FP32),
        ),
    )


@jit_inner
def _load_members(p, dst, src, first_row, member, length, group, count, stride, dim, stored):
    """Load token `member` of `count` groups from `group` on; tokens past the end are zeros."""
    start = group * stride + member
    present = min(count, max(0, -(-(length - start) // stride)))
    if present < count:
        fill(p, dst, 0.0, count, dim, stored)
    if present > 0:
        load_strided(p, dst, src, first_row + start, stride, present, dim)


@jit
def multiply_groups(p, hbm, products, grid, groups, stored, b):
    """Antidiagonal sums of all pairs of groups that a causal mask leaves, tile by tile."""
    step, stride, dim = groups.step, groups.stride, grid.dim
    tiles = -(-groups.q_groups // step)
    for item in range(grid.heads * tiles):
        begin_item(p, 0)
        head, first = item // tiles, item % tiles * step
        rows = min(step, groups.q_groups - first)
        q_row, kv_row = head * grid.q_len, head // grid.group * grid.kv_len
        for i in range(stride):
            queries = tile(b.queries, i)
            _load_members(p, queries, hbm.q, q_row, i, grid.q_len, first, rows, stride, dim, stored)
        seen = groups.k_groups
        if grid.causal:
            seen = min(seen, first + rows + groups.offset)
        for j in range(-(-seen // step)):
            start, out, acc = j * step, tile(b.products, j), tile(b.acc, 0)
            cols = min(step, groups.k_groups - start)
            for i in range(stride):
                keys, member = tile(b.keys, i), stride - 1 - i
                _load_members(
                    p, keys, hbm.k, kv_row, member, grid.kv_len, start, cols, stride, dim, stored
                )
                matmul_transposed(
                    p, acc, tile(b.queries, i), keys, rows, cols, dim, stored, FP32, i > 0
                )
            move(p, out, acc, rows, cols, FP32, FP32)
            scale(p, out, out, groups.factor, rows, cols, FP32)
            store(p, products, head * groups.q_groups + first, start, out, rows, cols)


@jit
def sum_groups(p, products, scores, grid, groups, b):
    """Softmax over key groups, summed over the key groups of a block, averaged over its queries."""
    for item in range(grid.heads * grid.q_blocks):
        begin_item(p, 1)
        head, first = item // grid.q_blocks, item % grid.q_blocks * groups.block
        rows = min(groups.block, groups.q_groups - first)
        cols = groups.k_groups
        if grid.causal:
            cols = min(cols, first + rows + groups.offset)
        x, sums, row = tile(b.x, item), tile(b.sums, 0), tile(b.row, item)
        load(p, x, products, head * groups.q_groups + first, 0, rows, cols)
        if grid.causal:
            mask_above_diagonal(p, x, first + groups.offset, 0, rows, cols, FP32)
        softmax_rows(p, x, rows, cols, b.statistics)
        segment_sum(p, sums, x, rows, cols, groups.block, FP32)
        blocks = -(-cols // groups.block)
        fill(p, row, 0.0, 1, grid.k_blocks, FP32)
        column_sum(p, row, sums, rows, blocks, FP32)
        scale(p, row, row, 1 / rows, 1, blocks, FP32)
        store(p, scores, item, 0, row, 1, grid.k_blocks)
