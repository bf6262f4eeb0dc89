"""Blocks scored by the product of mean query and mean key: one vector stands for a block.

Source: mean pooling as in SpargeAttn (arXiv 2502.18137), without its test of how alike the rows of
a block are, and as in SeerAttention (arXiv 2410.13276), without its learned projection.

HBM traffic of one query head and its KV head: Q and K are read once, (S_q + S_k) d b, and pooled
vectors written once and read by products of R x R blocks: (n_q + n_k) d b written and
(n_q + ceil(n_q / R) n_k) d b read, for n_q and n_k blocks; 4 n_q n_k bytes of scores are written.
"""

from typing import ClassVar

from accelsim.kernels.attention.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.masks.stages import multiply_blocks, pool, pools_of, product_of
from accelsim.program.recording import Recorder


class PooledMask(ScoredMask):
    """Mean-pooled Q and K."""

    phases: ClassVar[int] = 2

    def __init__(self, setting: Setting) -> None:
        self._pools = pools_of(setting)
        queries, keys = (each.means for each in self._pools)
        self._product = product_of(setting, queries, keys)
        self.scores = self._product.scores
        self.items = queries.tiles(1) + keys.tiles(1) + queries.tiles(setting.rows)

    def record(self, p: Recorder) -> None:
        """Pool, then multiply."""
        for each in self._pools:
            pool(p, 0, each)
        multiply_blocks(p, 1, self._product)
