"""Blocks scored by the product of mean query and mean key: one vector stands for a block.

Source: mean pooling as in SpargeAttn (arXiv 2502.18137), without its test of how alike the rows of
a block are, and as in SeerAttention (arXiv 2410.13276), without its learned projection.

HBM traffic of one query head and its KV head: Q and K are read once, (S_q + S_k) d b, and pooled
vectors written once and read by products of R x R blocks: (n_q + n_k) d b written and
(n_q + ceil(n_q / R) n_k) d b read, for n_q and n_k blocks; 4 n_q n_k bytes of scores are written.
"""

from accelsim.kernels.attention.sparse.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.sparse.masks.stages import pool_stages, product_stage


def pooled_mask(setting: Setting) -> ScoredMask:
    """Declare the mask of mean-pooled Q and K."""
    pools = pool_stages(setting)
    product = product_stage(setting, 1, *(each.layout.means for each in pools))
    return ScoredMask(product.layout.scores, (*pools, product))
