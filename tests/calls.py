"""Every call of the kernel language by its name, on operands of any size.

A call asks for ROWS x COLS elements (products also for DEPTH) of operands that are, if nothing else
is said, just as large as it needs.
"""

from enum import IntEnum, auto

import numpy as np

from accelsim.jit import jit, jit_inner
from accelsim.numerics.formats import FP32, Format
from accelsim.numerics.integer import Accumulator
from accelsim.program.builder import ProgramBuilder
from accelsim.program.old import block_ops, integer, language, quantizing, row_ops, selection
from accelsim.program.old.language import begin_item, columns, fill, rows_from, tile, transposed
from accelsim.program.old.selection import Ranking

ROWS, COLS, DEPTH = 4, 6, 5
WHOLE, COLUMN, ROW = (ROWS, COLS), (ROWS, 1), (1, COLS)
AMPLE = (12, 32)
RADIX, BITONIC = Ranking.RADIX.value, Ranking.BITONIC.value
ORDER = [4, 1, 0, 2, 3]


class Call(IntEnum):
    LOAD = auto()
    LOAD_STRIDED = auto()
    GATHER = auto()
    STORE = auto()
    MATMUL = auto()
    MATMUL_TRANSPOSED = auto()
    TRANSPOSED = auto()
    MOVE = auto()
    ADD = auto()
    SUBTRACT = auto()
    MULTIPLY = auto()
    MAXIMUM = auto()
    MINIMUM = auto()
    DIVIDE = auto()
    SUBTRACT_COLUMN = auto()
    MULTIPLY_COLUMN = auto()
    DIVIDE_COLUMN = auto()
    AT_LEAST = auto()
    KEEP_AT_LEAST = auto()
    KEEP_LARGEST = auto()
    SUBTRACT_ROW = auto()
    ADD_ROW = auto()
    MULTIPLY_ROW = auto()
    SCALE = auto()
    ADD_SCALAR = auto()
    EXP = auto()
    SQUARE_ROOT = auto()
    MAGNITUDE = auto()
    CONVERT = auto()
    MASK_ABOVE_DIAGONAL = auto()
    FILL = auto()
    FILL_COLUMNS = auto()
    FILL_ROWS = auto()
    ROW_MAX = auto()
    ROW_SUM = auto()
    COLUMN_SUM = auto()
    SEGMENT_SUM = auto()
    TILE_MAX = auto()
    KTH_LARGEST_BY_DIGITS = auto()
    KTH_LARGEST_BY_SORTING = auto()
    COMPACT = auto()
    EXPAND_RUNS = auto()
    WRITE_COLUMN = auto()
    READ_ELEMENT = auto()
    INT_MATMUL = auto()
    SHIFT_ACCUMULATE = auto()


PAIR = {"dst": WHOLE, "a": WHOLE, "b": WHOLE}
WITH_COLUMN = {"dst": WHOLE, "a": WHOLE, "b": COLUMN}
WITH_ROW = {"dst": WHOLE, "a": WHOLE, "b": ROW}
MAP = {"dst": WHOLE, "a": WHOLE}
TO_COLUMN = {"dst": COLUMN, "a": WHOLE}
PRODUCT = {"acc": WHOLE, "a": (ROWS, DEPTH), "b": (DEPTH, COLS)}
NEEDS = {
    **dict.fromkeys(range(Call.ADD, Call.DIVIDE + 1), PAIR),
    **dict.fromkeys(range(Call.SUBTRACT_COLUMN, Call.KEEP_LARGEST + 1), WITH_COLUMN),
    **dict.fromkeys(range(Call.SUBTRACT_ROW, Call.MULTIPLY_ROW + 1), WITH_ROW),
    **dict.fromkeys(range(Call.SCALE, Call.CONVERT + 1), MAP),
    Call.LOAD: {"dst": WHOLE, "src": (1 + ROWS, 2 + COLS)},
    Call.LOAD_STRIDED: {"dst": WHOLE, "src": (1 + 2 * (ROWS - 1) + 1, COLS)},
    Call.GATHER: {"dst": WHOLE, "indices": (1, ROWS), "src": (1 + ROWS, 2 + COLS)},
    Call.STORE: {"a": WHOLE, "out": (1 + ROWS, 2 + COLS)},
    Call.MATMUL: PRODUCT,
    Call.MATMUL_TRANSPOSED: PRODUCT | {"b": (COLS, DEPTH)},
    Call.TRANSPOSED: PRODUCT | {"a": (DEPTH, ROWS)},
    Call.MOVE: {"dst": WHOLE, "acc": WHOLE},
    Call.MASK_ABOVE_DIAGONAL: {"dst": WHOLE},
    Call.FILL: {"dst": WHOLE},
    Call.FILL_COLUMNS: {"dst": (ROWS, 3 + COLS)},
    Call.FILL_ROWS: {"dst": (3 + ROWS, COLS)},
    Call.ROW_MAX: TO_COLUMN,
    Call.ROW_SUM: TO_COLUMN,
    Call.COLUMN_SUM: {"dst": ROW, "a": WHOLE},
    Call.SEGMENT_SUM: {"dst": (ROWS, 2), "a": WHOLE},
    Call.TILE_MAX: {"dst": (1, 3), "a": WHOLE},
    Call.KTH_LARGEST_BY_DIGITS: TO_COLUMN,
    Call.KTH_LARGEST_BY_SORTING: TO_COLUMN | {"b": (ROWS, 8)},
    Call.COMPACT: {"dst": WHOLE, "a": WHOLE, "indices": ROW},
    Call.EXPAND_RUNS: {"indices": (1, ROWS), "runs": (1, ROWS * COLS)},
    Call.WRITE_COLUMN: {"dst": COLUMN},
    Call.READ_ELEMENT: {"dst": COLUMN},
    Call.INT_MATMUL: PRODUCT,
    Call.SHIFT_ACCUMULATE: PRODUCT | {"order": (1, DEPTH)},
}
WITHOUT_COLS = {Call.WRITE_COLUMN, Call.READ_ELEMENT}
WITH_DEPTH = {Call.MATMUL, Call.MATMUL_TRANSPOSED, Call.TRANSPOSED, Call.INT_MATMUL}
INTEGER = {Call.INT_MATMUL, Call.SHIFT_ACCUMULATE}


