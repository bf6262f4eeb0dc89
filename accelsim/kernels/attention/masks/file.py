"""A block mask that someone else made, from a file."""

from accelsim.errors import WorkloadError
from accelsim.kernels.attention.masks.grid import Blocks, Grid
from accelsim.kernels.attention.masks.parameters import SparseParameters
from accelsim.kernels.files import find_parameter_file
from accelsim.workload.archives import read_arrays


def file_blocks(grid: Grid, parameters: SparseParameters) -> Blocks:
    """Return the array `blocks` [heads or 1, q_blocks, k_blocks] of the file; not 0 means kept.

    Raises WorkloadError if the file is missing, damaged or of another shape.
    """
    if parameters.path is None:
        raise WorkloadError(
            "mask file needs path: sparse(mask=file, path=FILE), with the array 'blocks'"
        )
    cells = (grid.q_blocks, grid.k_blocks)
    shapes = tuple((heads, *cells) for heads in dict.fromkeys((grid.heads, 1)))
    path = find_parameter_file(parameters.path)
    blocks: Blocks = read_arrays(path, {"blocks": shapes})["blocks"] != 0
    return blocks
