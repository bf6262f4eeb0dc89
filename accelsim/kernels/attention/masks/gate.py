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
    pool_buffers,
    product_buffers,
    project,
    project_buffers,
)
from accelsim.kernels.attention.masks.weights import weights_tensor
from accelsim.program.recording import Recorder
from accelsim.units import ceil_div


class GateMask(ScoredMask):
    """A learned gate on pooled Q and K."""

    phases: ClassVar[int] = 3

    def __init__(self, setting: Setting) -> None:
        grid, stored, cols = setting.grid, setting.formats.stored, setting.parameters.gate_dim
        self._setting = setting
        q_rows, k_rows = grid.heads * grid.q_blocks, setting.kv_heads * grid.k_blocks
        tensor = setting.builder.tensor
        self._pooled_q = tensor("pooled_q", "intermediate", q_rows, grid.dim, stored)
        self._pooled_k = tensor("pooled_k", "intermediate", k_rows, grid.dim, stored)
        self._weights_q = weights_tensor(setting, "gate_q", grid.heads // grid.batch, cols)
        self._weights_k = weights_tensor(setting, "gate_k", setting.kv_heads // grid.batch, cols)
        self._queries = tensor("gated_q", "intermediate", q_rows, cols, stored)
        self._keys = tensor("gated_k", "intermediate", k_rows, cols, stored)
        self._pool = pool_buffers(setting)
        self._project = project_buffers(setting, "gate", cols, stored)
        self._product = product_buffers(setting, cols)
        self.scores = setting.scores_tensor(grid.heads)
        q_tiles = grid.heads * ceil_div(grid.q_blocks, setting.rows)
        k_tiles = setting.kv_heads * ceil_div(grid.k_blocks, setting.rows)
        self.items = q_rows + k_rows + q_tiles + k_tiles + q_tiles

    def record(self, p: Recorder) -> None:
        """Pool, project, then multiply."""
        setting, grid, hbm = self._setting, self._setting.grid, self._setting.hbm
        stored, cols = setting.formats.stored.code, setting.parameters.gate_dim
        sides = (
            (hbm.q, self._pooled_q, self._weights_q, self._queries, grid.heads, grid.q_len),
            (hbm.k, self._pooled_k, self._weights_k, self._keys, setting.kv_heads, grid.kv_len),
        )
        for x, pooled, _, _, heads, length in sides:
            pool(p, 0, x, pooled, heads, length, grid.block, grid.dim, stored, self._pool)
        for _, pooled, weights, gated, heads, length in sides:
            blocks, rows = ceil_div(length, grid.block), setting.rows
            sizes = (heads, 1, heads // grid.batch, blocks, grid.dim, cols, rows)
            project(p, 1, pooled, weights, gated, *sizes, stored, stored, self._project)
        multiply_blocks(
            p,
            2,
            self._queries,
            self._keys,
            self.scores,
            grid,
            cols,
            setting.rows,
            cols**-0.5,
            stored,
            self._product,
        )
