"""The kernel language: each function records one op of a tile program and computes its numbers.

A kernel is a jitted loop over tiles that calls these functions. `p` is the program being recorded.
Tensors lie in HBM, buffers in the scratchpad or the accumulator; `tile(buffer, turn)` is what an op
reads or writes. Nothing here waits: an op waits for earlier ops on the tiles it touches. With
`data=None` in tensors and buffers only the program is recorded, by the same code. `fmt` arguments
are the integer codes of `accelsim.numerics.formats`.

Worked example: docs/kernel-language.md.
"""

import numpy as np
import numpy.typing as npt

from accelsim.jit import jit_inner
from accelsim.numerics import tile as arithmetic
from accelsim.program.old.recording import (
    Buffer,
    Recorder,
    Tensor,
    Tile,
    has_block,
    holds,
    record_map,
    record_op,
    record_pair,
    record_vector,
    stored_bytes,
)
from accelsim.program.ops import (
    ACCUMULATOR_SHIFT,
    BITS_B_SHIFT,
    HEADER_WORDS,
    ITEM_CAPACITY,
    ITEM_PHASE,
    ITEM_START,
    ITEM_WORDS,
    MAX_OPS,
    NUM_INDICES,
    NUM_ITEMS,
    NUM_RECORDED,
    OPERAND_SHIFT,
    OUTPUT_SHIFT,
    REFUSED_OP,
    SLOT_BITS,
    TENSOR_SHIFT,
    WORDS,
    Op,
)

_LOAD, _GATHER, _STORE = Op.LOAD.value, Op.GATHER.value, Op.STORE.value
_MATMUL, _MOVE = Op.MATMUL.value, Op.MOVE.value
_ADD, _MULTIPLY, _MAXIMUM = Op.ADD.value, Op.MULTIPLY.value, Op.MAXIMUM.value
_DIVIDE, _EXP, _REDUCE = Op.DIVIDE.value, Op.EXP.value, Op.REDUCE.value
_SELECT, _CONVERT, _FILL = Op.SELECT.value, Op.CONVERT.value, Op.FILL.value
_ACCUMULATOR_BITS = 32


@jit_inner
def tile(buffer: Buffer, turn: int) -> Tile:
    """Return the tile of a buffer for its use number `turn`, slots being used in turn."""
    slot = turn % buffer.slots
    data = arithmetic.select(buffer.data, slot)
    return Tile(buffer.first_slot + slot, buffer.rows, buffer.cols, buffer.fmt, buffer.bits, data)


@jit_inner
def _left(size: int, first: int) -> int:
    # A view that begins outside its tile holds nothing, so that every op on it is refused.
    return max(size - first, 0) if first >= 0 else 0


@jit_inner
def columns(whole: Tile, first: int) -> Tile:
    """Return the columns of a tile from `first` on. An op on them waits as for the whole tile."""
    cols = _left(whole.cols, first)
    data = arithmetic.columns_from(whole.data, whole.cols - cols)
    return Tile(whole.slot, whole.rows, cols, whole.fmt, whole.bits, data)


@jit_inner
def rows_from(whole: Tile, first: int) -> Tile:
    """Return the rows of a tile from `first` on. An op on them waits as for the whole tile."""
    rows = _left(whole.rows, first)
    data = arithmetic.rows_from(whole.data, whole.rows - rows)
    return Tile(whole.slot, rows, whole.cols, whole.fmt, whole.bits, data)


@jit_inner
def transposed(whole: Tile, rows: int, cols: int) -> Tile:
    """Return whole[rows, cols]^T, for matrix units, which read rows and columns alike.

    An op on it waits as for the whole tile. Rows and columns that are not there are left out.
    """
    rows, cols = min(max(rows, 0), whole.rows), min(max(cols, 0), whole.cols)
    data = arithmetic.transposed(whole.data, rows, cols)
    return Tile(whole.slot, cols, rows, whole.fmt, whole.bits, data)


@jit_inner
def _check_going_on(p: Recorder) -> None:
    # Called where loops begin or load, not for every op, which would halve the speed of recording.
    if (p[NUM_RECORDED] > MAX_OPS) | (p[REFUSED_OP] != 0):
        raise OverflowError


