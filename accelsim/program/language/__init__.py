"""The kernel language: each function records one op of a tile program and computes its numbers.

A kernel is a jitted loop over tiles that calls these functions. `p` is the program being recorded.
Tensors lie in HBM, buffers in the scratchpad or the accumulator; `tile(buffer, turn, rows, cols)`
is what an op reads or writes: it knows its extent and its format. Nothing here waits: an op waits
for earlier ops on the tiles it touches. With `data=None` in tensors and buffers only the program is
recorded, by the same code.

Worked example: docs/kernel-language.md.
"""

from accelsim.program.language.elementwise import (
    add,
    add_row,
    add_scalar,
    at_least,
    convert,
    divide,
    divide_column,
    exp,
    fill,
    magnitude,
    mask_above_diagonal,
    maximum,
    minimum,
    multiply,
    multiply_column,
    multiply_row,
    scale,
    square_root,
    subtract,
    subtract_column,
    subtract_row,
)
from accelsim.program.language.integer import Groups, groups_from, int_matmul, shift_accumulate
from accelsim.program.language.matmul import matmul, matmul_transposed, move
from accelsim.program.language.movement import begin_item, gather, load, load_strided, store
from accelsim.program.language.reductions import (
    column_sum,
    row_max,
    row_sum,
    segment_sum,
    tile_max,
)
from accelsim.program.language.selection import (
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
from accelsim.program.language.tiles import columns, computed_in, rows_from, tile, transposed

__all__ = [
    "Groups",
    "Ranking",
    "add",
    "add_row",
    "add_scalar",
    "at_least",
    "begin_item",
    "column_sum",
    "columns",
    "compact",
    "computed_in",
    "convert",
    "divide",
    "divide_column",
    "exp",
    "expand_runs",
    "fill",
    "gather",
    "groups_from",
    "int_matmul",
    "keep_at_least",
    "keep_largest",
    "kth_largest",
    "load",
    "load_strided",
    "magnitude",
    "mask_above_diagonal",
    "matmul",
    "matmul_transposed",
    "maximum",
    "minimum",
    "move",
    "multiply",
    "multiply_column",
    "multiply_row",
    "read_element",
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
