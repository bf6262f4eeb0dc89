"""Sliding window: the keys at most `window` positions away, rounded out to blocks.

Without a causal mask the window lies on both sides.
"""

from accelsim.kernels.attention.masks.grid import Blocks, Grid, blocks_within
from accelsim.kernels.attention.masks.parameters import SparseParameters


def window_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the blocks of the window."""
    return blocks_within(grid, parameters.window)
