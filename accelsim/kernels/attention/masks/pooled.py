"""Blocks scored by the product of mean query and mean key: one vector stands for a block.

Source: mean pooling as in SpargeAttn (arXiv 2502.18137), without its test of how alike the rows of
a block are, and as in SeerAttention (arXiv 2410.13276), without its learned projection.

HBM traffic of one query head and its KV head: Q and K are read once, (S_q + S_k) d b, and pooled
vectors written once and read by products of R x R blocks: (n_q + n_k) d b written and
(n_q + ceil(n_q / R) n_k) d b read, for n_q and n_k blocks; 4 n_q n_k bytes of scores are written.
"""

from typing import ClassVar

from accelsim.kernels.attention.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.masks.stages import (
    multiply_blocks,
    pool,
    pool_buffers,
    product_buffers,
)
from accelsim.program.recording import Recorder
from accelsim.units import ceil_div


class PooledMask(ScoredMask):
    """Mean-pooled Q and K."""

    phases: ClassVar[int] = 2

    def __init__(self, setting: Setting) -> None:
        grid, stored = setting.grid, setting.formats.stored
        self._setting = setting
        q_rows, k_rows = grid.heads * grid.q_blocks, setting.kv_heads * grid.k_blocks
        tensor = setting.builder.tensor
        self._queries = tensor("pooled_q", "intermediate", q_rows, grid.dim, stored)
        self._keys = tensor("pooled_k", "intermediate", k_rows, grid.dim, stored)
        self._pool = pool_buffers(setting)
        self._product = product_buffers(setting, grid.dim)
        self.scores = setting.scores_tensor(grid.heads)
        self.items = q_rows + k_rows + grid.heads * ceil_div(grid.q_blocks, setting.rows)

    def record(self, p: Recorder) -> None:
        """Pool, then multiply."""
        setting, grid, hbm = self._setting, self._setting.grid, self._setting.hbm
        dim, stored = grid.dim, setting.formats.stored.code
        pool(
            p, 0, hbm.q, self._queries, grid.heads, grid.q_len, grid.block, dim, stored, self._pool
        )
        pool(
            p,
            0,
            hbm.k,
            self._keys,
            setting.kv_heads,
            grid.kv_len,
            grid.block,
            dim,
            stored,
            self._pool,
        )
        multiply_blocks(
            p,
            1,
            self._queries,
            self._keys,
            self.scores,
            grid,
            dim,
            setting.rows,
            dim**-0.5,
            stored,
            self._product,
        )
