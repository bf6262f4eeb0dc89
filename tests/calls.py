"""Every call of the kernel language by its name, on operands of any size.

A call works on ROWS x COLS elements (products also on DEPTH). `record` makes tiles of just what it
needs, or of what is `asked`, in buffers of just that size, or of `sizes`.
"""

from enum import IntEnum, auto

import numpy as np

from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.blocks import scale_rule
from accelsim.numerics.formats import Format
from accelsim.numerics.integer import Accumulator
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.runtime.jit import jit, jit_inner

ROWS, COLS, DEPTH = 4, 6, 5
AMPLE = (12, 32)
LARGEST = 2**63 - 1
RADIX, BITONIC = al.Ranking.RADIX.value, al.Ranking.BITONIC.value
ORDER = [4, 1, 0, 2, 3]
FLOATS = ("dst", "a", "b", "acc", "indices", "runs")
INTEGERS = ("a", "b", "acc", "order")
SCALED = ("a", "b", "acc", "scales_a", "scales_b")
IN_BLOCKS = ("dst", "a", "b", "wide")
BLOCK = 4


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
    KEEP_IN_TURN = auto()
    KEEP_LARGEST = auto()
    SUBTRACT_ROW = auto()
    ADD_ROW = auto()
    MULTIPLY_ROW = auto()
    SCALE = auto()
    ADD_SCALAR = auto()
    MAXIMUM_SCALAR = auto()
    DIVIDE_SCALAR = auto()
    EXP = auto()
    SQUARE_ROOT = auto()
    MAGNITUDE = auto()
    CONVERT = auto()
    MASK_ABOVE_DIAGONAL = auto()
    MASK_OUTSIDE_WINDOW = auto()
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
    KTH_LARGEST_STORED = auto()
    COMPACT = auto()
    EXPAND_RUNS = auto()
    WRITE_COLUMN = auto()
    READ_ELEMENT = auto()
    INT_MATMUL = auto()
    SHIFT_ACCUMULATE = auto()
    HADAMARD = auto()
    RUN_PEAKS = auto()
    BLOCK_SCALES = auto()
    BLOCK_STEPS = auto()
    BLOCK_ELEMENTS = auto()
    MULTIPLY_ROW_RUNS = auto()
    SCALED_MATMUL = auto()
    ALIGNED_MATMUL = auto()


def _among(call, first, last):
    return first <= call <= last


