"""Blocks scored by a small learned gate: pooled Q and K, a linear map each, and their product.

Source: AttnGate of SeerAttention (arXiv 2410.13276): one linear per head on pooled vectors, softmax
of the scaled products. Differences: only mean pooling, after the rotary embedding, and no rotary
embedding of blocks. Weights are fitted offline; see workloads/data/fit_gate.py.

HBM traffic: that of `pooled`, plus one pass through the linears, which reads pooled vectors and
weights and writes gate vectors of `gate_dim` elements, on which the products work.
"""

from typing import ClassVar

from accelsim.kernels.attention.masks.base import ScoredMask, Setting
from accelsim.kernels.attention.masks.stages import (
    multiply_blocks,
    pool,
    pools_of,
    product_of,
    project,
    projections_of,
)
from accelsim.kernels.attention.masks.weights import weights_tensor
from accelsim.program.recording import Recorder


class GateMask(ScoredMask):
    """A learned gate on pooled Q and K."""

    phases: ClassVar[int] = 3

    def __init__(self, setting: Setting) -> None:
        batch, cols, rows = setting.grid.batch, setting.parameters.gate_dim, setting.rows
        self._pools = pools_of(setting)
        queries, keys = (each.means for each in self._pools)
        weights = (
            weights_tensor(setting, "gate_q", queries.heads // batch, cols),
            weights_tensor(setting, "gate_k", keys.heads // batch, cols),
        )
        self._projections = projections_of(
            setting, "gate", (queries, keys), weights, "gated", setting.formats.stored
        )
        self._product = product_of(setting, *(each.result for each in self._projections))
        self.scores = self._product.scores
        pooled = queries.tiles(1) + keys.tiles(1)
        self.items = pooled + 2 * queries.tiles(rows) + keys.tiles(rows)

    def record(self, p: Recorder) -> None:
        """Pool, project, then multiply."""
        for pooled in self._pools:
            pool(p, 0, pooled)
        for projected in self._projections:
            project(p, 1, projected)
        multiply_blocks(p, 2, self._product)