@jit_inner
def _transfer(p, call, rows, cols, dst, a, src, out, indices):
    if call == Call.LOAD:
        language.load(p, dst, src, 1, 2, rows, cols)
    elif call == Call.LOAD_STRIDED:
        block_ops.load_strided(p, dst, src, 1, 2, rows, cols)
    elif call == Call.GATHER:
        language.gather(p, dst, src, indices, 1, rows, 2, cols)
    elif call == Call.STORE:
        language.store(p, out, 1, 2, a, rows, cols)


@jit_inner
def _multiply(p, call, m, n, k, dst, a, b, acc):
    if call == Call.MATMUL:
        language.matmul(p, acc, a, b, m, n, k, FP32, FP32, False)
    elif call == Call.MATMUL_TRANSPOSED:
        language.matmul_transposed(p, acc, a, b, m, n, k, FP32, FP32, True)
    elif call == Call.TRANSPOSED:
        language.matmul(p, acc, transposed(a, k, m), b, m, n, k, FP32, FP32, True)
    elif call == Call.MOVE:
        language.move(p, dst, acc, m, n, FP32, FP32)


@jit_inner
def _combine(p, call, rows, cols, dst, a, b):
    if call == Call.ADD:
        language.add(p, dst, a, b, rows, cols, FP32)
    elif call == Call.SUBTRACT:
        language.subtract(p, dst, a, b, rows, cols, FP32)
    elif call == Call.MULTIPLY:
        language.multiply(p, dst, a, b, rows, cols, FP32)
    elif call == Call.MAXIMUM:
        language.maximum(p, dst, a, b, rows, cols, FP32)
    elif call == Call.MINIMUM:
        language.minimum(p, dst, a, b, rows, cols, FP32)
    elif call == Call.DIVIDE:
        row_ops.divide(p, dst, a, b, rows, cols, FP32)
    elif call == Call.SUBTRACT_COLUMN:
        language.subtract_column(p, dst, a, b, rows, cols, FP32)
    elif call == Call.MULTIPLY_COLUMN:
        language.multiply_column(p, dst, a, b, rows, cols, FP32)
    elif call == Call.DIVIDE_COLUMN:
        language.divide_column(p, dst, a, b, rows, cols, FP32)
    elif call == Call.AT_LEAST:
        block_ops.at_least(p, dst, a, b, rows, cols, FP32)
    elif call == Call.KEEP_AT_LEAST:
        selection.keep_at_least(p, dst, a, b, 0.0, rows, cols, FP32)
    elif call == Call.KEEP_LARGEST:
        selection.keep_largest(p, dst, a, b, 2, 0.0, rows, cols, FP32)
    elif call == Call.SUBTRACT_ROW:
        language.subtract_row(p, dst, a, b, rows, cols, FP32)
    elif call == Call.ADD_ROW:
        quantizing.add_row(p, dst, a, b, rows, cols, FP32)
    elif call == Call.MULTIPLY_ROW:
        quantizing.multiply_row(p, dst, a, b, rows, cols, FP32)


@jit_inner
def _change(p, call, rows, cols, dst, a):
    if call == Call.SCALE:
        language.scale(p, dst, a, 2.0, rows, cols, FP32)
    elif call == Call.ADD_SCALAR:
        row_ops.add_scalar(p, dst, a, 2.0, rows, cols, FP32)
    elif call == Call.EXP:
        language.exp(p, dst, a, rows, cols, FP32)
    elif call == Call.SQUARE_ROOT:
        row_ops.square_root(p, dst, a, rows, cols, FP32)
    elif call == Call.MAGNITUDE:
        quantizing.magnitude(p, dst, a, rows, cols, FP32)
    elif call == Call.CONVERT:
        language.convert(p, dst, a, rows, cols, FP32, FP32)
    elif call == Call.MASK_ABOVE_DIAGONAL:
        language.mask_above_diagonal(p, dst, 0, 0, rows, cols, FP32)
    elif call == Call.FILL:
        fill(p, dst, 1.0, rows, cols, FP32)
    elif call == Call.FILL_COLUMNS:
        fill(p, columns(dst, 3), 1.0, rows, cols, FP32)
    elif call == Call.FILL_ROWS:
        fill(p, rows_from(dst, 3), 1.0, rows, cols, FP32)