def needs(call, rows=ROWS, cols=COLS, depth=DEPTH):
    """Return rows and columns of the tiles, and of the tensors, that a call needs."""
    whole, column, row = (rows, cols), (rows, 1), (1, cols)
    product = {"acc": whole, "a": (rows, depth), "b": (depth, cols)}
    blocks, of_runs = -(-depth // BLOCK), (rows, -(-cols // BLOCK))
    scales = {"scales_a": (rows, blocks), "scales_b": (blocks, -(-cols // BLOCK))}
    if _among(call, Call.ADD, Call.KEEP_LARGEST):
        return {"dst": whole, "a": whole, "b": whole if call <= Call.DIVIDE else column}
    if _among(call, Call.SUBTRACT_ROW, Call.MULTIPLY_ROW):
        return {"dst": whole, "a": whole, "b": row}
    if _among(call, Call.SCALE, Call.CONVERT):
        return {"dst": whole, "a": whole}
    return {
        Call.LOAD: {"dst": whole, "src": (1 + rows, 2 + cols)},
        Call.LOAD_STRIDED: {"dst": whole, "src": (1 + 2 * (rows - 1) + 1, cols)},
        Call.GATHER: {"dst": whole, "indices": (1, rows), "src": (1 + rows, 2 + cols)},
        Call.STORE: {"a": whole, "out": (1 + rows, 2 + cols)},
        Call.MATMUL: product,
        Call.MATMUL_TRANSPOSED: product | {"b": (cols, depth)},
        Call.TRANSPOSED: product | {"a": (depth, rows)},
        Call.MOVE: {"dst": whole, "acc": whole},
        Call.MASK_ABOVE_DIAGONAL: {"dst": whole},
        Call.MASK_OUTSIDE_WINDOW: {"dst": whole},
        Call.FILL: {"dst": whole},
        Call.FILL_COLUMNS: {"dst": (rows, 3 + cols)},
        Call.FILL_ROWS: {"dst": (3 + rows, cols)},
        Call.ROW_MAX: {"dst": column, "a": whole},
        Call.ROW_SUM: {"dst": column, "a": whole},
        Call.COLUMN_SUM: {"dst": row, "a": whole},
        Call.SEGMENT_SUM: {"dst": (rows, -(-cols // 4)), "a": whole},
        Call.TILE_MAX: {"dst": (1, 3), "a": whole},
        Call.KTH_LARGEST_BY_DIGITS: {"dst": column, "a": whole},
        Call.KTH_LARGEST_BY_SORTING: {"dst": column, "a": whole, "b": (rows, _width(cols))},
        Call.KTH_LARGEST_STORED: {"dst": column, "src": (1 + rows, cols)},
        Call.COMPACT: {"dst": whole, "a": whole, "indices": row},
        Call.EXPAND_RUNS: {"indices": (1, rows), "runs": (1, rows * cols)},
        Call.WRITE_COLUMN: {"dst": column},
        Call.READ_ELEMENT: {"dst": column},
        Call.INT_MATMUL: product,
        Call.SHIFT_ACCUMULATE: product | {"order": (1, depth)},
        Call.HADAMARD: {"dst": whole, "a": whole},
        Call.RUN_PEAKS: {"dst": of_runs, "a": whole},
        Call.BLOCK_SCALES: {"dst": whole, "a": whole},
        Call.BLOCK_STEPS: {"dst": whole, "a": whole},
        Call.BLOCK_ELEMENTS: {"dst": whole, "a": whole, "b": of_runs, "wide": whole},
        Call.MULTIPLY_ROW_RUNS: {"dst": whole, "a": whole, "b": (1, of_runs[1])},
        Call.SCALED_MATMUL: product | scales,
        Call.ALIGNED_MATMUL: product | scales,
    }[call]


def _width(cols):
    return 1 << (cols - 1).bit_length() if 0 < cols <= AMPLE[1] else cols


WITHOUT_COLS = {Call.WRITE_COLUMN, Call.READ_ELEMENT}
WITH_BLOCKS = {
    Call.HADAMARD,
    Call.RUN_PEAKS,
    Call.BLOCK_SCALES,
    Call.BLOCK_STEPS,
    Call.BLOCK_ELEMENTS,
    Call.MULTIPLY_ROW_RUNS,
}
WITH_SCALES = {Call.SCALED_MATMUL, Call.ALIGNED_MATMUL}
WITH_DEPTH = {
    *WITH_SCALES,
    Call.MATMUL,
    Call.MATMUL_TRANSPOSED,
    Call.TRANSPOSED,
    Call.INT_MATMUL,
}
INTEGER = {Call.INT_MATMUL, Call.SHIFT_ACCUMULATE, Call.ALIGNED_MATMUL}
MAY_BE_LARGER = {
    (Call.ROW_MAX, "a", 1),
    (Call.ROW_SUM, "a", 1),
    (Call.COLUMN_SUM, "a", 0),
    (Call.SEGMENT_SUM, "a", 1),  # 7 columns have as many segments as 6
    (Call.RUN_PEAKS, "a", 1),
    (Call.TILE_MAX, "a", 0),
    (Call.TILE_MAX, "a", 1),
    (Call.TILE_MAX, "dst", 1),  # one of its columns is written
    (Call.KTH_LARGEST_BY_DIGITS, "a", 1),
    (Call.KTH_LARGEST_BY_SORTING, "a", 1),  # 7 keys are sorted in 8 columns, as 6 are
    (Call.KTH_LARGEST_BY_SORTING, "b", 1),
    (Call.COMPACT, "dst", 1),
    (Call.COMPACT, "indices", 0),
    (Call.COMPACT, "indices", 1),
    (Call.SHIFT_ACCUMULATE, "a", 1),  # channels that no group has
    (Call.SHIFT_ACCUMULATE, "b", 0),
    (Call.SHIFT_ACCUMULATE, "order", 0),
    (Call.SHIFT_ACCUMULATE, "order", 1),
}
"""Calls, operands and axes along which a tile may have more than is needed, all else unchanged."""


@jit_inner
def _transfer(p, call, dst, a, src, out, indices):
    if call == Call.LOAD:
        al.load(p, dst, src, 1, 2)
    elif call == Call.LOAD_STRIDED:
        al.load_strided(p, dst, src, 1, 2)
    elif call == Call.GATHER:
        al.gather(p, dst, src, indices, 1, 2)
    elif call == Call.STORE:
        al.store(p, out, 1, 2, a)


@jit_inner
def _multiply(p, call, dst, a, b, acc):
    if call == Call.MATMUL:
        al.matmul(p, acc, a, b, False)
    elif call == Call.MATMUL_TRANSPOSED:
        al.matmul_transposed(p, acc, a, b, True)
    elif call == Call.TRANSPOSED:
        al.matmul(p, acc, al.transposed(a), b, True)
    elif call == Call.MOVE:
        al.move(p, dst, acc)


@jit_inner
def _combine(p, call, dst, a, b):
    if call == Call.ADD:
        al.add(p, dst, a, b)
    elif call == Call.SUBTRACT:
        al.subtract(p, dst, a, b)
    elif call == Call.MULTIPLY:
        al.multiply(p, dst, a, b)
    elif call == Call.MAXIMUM:
        al.maximum(p, dst, a, b)
    elif call == Call.MINIMUM:
        al.minimum(p, dst, a, b)
    elif call == Call.DIVIDE:
        al.divide(p, dst, a, b)
    elif call == Call.SUBTRACT_COLUMN:
        al.subtract_column(p, dst, a, b)
    elif call == Call.MULTIPLY_COLUMN:
        al.multiply_column(p, dst, a, b)
    elif call == Call.DIVIDE_COLUMN:
        al.divide_column(p, dst, a, b)
    elif call == Call.AT_LEAST:
        al.at_least(p, dst, a, b)
    elif call == Call.KEEP_AT_LEAST:
        al.keep_at_least(p, dst, a, b, 0.0)
    elif call == Call.KEEP_IN_TURN:
        al.keep_in_turn(p, dst, a, b, np.ones(ROWS, np.int64), 0.0)
    elif call == Call.KEEP_LARGEST:
        al.keep_largest(p, dst, a, b, 2, 0.0)
    elif call == Call.SUBTRACT_ROW:
        al.subtract_row(p, dst, a, b)
    elif call == Call.ADD_ROW:
        al.add_row(p, dst, a, b)
    elif call == Call.MULTIPLY_ROW:
        al.multiply_row(p, dst, a, b)


@jit_inner
def _change(p, call, rows, cols, dst, a):
    if call == Call.SCALE:
        al.scale(p, dst, a, 2.0)
    elif call == Call.ADD_SCALAR:
        al.add_scalar(p, dst, a, 2.0)
    elif call == Call.MAXIMUM_SCALAR:
        al.maximum_scalar(p, dst, a, 2.0)
    elif call == Call.DIVIDE_SCALAR:
        al.divide_scalar(p, dst, a, 2.0)
    elif call == Call.EXP:
        al.exp(p, dst, a)
    elif call == Call.SQUARE_ROOT:
        al.square_root(p, dst, a)
    elif call == Call.MAGNITUDE:
        al.magnitude(p, dst, a)
    elif call == Call.CONVERT:
        al.convert(p, dst, a)
    elif call == Call.MASK_ABOVE_DIAGONAL:
        al.mask_above_diagonal(p, dst, 0, 0)
    elif call == Call.MASK_OUTSIDE_WINDOW:
        al.mask_outside_window(p, dst, 0, 0, 2, 1)
    elif call == Call.FILL:
        al.fill(p, dst, 1.0)
    elif call == Call.FILL_COLUMNS:
        al.fill(p, al.columns(dst, 3, cols), 1.0)
    elif call == Call.FILL_ROWS:
        al.fill(p, al.rows_from(dst, 3, rows), 1.0)


@jit_inner
def _reduce(p, call, dst, a):
    if call == Call.ROW_MAX:
        al.row_max(p, dst, a)
    elif call == Call.ROW_SUM:
        al.row_sum(p, dst, a)
    elif call == Call.COLUMN_SUM:
        al.column_sum(p, dst, a)
    elif call == Call.SEGMENT_SUM:
        al.segment_sum(p, dst, a, 4)
    elif call == Call.TILE_MAX:
        al.tile_max(p, dst, 2, a)


@jit_inner
def _select(p, call, rows, cols, dst, a, b, indices, runs, values):
    if call == Call.KTH_LARGEST_BY_DIGITS:
        al.kth_largest(p, dst, b, a, 2, RADIX)
    elif call == Call.KTH_LARGEST_BY_SORTING:
        al.kth_largest(p, dst, b, a, 2, BITONIC)
    elif call == Call.COMPACT:
        al.compact(p, dst, indices, a, 0.5, 2)
    elif call == Call.EXPAND_RUNS:
        al.expand_runs(p, runs, indices, cols)
    elif call == Call.WRITE_COLUMN:
        al.write_column(p, dst, values)
    elif call == Call.READ_ELEMENT:
        al.read_element(p, dst, rows - 1)


@jit_inner
def _asked(buffer, index, asked):
    return al.tile(buffer, 0, asked[index, 0], asked[index, 1])


@jit
def _floats(p, call, rows, cols, asked, dst, a, b, acc, indices, runs, src, out, values):
    al.begin_item(p, 0)
    if call == Call.KTH_LARGEST_STORED:
        room = np.zeros(ROWS, np.int64)
        al.kth_largest_stored(p, _asked(dst, 0, asked), b, src, (1, cols), 2, room)
    dst, a, b = _asked(dst, 0, asked), _asked(a, 1, asked), _asked(b, 2, asked)
    acc, indices, runs = _asked(acc, 3, asked), _asked(indices, 4, asked), _asked(runs, 5, asked)
    _transfer(p, call, dst, a, src, out, indices)
    _multiply(p, call, dst, a, b, acc)
    _combine(p, call, dst, a, b)
    _change(p, call, rows, cols, dst, a)
    _reduce(p, call, dst, a)
    _select(p, call, rows, cols, dst, a, b, indices, runs, values)


@jit
def _integers(p, call, asked, first, starts, accumulator, a, b, acc, order):
    al.begin_item(p, 0)
    a, b, acc = _asked(a, 0, asked), _asked(b, 1, asked), _asked(acc, 2, asked)
    if call == Call.INT_MATMUL:
        al.int_matmul(p, acc, a, b, accumulator, False)
    else:
        groups = al.groups_from(_asked(order, 3, asked), starts, first, 2)
        al.shift_accumulate(p, acc, a, b, groups, accumulator, False)


@jit
def _in_blocks(p, call, asked, rule, dst, a, b, wide):
    al.begin_item(p, 0)
    dst, a = _asked(dst, 0, asked), _asked(a, 1, asked)
    b, wide = _asked(b, 2, asked), _asked(wide, 3, asked)
    if call == Call.HADAMARD:
        al.hadamard(p, dst, a, 2)
    elif call == Call.RUN_PEAKS:
        al.run_peaks(p, dst, a, BLOCK)
    elif call == Call.BLOCK_SCALES:
        al.block_scales(p, dst, a, rule, 1.0)
    elif call == Call.BLOCK_STEPS:
        al.block_steps(p, dst, a, 1.0, 1.0)
    elif call == Call.BLOCK_ELEMENTS:
        al.block_elements(p, dst, wide, a, b, BLOCK, False)
    elif call == Call.MULTIPLY_ROW_RUNS:
        al.multiply_row_runs(p, dst, a, b, BLOCK)


@jit
def _scaled(p, asked, a, b, acc, scales_a, scales_b):
    al.begin_item(p, 0)
    left = al.Scaled(_asked(a, 0, asked), _asked(scales_a, 3, asked), BLOCK, 1)
    right = al.Scaled(_asked(b, 1, asked), _asked(scales_b, 4, asked), BLOCK, BLOCK)
    al.scaled_matmul(p, _asked(acc, 2, asked), left, right, False)


@jit
def _aligned(p, asked, a, b, acc, scales_a, scales_b):
    al.begin_item(p, 0)
    left = al.Scaled(_asked(a, 0, asked), _asked(scales_a, 3, asked), BLOCK, 1)
    right = al.Scaled(_asked(b, 1, asked), _asked(scales_b, 4, asked), BLOCK, BLOCK)
    al.aligned_matmul(p, _asked(acc, 2, asked), left, right, 0, Accumulator(32, False), False)


def _as_array(names, asked):
    clipped = [
        [max(-LARGEST, min(each, LARGEST)) for each in asked.get(name, (1, 1))] for name in names
    ]
    return np.array(clipped, np.int64)


def record(
    call,
    with_numbers,
    rows=ROWS,
    cols=COLS,
    depth=DEPTH,
    sizes=None,
    asked=None,
    numbers=range(ROWS),
    values=ROWS,
    order=ORDER,
    first=0,
    starts=(0, 2, DEPTH),
):
    """Record one call on tiles of what it needs or is `asked`, in buffers of `sizes`."""
    sizes = needs(call) | (sizes or {})
    asked = needs(call, rows, cols, depth) | (asked or {})
    builder = ProgramBuilder("extents", with_numbers=with_numbers)
    fmt = Format.INT8 if call in INTEGER else Format.FP32

    def buffer(name, memory="scratchpad", fmt=fmt):
        return builder.buffer(name, *sizes.get(name, AMPLE), fmt, memory=memory)

    a, b = buffer("a"), buffer("b")
    if with_numbers:
        b.data[:] = 1
    if call in WITH_BLOCKS:
        rule, fours = scale_rule(BlockFormat.NVFP4.layout), _as_array(IN_BLOCKS, asked)
        buffers = (buffer("dst"), a, b, buffer("wide"))
        return builder.record(_in_blocks, 1, call.value, fours, rule, *buffers)
    if call in WITH_SCALES:
        sums = Format.INT32 if call in INTEGER else Format.FP32
        acc = buffer("acc", "accumulator", sums)
        scales = [buffer(name, fmt=Format.E8M0) for name in ("scales_a", "scales_b")]
        kernel = _aligned if call in INTEGER else _scaled
        return builder.record(kernel, 1, _as_array(SCALED, asked), a, b, acc, *scales)
    if call in INTEGER:
        acc = buffer("acc", "accumulator", Format.INT32)
        channels = buffer("order", "index_buffer", Format.INT32)
        if with_numbers:
            channels.data[0, 0, : len(order)] = order[: channels.cols]
        arguments = (first, np.array(starts), Accumulator(32, False), a, b, acc, channels)
        return builder.record(_integers, 1, call.value, _as_array(INTEGERS, asked), *arguments)
    dst, acc = buffer("dst"), buffer("acc", "accumulator")
    src = builder.tensor("src", "input", *sizes.get("src", AMPLE), Format.FP32)
    out = builder.tensor("out", "output", *sizes.get("out", AMPLE), Format.FP32)
    indices, runs = (
        builder.index_buffer(name, sizes.get(name, AMPLE)[1]) for name in ("indices", "runs")
    )
    listed = list(numbers)[: indices.cols]
    indices.data[0, 0, : len(listed)] = listed
    arguments = (dst, a, b, acc, indices, runs, src, out, np.ones(values))
    return builder.record(_floats, 1, call.value, rows, cols, _as_array(FLOATS, asked), *arguments)