@jit_inner
def begin_item(p: Recorder, phase: int) -> None:
    """Begin the next work item: the piece of work that is placed on one core.

    Items of a phase may run at the same time on any cores, so none may read what another one of its
    phase stores; items of the next phase start when all of this phase have ended.
    """
    _check_going_on(p)
    item = p[NUM_ITEMS]
    p[NUM_ITEMS] = item + 1
    if item < p[ITEM_CAPACITY]:
        at = HEADER_WORDS + item * ITEM_WORDS
        p[at + ITEM_START] = p[NUM_RECORDED]
        p[at + ITEM_PHASE] = phase


@jit_inner
def load(p: Recorder, dst: Tile, src: Tensor, row: int, col: int, rows: int, cols: int) -> None:
    """Copy src[row:row+rows, col:col+cols] from HBM to a tile."""
    _check_going_on(p)
    fits = holds(p, dst, rows, cols) & has_block(p, src, row, col, rows, cols)
    address = src.address + row * src.row_bytes + stored_bytes(src.bits, col)
    head = _LOAD | (src.number << TENSOR_SHIFT)
    record_op(p, head, 0, dst.slot, address, rows, stored_bytes(src.bits, cols), src.row_bytes)
    if fits:
        arithmetic.copy_block(dst.data, src.data, row, col, rows, cols)


@jit_inner
def _has_rows(
    p: Recorder,
    src: Tensor,
    numbers: npt.NDArray[np.int32],
    first_row: int,
    rows: int,
    col: int,
    cols: int,
) -> bool:
    lowest = highest = numbers[0]
    for i in range(1, rows):
        lowest, highest = min(lowest, numbers[i]), max(highest, numbers[i])
    has_lowest = has_block(p, src, first_row + lowest, col, 1, cols)
    return has_lowest & has_block(p, src, first_row + highest, col, 1, cols)


@jit_inner
def _record_indices(p: Recorder, indices: npt.NDArray[np.int32], count: int) -> None:
    # Indices grow downward from the end of the recorder, toward the ops.
    first = p[NUM_INDICES]
    p[NUM_INDICES] = first + count
    ops_end = HEADER_WORDS + p[ITEM_CAPACITY] * ITEM_WORDS + p[NUM_RECORDED] * WORDS
    if ops_end <= p.size - p[NUM_INDICES]:
        for i in range(count):
            p[p.size - 1 - first - i] = indices[i]


@jit_inner
def gather(
    p: Recorder,
    dst: Tile,
    src: Tensor,
    indices: Tile,
    first_row: int,
    rows: int,
    col: int,
    cols: int,
) -> None:
    """Copy the rows src[first_row + indices[0, :rows], col:col+cols] from HBM to a tile.

    indices: a tile of an index buffer. The memory sees the real addresses.
    """
    _check_going_on(p)
    fits, numbers, first_index = holds(p, dst, rows, cols), indices.data[0], p[NUM_INDICES]
    fits &= holds(p, indices, 1, rows)
    if fits:
        fits = _has_rows(p, src, numbers, first_row, rows, col, cols)
    if fits:
        _record_indices(p, numbers, rows)
    address = src.address + first_row * src.row_bytes + stored_bytes(src.bits, col)
    head = _GATHER | (src.number << TENSOR_SHIFT)
    row_bytes = stored_bytes(src.bits, cols)
    record_op(p, head, indices.slot, dst.slot, address, rows, row_bytes, first_index)
    if fits:
        arithmetic.copy_rows(dst.data, src.data, numbers, first_row, rows, col, cols)


@jit_inner
def store(p: Recorder, dst: Tensor, row: int, col: int, src: Tile, rows: int, cols: int) -> None:
    """Copy a tile to dst[row:row+rows, col:col+cols] in HBM."""
    fits = holds(p, src, rows, cols) & has_block(p, dst, row, col, rows, cols)
    address = dst.address + row * dst.row_bytes + stored_bytes(dst.bits, col)
    head = _STORE | (dst.number << TENSOR_SHIFT)
    record_op(p, head, src.slot, 0, address, rows, stored_bytes(dst.bits, cols), dst.row_bytes)
    if fits:
        arithmetic.copy_to_block(dst.data, row, col, src.data, rows, cols)