@jit_inner
def _reduce(p, call, rows, cols, dst, a):
    if call == Call.ROW_MAX:
        language.row_max(p, dst, a, rows, cols, FP32)
    elif call == Call.ROW_SUM:
        language.row_sum(p, dst, a, rows, cols, FP32)
    elif call == Call.COLUMN_SUM:
        block_ops.column_sum(p, dst, a, rows, cols, FP32)
    elif call == Call.SEGMENT_SUM:
        block_ops.segment_sum(p, dst, a, rows, cols, 4, FP32)
    elif call == Call.TILE_MAX:
        block_ops.tile_max(p, dst, 2, a, rows, cols, FP32)


@jit_inner
def _select(p, call, rows, cols, dst, a, b, indices, runs, values):
    if call == Call.KTH_LARGEST_BY_DIGITS:
        selection.kth_largest(p, dst, b, a, 2, RADIX, rows, cols, FP32)
    elif call == Call.KTH_LARGEST_BY_SORTING:
        selection.kth_largest(p, dst, b, a, 2, BITONIC, rows, cols, FP32)
    elif call == Call.COMPACT:
        selection.compact(p, dst, indices, a, 0.5, 2, rows, cols, FP32)
    elif call == Call.EXPAND_RUNS:
        selection.expand_runs(p, runs, indices, rows, cols)
    elif call == Call.WRITE_COLUMN:
        selection.write_column(p, dst, values, rows, FP32)
    elif call == Call.READ_ELEMENT:
        selection.read_element(p, dst, rows - 1)


@jit
def _floats(p, call, rows, cols, depth, dst, a, b, acc, src, out, indices, runs, values):
    begin_item(p, 0)
    dst, a, b, acc = tile(dst, 0), tile(a, 0), tile(b, 0), tile(acc, 0)
    indices, runs = tile(indices, 0), tile(runs, 0)
    _transfer(p, call, rows, cols, dst, a, src, out, indices)
    _multiply(p, call, rows, cols, depth, dst, a, b, acc)
    _combine(p, call, rows, cols, dst, a, b)
    _change(p, call, rows, cols, dst, a)
    _reduce(p, call, rows, cols, dst, a)
    _select(p, call, rows, cols, dst, a, b, indices, runs, values)


@jit
def _integers(p, call, rows, cols, depth, first, starts, accumulator, a, b, acc, order):
    begin_item(p, 0)
    a, b, acc, order = tile(a, 0), tile(b, 0), tile(acc, 0), tile(order, 0)
    if call == Call.INT_MATMUL:
        integer.int_matmul(p, acc, a, b, rows, cols, depth, accumulator, False)
    else:
        integer.shift_accumulate(
            p, acc, a, b, order, starts, first, 2, rows, cols, accumulator, False
        )


def record(
    call,
    with_numbers,
    rows=ROWS,
    cols=COLS,
    depth=DEPTH,
    sizes=None,
    numbers=range(ROWS),
    values=ROWS,
    order=ORDER,
    first=0,
    starts=(0, 2, DEPTH),
):
    """Record one call on operands of what it needs, or of `sizes`."""
    sizes = NEEDS[call] | (sizes or {})
    builder = ProgramBuilder("extents", with_numbers=with_numbers)
    fmt = Format.INT8 if call in INTEGER else Format.FP32

    def buffer(name, memory="scratchpad", fmt=fmt):
        return builder.buffer(name, *sizes.get(name, AMPLE), fmt, memory=memory)

    a, b = buffer("a"), buffer("b")
    if with_numbers:
        b.data[:] = 1
    if call in INTEGER:
        acc = buffer("acc", "accumulator", Format.INT32)
        channels = buffer("order", "index_buffer", Format.INT32)
        if with_numbers:
            channels.data[0, 0, : len(order)] = order[: channels.cols]
        arguments = (first, np.array(starts), Accumulator(32, False), a, b, acc, channels)
        return builder.record(_integers, 1, call.value, rows, cols, depth, *arguments)
    dst, acc = buffer("dst"), buffer("acc", "accumulator")
    src = builder.tensor("src", "input", *sizes.get("src", AMPLE), Format.FP32)
    out = builder.tensor("out", "output", *sizes.get("out", AMPLE), Format.FP32)
    indices, runs = (
        builder.index_buffer(name, sizes.get(name, AMPLE)[1]) for name in ("indices", "runs")
    )
    listed = list(numbers)[: indices.cols]
    indices.data[0, 0, : len(listed)] = listed
    arguments = (dst, a, b, acc, src, out, indices, runs, np.ones(values))
    return builder.record(_floats, 1, call.value, rows, cols, depth, *arguments)
