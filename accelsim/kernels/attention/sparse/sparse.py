"""Block-sparse attention: online softmax over the key blocks that a mask keeps.

Skipped blocks are neither loaded nor multiplied. Fixed masks come from positions or a file; scored
ones are predicted from Q and K by ops of this program, in phases before the attention itself. The
local blocks are always kept, with scored masks the first one too, so every query row sees a key.

Sources: the masks name theirs (`accelsim.kernels.attention.sparse.masks`); the attention is that of
`flash` with square tiles, and its equal, op for op, if all blocks are kept.

HBM traffic of one head with blocks of B rows, of which n are kept: reads S_q d b + 2 d b times the
rows of the kept key blocks (n B, less where the last one is shorter); writes S_q d b. A map that is
in HBM, of a file or a scored mask, is read once, ceil(S_k / B) bytes for every query block. Scorers
and selection state theirs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al
from accelsim.kernels.attention.flash import online_softmax as online
from accelsim.kernels.attention.kernel import AttentionKernel, Recording, Task
from accelsim.kernels.attention.operands import declare_operands
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.attention.sparse.masks.base import Setting
from accelsim.kernels.attention.sparse.masks.grid import Blocks, grid_of
from accelsim.kernels.attention.sparse.masks.keep import (
    assumed_blocks,
    chosen_blocks,
    density,
    fixed_blocks,
    mass_kept,
)
from accelsim.kernels.attention.sparse.masks.parameters import SparseParameters
from accelsim.kernels.attention.sparse.masks.scored import SCORED_MASKS
from accelsim.kernels.attention.sparse.masks.selection import BlockSelection

Places = npt.NDArray[np.int64]

_LARGEST_BLOCK, _LARGEST_SCORER_TILE, _SMALLEST_TILE = 64, 128, 16


class Kept(NamedTuple):
    """The key blocks blocks[first[h, r]:first[h, r + 1]] that query block r of head h keeps."""

    first: Places
    """[heads, q_blocks + 1]"""
    blocks: Places
    share: int
    """Heads that share the rows of one map."""
    map: al.Tensor
    """The map, if it is in HBM."""
    row: al.Buffer
    """On-chip tiles of its rows."""


@al.jit
def attend(p, phase, kept, k):
    """Every query block meets the key blocks that it keeps."""
    q_blocks = kept.first.shape[1] - 1
    for item in range(q_blocks * k.heads):
        block, head = q_blocks - 1 - item // k.heads, item % k.heads
        al.begin_item(p, phase)
        if kept.map.rows > 0:
            row = al.tile(kept.row, item, 1, kept.row.cols)
            al.load(p, row, kept.map, head // kept.share * q_blocks + block, 0)
        own = kept.blocks[kept.first[head, block] : kept.first[head, block + 1]]
        _query_block(p, own, online.query_rows(item, head, block * k.tile_q, k), k)


@al.jit_inner
def _query_block(p, blocks, at, k):
    """One block of query rows against its kept key blocks, in the order of keys."""
    online.begin_rows(p, at, k)
    online.multiply_keys(p, 0, blocks[0], at, k)
    for turn in range(len(blocks)):
        if turn + 1 < len(blocks):
            online.multiply_keys(p, turn + 1, blocks[turn + 1], at, k)
        online.update_weights(p, turn, blocks[turn], at, k)
        online.add_values(p, turn, blocks[turn], at, k)
    online.finish_rows(p, at, k)


class _Plan:
    """Tensors, buffers and stages of one problem cut into blocks."""

    def __init__(
        self, builder: al.ProgramBuilder, task: Task[SparseParameters], block: int, rows: int
    ) -> None:
        _, problem, machine, parameters, tensors = task
        grid = grid_of(problem, block)
        self.grid, self.parameters, self.tensors = grid, parameters, tensors
        self.formats = step_formats(problem.dtype, parameters.precision)
        self.hbm = declare_operands(builder, problem, tensors)
        self.selection: BlockSelection | None = None
        if parameters.mask in SCORED_MASKS:
            setting = Setting(builder, grid, self.hbm, self.formats, parameters, machine, rows)
            self.selection = BlockSelection(setting, SCORED_MASKS[parameters.mask](setting))
        self.map = self._map(builder)
        self.map_row = builder.no_buffer(al.Format.INT8)
        if self.map.rows > 0:
            self.map_row = builder.buffer("map", 1, grid.k_blocks, al.Format.INT8, slots=2)
        tile_q, tile_k = min(block, problem.q_len), min(block, problem.kv_len)
        buffers = online.allocate(builder, problem.widths, self.formats, tile_q, tile_k)
        self.layout = online.layout_of(problem, self.formats, self.hbm, buffers)

    def _map(self, builder: al.ProgramBuilder) -> al.Tensor:
        """Return the map of kept blocks, if it is in HBM."""
        if self.selection is not None:
            return self.selection.map
        if self.parameters.mask != "file":
            return builder.no_tensor(al.Format.INT8)
        rows, cols = self.grid.heads * self.grid.q_blocks, self.grid.k_blocks
        data = self.kept().reshape(rows, cols).astype(np.int32) if builder.with_numbers else None
        return builder.tensor("block_map", "input", rows, cols, al.Format.INT8, data)

    @property
    def items(self) -> int:
        """Work items of all stages."""
        scoring = self.selection.items if self.selection is not None else 0
        return scoring + self.grid.heads * self.grid.q_blocks

    def run(self, p: al.Recorder) -> None:
        """Score and select, where the mask asks for it, then attend."""
        phase, share = 0, 1
        if self.selection is not None:
            self.selection.record(p)
            phase, share = self.selection.phases, self.selection.share
        attend(p, phase, Kept(*_lists(self.kept()), share, self.map, self.map_row), self.layout)

    def kept(self) -> Blocks:
        """Return the kept blocks [heads, q_blocks, k_blocks]; scored masks must be recorded."""
        if self.selection is None:
            return fixed_blocks(self.grid, self.parameters)
        if self.tensors is None:
            return assumed_blocks(self.grid, self.parameters.assumed_density)
        return chosen_blocks(self.grid, self.selection.chosen())

    def summary(self) -> dict[str, float]:
        """Return what was selected, for the report."""
        kept = self.kept()
        found = {"density": density(self.grid, kept)}
        if self.selection is not None:
            found["fallback_fraction"] = self.selection.fallback_fraction()
        if self.tensors is not None:
            found |= mass_kept(self.grid, self.tensors, kept)
        return found


def _lists(kept: Blocks) -> tuple[Places, Places]:
    """Return where the list of every query block begins, [heads, q_blocks + 1], and the lists."""
    heads, q_blocks, _ = kept.shape
    counts = kept.sum(axis=2)
    ends = np.cumsum(counts).reshape(heads, q_blocks)
    first = np.concatenate([ends[:, :1] - counts[:, :1], ends], axis=1)
    return first.astype(np.int64), np.nonzero(kept)[2].astype(np.int64)


class Sparse(AttentionKernel):
    """Block-sparse attention."""

    name = "sparse"
    summary = "online softmax over key blocks kept by a fixed or predicted mask"
    is_exact = False
    parameters = SparseParameters

    @classmethod
    def selects_by_values(cls, parameters: SparseParameters) -> bool:
        """Return whether the mask is scored."""
        return parameters.mask in SCORED_MASKS

    @classmethod
    def recorded(cls, task: Task[SparseParameters]) -> Recording:
        """Return the program and, with tensors, the output [batch * q_heads * q_len, head_dim].

        Its statistics are density, the share of visible blocks that is kept; of scored masks
        fallback_fraction, the share of query blocks that fell back to all of their keys; and with
        tensors kept_mass and recall, see `mass_kept`.
        """
        alone, asked = task._replace(tensors=None), _tile_candidates(task.parameters)
        sizes = al.first_fit(
            task.name, asked, lambda builder, pair: _Plan(builder, alone, *pair), task.machine
        )
        builder = task.builder()
        plan = _Plan(builder, task, *sizes)
        program = builder.record(plan.run, plan.items).with_parameters(block=sizes[0])
        return program.with_statistics(plan.summary()), plan.hbm.o.data


def _tile_candidates(parameters: SparseParameters) -> list[tuple[int, int]]:
    """Return pairs of block and rows of a scorer tile, the largest first."""
    asked = parameters.block
    blocks = [asked] if asked else al.tile_sizes(_LARGEST_BLOCK, _SMALLEST_TILE)
    rows = al.tile_sizes(_LARGEST_SCORER_TILE, _SMALLEST_TILE)
    return [(block, step) for block in blocks for step in rows]
