"""Blocks scored by a small learned gate: pooled Q and K, a linear map each, and their product.

Source: AttnGate of SeerAttention (arXiv 2410.13276): one linear per head on pooled vectors, softmax
of the scaled products. Differences: only mean pooling, after the rotary embedding, and no rotary
embedding of blocks. Weights are fitted offline; see workloads/data/fit_gate.py.

HBM traffic: that of `pooled`, plus one pass through the linears, which reads pooled vectors and
weights and writes gate vectors of `gate_dim` elements, on which the products work.
"""

from accelsim.kernels.attention.sparse.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.sparse.masks.stages import (
    multiplying,
    pooling,
    pools_of,
    product_of,
    projecting,
    projections_of,
)
from accelsim.kernels.attention.sparse.masks.weights import weights_tensor


def gate_mask(setting: Setting) -> ScoredMask:
    """Declare the mask of a learned gate; raises WorkloadError where weights are missing."""
    batch, cols = setting.grid.batch, setting.parameters.gate_dim
    pools = pools_of(setting)
    queries, keys = (each.means for each in pools)
    weights = (
        weights_tensor(setting, "gate_q", queries.heads // batch, cols),
        weights_tensor(setting, "gate_k", keys.heads // batch, cols),
    )
    stored = setting.formats.stored
    projections = projections_of(setting, "gate", (queries, keys), weights, "gated", stored)
    product = product_of(setting, *(each.result for each in projections))
    stages = (*pooling(pools), *projecting(1, projections), multiplying(2, product))
    return ScoredMask(product.scores, stages)
