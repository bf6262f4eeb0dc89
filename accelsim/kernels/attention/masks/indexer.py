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

from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelsim.jit import jit
from accelsim.kernels.attention.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.masks.stages import project, project_buffers
from accelsim.kernels.attention.masks.weights import random_projection, weights_tensor
from accelsim.numerics.formats import FP32, Format
from accelsim.program.old.block_ops import tile_max
from accelsim.program.old.language import (
    add,
    begin_item,
    fill,
    load,
    matmul_transposed,
    maximum,
    move,
    scale,
    store,
    tile,
)
from accelsim.program.recording import Recorder
from accelsim.units import ceil_div


class _Buffers(NamedTuple):
    """Tiles of `index_blocks`; `queries` has a slot for each query head of a group."""

    queries: Any
    keys: Any
    acc: Any
    head: Any
    total: Any
    zero: Any
    row: Any


class IndexerMask(ScoredMask):
    """A low-precision, low-dimensional indexer."""

    phases: ClassVar[int] = 2

    def __init__(self, setting: Setting) -> None:
        grid, parameters, builder = setting.grid, setting.parameters, setting.builder
        cols, fmt = parameters.index_dim, parameters.index_format
        self._setting, self.share = setting, grid.group
        place = random_projection if parameters.weights is None else weights_tensor
        kinds = setting.kv_heads // grid.batch
        self._weights_q = place(setting, "index_q", kinds, cols)
        self._weights_k = place(setting, "index_k", kinds, cols)
        q_rows, k_rows = grid.heads * grid.q_len, setting.kv_heads * grid.kv_len
        self._queries = builder.tensor("indexed_q", "intermediate", q_rows, cols, fmt)
        self._keys = builder.tensor("indexed_k", "intermediate", k_rows, cols, fmt)
        self._project = project_buffers(setting, "index", cols, fmt)
        self._buffers = _allocate(setting)
        self.scores = setting.scores_tensor(setting.kv_heads)
        self.items = (
            grid.heads * ceil_div(grid.q_len, setting.rows)
            + setting.kv_heads * ceil_div(grid.kv_len, setting.rows)
            + setting.kv_heads * grid.q_blocks
        )

    def record(self, p: Recorder) -> None:
        """Project every token, then multiply and reduce."""
        setting, grid, hbm = self._setting, self._setting.grid, self._setting.hbm
        parameters, rows, kv_heads = setting.parameters, setting.rows, setting.kv_heads
        formats = (setting.formats.stored.code, parameters.index_format.code)
        cols, kinds = parameters.index_dim, kv_heads // grid.batch
        sizes = (grid.heads, grid.group, kinds, grid.q_len, grid.dim, cols, rows)
        project(p, 0, hbm.q, self._weights_q, self._queries, *sizes, *formats, self._project)
        sizes = (kv_heads, 1, kinds, grid.kv_len, grid.dim, cols, rows)
        project(p, 0, hbm.k, self._weights_k, self._keys, *sizes, *formats, self._project)
        factor = grid.dim**-0.5 / grid.group
        formats = (_operand_format(setting).code, setting.formats.scores.code)
        index_blocks(
            p, self._queries, self._keys, self.scores, grid, cols, factor, *formats, self._buffers
        )


def _operand_format(setting: Setting) -> Format:
    """Return the format of the products: a wider one where the cube has not that of the vectors."""
    own = setting.parameters.index_format
    if own in setting.machine.cube_for("the indexer").rates:
        return own
    return Format.FP16 if own.is_fp8 else Format.FP32


def _allocate(setting: Setting) -> _Buffers:
    builder, grid, parameters = setting.builder, setting.grid, setting.parameters
    cols, fmt, scores = parameters.index_dim, parameters.index_format, setting.formats.scores
    block = grid.block
    return _Buffers(
        queries=builder.buffer("index_queries", block, cols, fmt, slots=2 * grid.group),
        keys=builder.buffer("index_keys", block, cols, fmt, slots=2),
        acc=builder.buffer("index_products", block, block, Format.FP32, memory="accumulator"),
        head=builder.buffer("index_head", block, block, scores, slots=2),
        total=builder.buffer("index_total", block, block, scores),
        zero=builder.buffer("index_zero", block, block, scores),
        row=builder.buffer("index_row", 1, grid.k_blocks, Format.FP32, slots=2),
    )


@jit
def index_blocks(p, queries, keys, scores, grid, dim, factor, operand, fmt, b):
    """Largest index score of every pair of blocks, averaged over the query heads of a group."""
    group, block = grid.group, grid.block
    for item in range(grid.heads // group * grid.q_blocks):
        begin_item(p, 1)
        kv_head, start = item // grid.q_blocks, item % grid.q_blocks * block
        rows = min(block, grid.q_len - start)
        row, total, zero = tile(b.row, item), tile(b.total, 0), tile(b.zero, 0)
        for h in range(group):
            first_row = (kv_head * group + h) * grid.q_len + start
            load(p, tile(b.queries, item * group + h), queries, first_row, 0, rows, dim)
        fill(p, zero, 0.0, block, block, fmt)
        fill(p, row, -np.inf, 1, grid.k_blocks, FP32)
        seen = grid.kv_len
        if grid.causal:
            seen = min(seen, start + rows + grid.offset)
        for j in range(-(-seen // block)):
            cols = min(block, grid.kv_len - j * block)
            load(p, tile(b.keys, j), keys, kv_head * grid.kv_len + j * block, 0, cols, dim)
            fill(p, total, 0.0, rows, cols, fmt)
            for h in range(group):
                head, acc = tile(b.head, j * group + h), tile(b.acc, 0)
                left = tile(b.queries, item * group + h)
                matmul_transposed(
                    p, acc, left, tile(b.keys, j), rows, cols, dim, operand, FP32, False
                )
                move(p, head, acc, rows, cols, FP32, fmt)
                maximum(p, head, head, zero, rows, cols, fmt)
                add(p, total, total, head, rows, cols, fmt)
            tile_max(p, row, j, total, rows, cols, fmt)
        scale(p, row, row, factor, 1, grid.k_blocks, FP32)
        store(p, scores, item, 0, row, 1, grid.k_blocks)
