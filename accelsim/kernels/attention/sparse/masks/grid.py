"""The grid of query blocks and key blocks, and which of its cells a mask may or must keep."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.kernels import language as al

Blocks = npt.NDArray[np.bool_]
"""[heads, q_blocks, k_blocks] or [q_blocks, k_blocks]: True where a block is kept."""


class Grid(NamedTuple):
    """A problem cut into square blocks. Query row i stands at key position i + offset."""

    batch: int
    heads: int
    """Query heads of all sequences."""
    group: int
    """Query heads that share one KV head."""
    q_len: int
    kv_len: int
    dim: int
    block: int
    """Rows and columns of a block, in elements."""
    q_blocks: int
    k_blocks: int
    offset: int
    causal: bool


def grid_of(problem: al.AttentionProblem, block: int) -> Grid:
    """Return the grid of a problem."""
    return Grid(
        batch=problem.batch,
        heads=problem.batch * problem.q_heads,
        group=problem.q_heads // problem.kv_heads,
        q_len=problem.q_len,
        kv_len=problem.kv_len,
        dim=problem.head_dim,
        block=block,
        q_blocks=al.ceil_div(problem.q_len, block),
        k_blocks=al.ceil_div(problem.kv_len, block),
        offset=problem.kv_len - problem.q_len,
        causal=problem.causal,
    )


def visible_blocks(grid: Grid) -> Blocks:
    """Return the blocks [q_blocks, k_blocks] of which a causal mask leaves anything."""
    _, last_key = _key_positions(grid)
    block = np.arange(grid.k_blocks)
    return (block * grid.block <= last_key[:, None]) | (not grid.causal)


def blocks_within(grid: Grid, distance: int) -> Blocks:
    """Return the visible blocks [q_blocks, k_blocks] with a key at most `distance` keys away."""
    first_key, last_key = _key_positions(grid)
    begin = np.arange(grid.k_blocks) * grid.block
    end = begin + grid.block - 1
    near = (end >= first_key[:, None] - distance) & (begin <= last_key[:, None] + distance)
    return near & visible_blocks(grid)


def local_blocks(grid: Grid) -> Blocks:
    """Return the blocks [q_blocks, k_blocks] on the diagonal, one or two for each query block."""
    return blocks_within(grid, 0)


def block_distance(grid: Grid) -> npt.NDArray[np.int64]:
    """Return how many blocks a key block lies before the first local one, [q_blocks, k_blocks]."""
    first_key, _ = _key_positions(grid)
    return first_key[:, None] // grid.block - np.arange(grid.k_blocks)


def _key_positions(grid: Grid) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Key positions of the first and the last row of every query block, inside the keys."""
    first_row = np.arange(grid.q_blocks) * grid.block
    last_row = np.minimum(first_row + grid.block, grid.q_len) - 1
    first, last = (np.clip(row + grid.offset, 0, grid.kv_len - 1) for row in (first_row, last_row))
    return first, last
