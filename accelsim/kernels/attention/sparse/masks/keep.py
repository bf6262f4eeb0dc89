"""The blocks that are kept in the end, and how good a choice they are."""

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al
from accelsim.kernels.attention.sparse.masks.fixed import FIXED_MASKS
from accelsim.kernels.attention.sparse.masks.grid import Blocks, Grid, local_blocks, visible_blocks
from accelsim.kernels.attention.sparse.masks.parameters import SparseParameters


def fixed_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the blocks [heads, q_blocks, k_blocks] of a fixed mask; local ones are always kept."""
    kept = FIXED_MASKS[parameters.mask](grid, parameters) & visible_blocks(grid)
    return _for_all_heads(grid, kept | local_blocks(grid))


def chosen_blocks(grid: Grid, chosen: Blocks) -> Blocks:
    """Return a scored mask with what is always kept: the first and the local blocks."""
    always = local_blocks(grid)
    always[:, 0] = True
    return _for_all_heads(grid, (chosen & visible_blocks(grid)) | always)


def assumed_blocks(grid: Grid, density: float) -> Blocks:
    """Return a scored mask of the given density for runs without tensors.

    A query block with n visible blocks keeps round(density n) of them evenly spread, besides the
    first and the local ones, which count.
    """
    visible = visible_blocks(grid)
    always = local_blocks(grid)
    always[:, 0] = True
    kept = always.copy()
    for row in range(grid.q_blocks):
        free = np.flatnonzero(visible[row] & ~always[row])
        wanted = round(density * int(visible[row].sum())) - int(always[row].sum())
        wanted = min(max(wanted, 0), free.size)
        kept[row, free[np.arange(wanted) * free.size // max(wanted, 1)]] = True
    return _for_all_heads(grid, kept)


def density(grid: Grid, kept: Blocks) -> float:
    """Return the share of the visible blocks that is kept."""
    return float(kept.sum() / (grid.heads * visible_blocks(grid).sum()))


def mass_kept(grid: Grid, tensors: al.AttentionTensors, kept: Blocks) -> dict[str, float]:
    """Return `kept_mass`, the softmax mass in the kept blocks, averaged over query rows, and
    `recall`, its share of the mass in as many blocks of each query block chosen by true mass.

    In float64. Nothing is returned if a score is not finite.
    """
    total = best = 0.0
    for head in range(grid.heads):
        masses = _block_masses(grid, tensors, head)
        total += masses[kept[head]].sum()
        ranked = np.sort(masses, axis=1)[:, ::-1]
        best += ranked[np.arange(grid.k_blocks) < kept[head].sum(axis=1, keepdims=True)].sum()
    if not np.isfinite(best):
        return {}
    return {
        "kept_mass": float(total / (grid.heads * grid.q_len)),
        "recall": float(total / best),
    }


def _block_masses(grid: Grid, tensors: al.AttentionTensors, head: int) -> npt.NDArray[np.float64]:
    """Softmax mass of every block of a head, summed over its query rows, [q_blocks, k_blocks]."""
    queries = tensors.q[head].astype(np.float64)
    keys = tensors.k[head // grid.group].astype(np.float64)
    starts = np.arange(grid.k_blocks) * grid.block
    masses = np.empty((grid.q_blocks, grid.k_blocks))
    for i in range(grid.q_blocks):
        rows = np.arange(i * grid.block, min((i + 1) * grid.block, grid.q_len))
        with np.errstate(invalid="ignore", over="ignore"):
            scores = queries[rows] @ keys.T / np.sqrt(grid.dim)
            if grid.causal:
                hidden = np.arange(grid.kv_len) > rows[:, None] + grid.offset
                scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
        masses[i] = np.add.reduceat(weights.sum(axis=0), starts)
    return masses


def _for_all_heads(grid: Grid, blocks: Blocks) -> Blocks:
    heads = blocks.shape[0] if blocks.ndim == 3 else 1
    repeated = np.broadcast_to(
        blocks.reshape(heads, 1, grid.q_blocks, grid.k_blocks),
        (heads, grid.heads // heads, grid.q_blocks, grid.k_blocks),
    )
    return repeated.reshape(grid.heads, grid.q_blocks, grid.k_blocks)
