"""Blocks scored by a small learned gate: pooled Q and K, a linear map each, and their product.

Source: AttnGate of SeerAttention (arXiv 2410.13276): one linear per head on pooled vectors, softmax
of the scaled products. Differences: only mean pooling, after the rotary embedding, and no rotary
embedding of blocks. Weights are fitted offline; see workloads/data/fit_gate.py.

HBM traffic: that of `pooled`, plus one pass through the linears, which reads pooled vectors and
weights and writes gate vectors of `gate_dim` elements, on which the products work.
"""

from accelsim.kernels.attention.sparse.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.sparse.masks.stages import (
    pool_stages,
    product_stage,
    project_stages,
)
from accelsim.kernels.attention.sparse.masks.weights import weights_tensor


def gate_mask(setting: Setting) -> ScoredMask:
    """Declare the mask of a learned gate; raises WorkloadError where weights are missing."""
    batch, cols = setting.grid.batch, setting.parameters.gate_dim
    pools = pool_stages(setting)
    means = queries, keys = pools[0].layout.means, pools[1].layout.means
    weights = (
        weights_tensor(setting, "gate_q", queries.heads // batch, cols),
        weights_tensor(setting, "gate_k", keys.heads // batch, cols),
    )
    stored, names = setting.formats.stored, ("gate", "gated")
    projections = project_stages(setting, 1, names, means, weights, stored)
    product = product_stage(setting, 2, *(each.layout.result for each in projections))
    return ScoredMask(product.layout.scores, (*pools, *projections, product))
