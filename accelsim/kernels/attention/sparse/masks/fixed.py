"""Masks that do not look at Q and K: they keep blocks by their positions, or those of a file.

Sources: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (2023), and Beltagy
et al., "Longformer" (2020), section 3.1, for the dilated window; by blocks instead of keys, so that
what is kept can be loaded as tiles.
"""

from collections.abc import Callable, Mapping

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.sparse.masks.grid import Blocks, Grid, block_distance, blocks_within
from accelsim.kernels.attention.sparse.masks.parameters import SparseParameters
from accelsim.kernels.files import find_parameter_file
from accelsim.workload.archives import read_arrays


def window_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the blocks with keys at most `window` positions away.

    Without a causal mask the window lies on both sides.
    """
    return blocks_within(grid, parameters.window)


def sinks_window_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the blocks with the first `sinks` keys and those of the window."""
    is_sink = np.arange(grid.k_blocks) < al.ceil_div(parameters.sinks, grid.block)
    return window_blocks(grid, parameters) | is_sink


def dilated_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the blocks of the window and every `dilation`-th one, counted from the diagonal."""
    return window_blocks(grid, parameters) | (block_distance(grid) % parameters.dilation == 0)


def file_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the array `blocks` [heads or 1, q_blocks, k_blocks] of the file; not 0 means kept.

    Raises WorkloadError if the file is missing, damaged or of another shape.
    """
    if parameters.path is None:
        raise al.WorkloadError(
            "mask file needs path: sparse(mask=file, path=FILE), with the array 'blocks'"
        )
    cells = (grid.q_blocks, grid.k_blocks)
    shapes = tuple((heads, *cells) for heads in dict.fromkeys((grid.heads, 1)))
    path = find_parameter_file(parameters.path)
    blocks: Blocks = read_arrays(path, {"blocks": shapes})["blocks"] != 0
    return blocks


FIXED_MASKS: Mapping[str, Callable[[Grid, SparseParameters], Blocks]] = {
    "window": window_blocks,
    "sinks_window": sinks_window_blocks,
    "dilated": dilated_blocks,
    "file": file_blocks,
}
