"""The kernel language in one place, for kernels written outside accelsim.

    from accelsim import language as al

Ops, formats, what a kernel declares, and how it is made known; see docs/kernel-language.md.
"""

from accelsim.config.spec import (
    Size,
    SizeOrZero,
    Spec,
)
from accelsim.errors import DoesNotFitError
from accelsim.jit import jit, jit_inner
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import register
from accelsim.kernels.tiling import first_fit, fit_error
from accelsim.numerics.formats import (
    BF16,
    FP8_E4M3,
    FP8_E5M2,
    FP16,
    FP32,
    INT4,
    INT8,
    INT32,
    Format,
)
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old.block_ops import (
    at_least,
    column_sum,
    load_strided,
    segment_sum,
    tile_max,
)
from accelsim.program.old.integer import int_matmul, shift_accumulate
from accelsim.program.old.language import (
    add,
    begin_item,
    columns,
    convert,
    divide_column,
    exp,
    fill,
    gather,
    load,
    mask_above_diagonal,
    matmul,
    matmul_transposed,
    maximum,
    minimum,
    move,
    multiply,
    multiply_column,
    row_max,
    row_sum,
    rows_from,
    scale,
    store,
    subtract,
    subtract_column,
    subtract_row,
    tile,
    transposed,
)
from accelsim.program.old.row_ops import (
    add_scalar,
    divide,
    square_root,
)
from accelsim.program.old.selection import (
    Ranking,
    compact,
    expand_runs,
    keep_at_least,
    keep_largest,
    kth_largest,
    read_element,
    sort_width,
    write_column,
)
from accelsim.program.program import Program
from accelsim.program.recording import (
    Buffer,
    Tensor,
    Tile,
)

__all__ = [
    "BF16",
    "FP8_E4M3",
    "FP8_E5M2",
    "FP16",
    "FP32",
    "INT4",
    "INT8",
    "INT32",
    "Buffer",
    "DoesNotFitError",
    "Format",
    "Kernel",
    "Program",
    "ProgramBuilder",
    "Ranking",
    "Size",
    "SizeOrZero",
    "Spec",
    "Tensor",
    "Tile",
    "add",
    "add_scalar",
    "at_least",
    "begin_item",
    "column_sum",
    "columns",
    "compact",
    "convert",
    "divide",
    "divide_column",
    "exp",
    "expand_runs",
    "fill",
    "first_fit",
    "fit_error",
    "gather",
    "int_matmul",
    "jit",
    "jit_inner",
    "keep_at_least",
    "keep_largest",
    "kth_largest",
    "load",
    "load_strided",
    "mask_above_diagonal",
    "matmul",
    "matmul_transposed",
    "maximum",
    "minimum",
    "move",
    "multiply",
    "multiply_column",
    "read_element",
    "register",
    "row_max",
    "row_sum",
    "rows_from",
    "scale",
    "segment_sum",
    "shift_accumulate",
    "sort_width",
    "square_root",
    "store",
    "subtract",
    "subtract_column",
    "subtract_row",
    "tile",
    "tile_max",
    "transposed",
    "write_column",
]
