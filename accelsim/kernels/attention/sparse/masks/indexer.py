"""Blocks scored by an indexer: short low-precision vectors for every token, ReLU, few heads.

Source: lightning indexer of DeepSeek-V3.2-Exp, I_ts = sum_j w_tj ReLU(q_tj . k_s). As there, one
index key serves all heads that share it, and all of them get one mask. Here the index heads are the
query heads of a KV head, with equal w_tj, and index vectors are linear maps of Q and K: fitted ones
from a file, or a seeded random projection. The score of a block is the largest of its tokens.

HBM traffic of one KV head with g query heads, index vectors of c bytes and projection tiles of R
rows: reads (g S_q + S_k) d b, and a projection [d, index_dim] for every R rows of a head; writes
(g S_q + S_k) c, of which the queries' part is read once and the keys' part by every query block,
under a causal mask only blocks at or below the diagonal; 4 n_q n_k bytes of scores are written.
"""

from typing import NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.sparse.masks.base import Heads, ScoredMask, Setting, Stage
from accelsim.kernels.attention.sparse.masks.stages import project_stages
from accelsim.kernels.attention.sparse.masks.weights import random_projection, weights_tensor


class Layout(NamedTuple):
    """Index vectors and block scores in HBM; tiles on chip."""

    queries: Heads
    keys: Heads
    scores: Heads
    causal: bool
    offset: int
    """Position of the first query row among the keys."""
    factor: float
    operand: int
    """Format code of the products."""
    left: al.Buffer
    """A slot for each query head of a group, twice."""
    right: al.Buffer
    acc: al.Buffer
    head: al.Buffer
    total: al.Buffer
    zero: al.Buffer
    row: al.Buffer


def indexer_mask(setting: Setting) -> ScoredMask:
    """Declare the mask of a low-precision, low-dimensional indexer."""
    parameters = setting.parameters
    place = random_projection if parameters.weights is None else weights_tensor
    kinds, fmt = setting.kv_heads // setting.grid.batch, parameters.index_format
    weights = (
        place(setting, "index_q", kinds, parameters.index_dim),
        place(setting, "index_k", kinds, parameters.index_dim),
    )
    names, sides = ("index", "indexed"), setting.operands
    projections = project_stages(setting, 0, names, sides, weights, fmt)
    layout = _layout_of(setting, *(each.layout.result for each in projections))
    indexing = Stage(1, layout.scores.tiles(1), index_blocks, layout)
    return ScoredMask(layout.scores, (*projections, indexing))


def _operand_format(setting: Setting) -> al.Format:
    """Return the format of the products: a wider one where the cube has not that of the vectors."""
    own = setting.parameters.index_format
    if own in setting.machine.cube_for("the indexer").rates:
        return own
    return al.Format.FP16 if own.is_fp8 else al.Format.FP32


def _layout_of(setting: Setting, queries: Heads, keys: Heads) -> Layout:
    builder, grid, block = setting.builder, setting.grid, setting.grid.block
    cols, fmt = setting.parameters.index_dim, setting.parameters.index_format
    computed = setting.formats.scores
    return Layout(
        queries=queries,
        keys=keys,
        scores=setting.block_scores(keys.heads),
        causal=grid.causal,
        offset=grid.offset,
        factor=grid.dim**-0.5 / grid.group,
        operand=_operand_format(setting).code,
        left=builder.buffer("index_queries", block, cols, fmt, slots=2 * grid.group),
        right=builder.buffer("index_keys", block, cols, fmt, slots=2),
        acc=builder.buffer("index_products", block, block, al.Format.FP32, memory="accumulator"),
        head=builder.buffer("index_head", block, block, computed, slots=2),
        total=builder.buffer("index_total", block, block, computed),
        zero=builder.buffer("index_zero", block, block, computed),
        row=builder.buffer("index_row", 1, grid.k_blocks, al.Format.FP32, slots=2),
    )


@al.jit
def index_blocks(p, phase, items, k):
    """Largest index score of every pair of blocks, averaged over the query heads of a group."""
    block, group = k.left.rows, k.queries.heads // k.keys.heads
    for item in range(items):
        al.begin_item(p, phase)
        kv_head, start = item // k.scores.length, item % k.scores.length * block
        rows, row = min(block, k.queries.length - start), al.tile(k.row, item, 1, k.row.cols)
        for h in range(item * group, (item + 1) * group):
            head = kv_head * group + h % group
            queries = _vectors(k.left, h, rows, k.operand)
            al.load(p, queries, k.queries.matrix, head * k.queries.length + start, 0)
        al.fill(p, al.tile(k.zero, 0, block, block), 0.0)
        al.fill(p, row, -np.inf)
        seen = k.keys.length
        if k.causal:
            seen = min(seen, start + rows + k.offset)
        for j in range(-(-seen // block)):
            keys = _vectors(k.right, j, min(block, k.keys.length - j * block), k.operand)
            al.load(p, keys, k.keys.matrix, kv_head * k.keys.length + j * block, 0)
            total = _sum_heads(p, item * group, j * group, rows, keys, k)
            al.tile_max(p, al.computed_in(row, total.fmt), j, total)
        al.scale(p, row, row, k.factor)
        al.store(p, k.scores.matrix, item, 0, row)


@al.jit_inner
def _vectors(buffer, turn, rows, operand):
    """Index vectors on chip, as the cube multiplies them."""
    return al.computed_in(al.tile(buffer, turn, rows, buffer.cols), operand)


@al.jit_inner
def _sum_heads(p, first_queries, turn, rows, keys, k):
    """Sum of ReLU(queries . keys) over the query heads of a group."""
    cols = keys.rows
    total, zero = al.tile(k.total, 0, rows, cols), al.tile(k.zero, 0, rows, cols)
    al.fill(p, total, 0.0)
    for h in range(k.queries.heads // k.keys.heads):
        acc, head = al.tile(k.acc, 0, rows, cols), al.tile(k.head, turn + h, rows, cols)
        queries = _vectors(k.left, first_queries + h, rows, k.operand)
        al.matmul_transposed(p, acc, queries, keys, False)
        al.move(p, head, acc)
        al.maximum(p, head, head, zero)
        al.add(p, total, total, head)
    return total