@jit_inner
def matmul(
    p: Recorder,
    acc: Tile,
    a: Tile,
    b: Tile,
    m: int,
    n: int,
    k: int,
    fmt: int,
    acc_fmt: int,
    accumulate: bool,
) -> None:
    """acc[m, n] = a[m, k] b[k, n], added to acc if `accumulate`; operands in `fmt`."""
    fits = holds(p, acc, m, n) & holds(p, a, m, k) & holds(p, b, k, n)
    reads = a.slot | (b.slot << SLOT_BITS)
    if accumulate:
        reads |= acc.slot << (2 * SLOT_BITS)
    head = _MATMUL | (fmt << OPERAND_SHIFT) | (acc_fmt << ACCUMULATOR_SHIFT)
    record_op(p, head, reads, acc.slot, m, n, k, a.bits | (b.bits << BITS_B_SHIFT))
    if fits:
        arithmetic.multiply_accumulate(acc.data, a.data, b.data, m, n, k, acc_fmt, accumulate)


@jit_inner
def matmul_transposed(
    p: Recorder,
    acc: Tile,
    a: Tile,
    b: Tile,
    m: int,
    n: int,
    k: int,
    fmt: int,
    acc_fmt: int,
    accumulate: bool,
) -> None:
    """acc[m, n] = a[m, k] b[n, k]^T, added to acc if `accumulate`; operands in `fmt`."""
    holds(p, b, n, k)
    matmul(p, acc, a, transposed(b, n, k), m, n, k, fmt, acc_fmt, accumulate)


@jit_inner
def move(
    p: Recorder, dst: Tile, acc: Tile, rows: int, cols: int, acc_fmt: int, out_fmt: int
) -> None:
    """Move an accumulator tile to the scratchpad, converted to `out_fmt` on the way."""
    fits = holds(p, dst, rows, cols) & holds(p, acc, rows, cols)
    head = _MOVE | (acc_fmt << ACCUMULATOR_SHIFT) | (out_fmt << OUTPUT_SHIFT)
    read_bytes = stored_bytes(_ACCUMULATOR_BITS, rows * cols)
    written_bytes = stored_bytes(dst.bits, rows * cols)
    record_op(p, head, acc.slot, dst.slot, rows, cols, read_bytes, written_bytes)
    if fits:
        arithmetic.convert(dst.data, acc.data, rows, cols, out_fmt)


