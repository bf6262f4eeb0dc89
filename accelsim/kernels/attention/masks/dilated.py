"""Dilated window: the nearest keys, and farther away one key block of every `dilation`.

Source: Beltagy et al., "Longformer" (2020), section 3.1, by blocks instead of keys, so that what is
kept can be loaded as tiles.
"""

from accelsim.kernels.attention.masks.grid import Blocks, Grid, block_distance
from accelsim.kernels.attention.masks.parameters import SparseParameters
from accelsim.kernels.attention.masks.window import window_blocks


def dilated_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the blocks of the window and every `dilation`-th one, counted from the diagonal."""
    return window_blocks(grid, parameters) | (block_distance(grid) % parameters.dilation == 0)
