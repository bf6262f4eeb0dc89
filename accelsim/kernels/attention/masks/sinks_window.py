"""Attention sinks and a sliding window: the first keys, and the nearest ones.

Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023), by blocks.
"""

import numpy as np

from accelsim.kernels.attention.masks.grid import Blocks, Grid
from accelsim.kernels.attention.masks.parameters import SparseParameters
from accelsim.kernels.attention.masks.window import window_blocks
from accelsim.units import ceil_div


def sinks_window_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the blocks with the first `sinks` keys and those of the window."""
    is_sink = np.arange(grid.k_blocks) < ceil_div(parameters.sinks, grid.block)
    return window_blocks(grid, parameters) | is_sink