@jit_inner
def add(p: Recorder, dst: Tile, a: Tile, b: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = a + b."""
    if record_pair(p, _ADD, fmt, dst, a, b, rows, cols, rows, cols):
        arithmetic.add(dst.data, a.data, b.data, rows, cols, fmt)


@jit_inner
def subtract(p: Recorder, dst: Tile, a: Tile, b: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = a - b."""
    if record_pair(p, _ADD, fmt, dst, a, b, rows, cols, rows, cols):
        arithmetic.subtract(dst.data, a.data, b.data, rows, cols, fmt)


@jit_inner
def multiply(p: Recorder, dst: Tile, a: Tile, b: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = a b, element by element."""
    if record_pair(p, _MULTIPLY, fmt, dst, a, b, rows, cols, rows, cols):
        arithmetic.multiply(dst.data, a.data, b.data, rows, cols, fmt)


@jit_inner
def maximum(p: Recorder, dst: Tile, a: Tile, b: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = max(a, b), element by element."""
    if record_pair(p, _MAXIMUM, fmt, dst, a, b, rows, cols, rows, cols):
        arithmetic.maximum(dst.data, a.data, b.data, rows, cols)


@jit_inner
def minimum(p: Recorder, dst: Tile, a: Tile, b: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = min(a, b), element by element."""
    if record_pair(p, _MAXIMUM, fmt, dst, a, b, rows, cols, rows, cols):
        arithmetic.minimum(dst.data, a.data, b.data, rows, cols)


@jit_inner
def subtract_column(
    p: Recorder, dst: Tile, a: Tile, column: Tile, rows: int, cols: int, fmt: int
) -> None:
    """Subtract column[r, 0] from row r of a."""
    if record_pair(p, _ADD, fmt, dst, a, column, rows, 1, rows, cols):
        arithmetic.subtract_column(dst.data, a.data, column.data, rows, cols, fmt)


@jit_inner
def subtract_row(
    p: Recorder, dst: Tile, a: Tile, row: Tile, rows: int, cols: int, fmt: int
) -> None:
    """Subtract row[0, c] from column c of a."""
    if record_pair(p, _ADD, fmt, dst, a, row, 1, cols, rows, cols):
        arithmetic.subtract_row(dst.data, a.data, row.data, rows, cols, fmt)


@jit_inner
def multiply_column(
    p: Recorder, dst: Tile, a: Tile, column: Tile, rows: int, cols: int, fmt: int
) -> None:
    """Multiply row r of a by column[r, 0]."""
    if record_pair(p, _MULTIPLY, fmt, dst, a, column, rows, 1, rows, cols):
        arithmetic.multiply_column(dst.data, a.data, column.data, rows, cols, fmt)


@jit_inner
def divide_column(
    p: Recorder, dst: Tile, a: Tile, column: Tile, rows: int, cols: int, fmt: int
) -> None:
    """Divide row r of a by column[r, 0]."""
    if record_pair(p, _DIVIDE, fmt, dst, a, column, rows, 1, rows, cols):
        arithmetic.divide_column(dst.data, a.data, column.data, rows, cols, fmt)


@jit_inner
def scale(p: Recorder, dst: Tile, src: Tile, factor: float, rows: int, cols: int, fmt: int) -> None:
    """dst = src times one scalar of format `fmt`."""
    if record_map(p, _MULTIPLY, fmt, dst, rows, cols, src, rows, cols):
        arithmetic.scale(dst.data, src.data, factor, rows, cols, fmt)


@jit_inner
def exp(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst = e^src."""
    if record_map(p, _EXP, fmt, dst, rows, cols, src, rows, cols):
        arithmetic.exp(dst.data, src.data, rows, cols, fmt)


@jit_inner
def row_max(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst[r, 0] = maximum of row r."""
    if record_map(p, _REDUCE, fmt, dst, rows, 1, src, rows, cols):
        arithmetic.row_max(dst.data, src.data, rows, cols)


@jit_inner
def row_sum(p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int) -> None:
    """dst[r, 0] = sum of row r, each partial sum rounded to `fmt`."""
    if record_map(p, _REDUCE, fmt, dst, rows, 1, src, rows, cols):
        arithmetic.row_sum(dst.data, src.data, rows, cols, fmt)


@jit_inner
def mask_above_diagonal(
    p: Recorder, dst: Tile, row: int, col: int, rows: int, cols: int, fmt: int
) -> None:
    """Set to -inf what lies right of the diagonal, where dst[0, 0] is element (row, col)."""
    if record_map(p, _SELECT, fmt, dst, rows, cols, dst, rows, cols):
        arithmetic.mask_above_diagonal(dst.data, row, col, rows, cols)


@jit_inner
def convert(
    p: Recorder, dst: Tile, src: Tile, rows: int, cols: int, fmt: int, out_fmt: int
) -> None:
    """dst = src rounded to `out_fmt`; `fmt` is the wider of both, which sets the rate."""
    if record_map(p, _CONVERT, fmt, dst, rows, cols, src, rows, cols):
        arithmetic.convert(dst.data, src.data, rows, cols, out_fmt)


@jit_inner
def fill(p: Recorder, dst: Tile, value: float, rows: int, cols: int, fmt: int) -> None:
    """Set every element of a tile to `value`."""
    if record_vector(p, _FILL, fmt, dst, rows, cols, 0, 0, rows, cols):
        arithmetic.fill(dst.data, value, rows, cols)
