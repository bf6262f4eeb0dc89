"""Work items, and transfers between HBM and tiles."""

import numpy as np
import numpy.typing as npt

from accelsim.numerics import movement as arithmetic
from accelsim.program.ops import (
    ENOUGH,
    HAND_OVER,
    HEADER_WORDS,
    ITEM_CAPACITY,
    ITEM_LEFT_OUT,
    ITEM_PHASE,
    ITEM_START,
    ITEM_WORDS,
    LEAVES_OUT,
    MOST_RECORDED,
    NEXT_CUT,
    NUM_BEGUN,
    NUM_INDICES,
    NUM_ITEMS,
    NUM_RECORDED,
    REFUSED_OP,
    TENSOR_SHIFT,
    WORDS,
    Op,
)
from accelsim.program.recording import (
    Recorder,
    Tensor,
    Tile,
    exists,
    has_block,
    has_extent,
    record_op,
    stored_bytes,
)
from accelsim.runtime.callback import call_at
from accelsim.runtime.jit import jit_inner

__all__ = [
    "begin_item",
    "gather",
    "load",
    "load_strided",
    "store",
]

_LOAD, _GATHER, _STORE = Op.LOAD.value, Op.GATHER.value, Op.STORE.value


@jit_inner
def _check_going_on(p: Recorder) -> None:
    # Called where loops begin or load, not for every op, which would halve the speed of recording.
    if (p[NUM_RECORDED] > p[MOST_RECORDED]) | (p[REFUSED_OP] != 0):
        raise OverflowError


@jit_inner
def _hand_over_if_due(p: Recorder) -> None:
    is_full = (p[NUM_RECORDED] >= p[ENOUGH]) | (p[NUM_ITEMS] >= p[ITEM_CAPACITY])
    if is_full | (p[NUM_BEGUN] == p[NEXT_CUT]):
        call_at(p[HAND_OVER])
    p[NUM_BEGUN] += 1


@jit_inner
def begin_item(p: Recorder, phase: int) -> bool:
    """Begin the next work item: the piece of work that is placed on one core.

    Items of a phase may run at the same time on any cores, so none may read what another one of its
    phase stores; items of the next phase start when all of this phase have ended.

    Returns whether anybody wants its ops: a kernel that asks for nothing then saves their time.
    """
    if p[HAND_OVER] != 0:
        _hand_over_if_due(p)
    _check_going_on(p)
    item = p[NUM_ITEMS]
    p[NUM_ITEMS] = item + 1
    if item < p[ITEM_CAPACITY]:
        at = HEADER_WORDS + item * ITEM_WORDS
        p[at + ITEM_START] = p[NUM_RECORDED]
        p[at + ITEM_PHASE] = phase
        p[at + ITEM_LEFT_OUT] = 0
    is_wanted: bool = p[LEAVES_OUT] == 0
    return is_wanted


@jit_inner
def load(p: Recorder, dst: Tile, src: Tensor, row: int, col: int) -> None:
    """Copy from HBM to a tile, which becomes src[row:row+rows, col:col+cols]."""
    _check_going_on(p)
    rows, cols = dst.rows, dst.cols
    fits = exists(p, dst) and has_block(p, src, row, col, rows, cols)
    address = src.address + row * src.row_bytes + stored_bytes(src.bits, col)
    head = _LOAD | (src.number << TENSOR_SHIFT)
    record_op(p, head, 0, dst.slot, address, rows, stored_bytes(src.bits, cols), src.row_bytes)
    if fits:
        arithmetic.copy_block(dst.data, src.data, row, col, rows, cols)


@jit_inner
def load_strided(p: Recorder, dst: Tile, src: Tensor, row: int, step: int) -> None:
    """Copy the first elements of every `step`-th row, from src[row] on, to a tile."""
    rows, cols = dst.rows, dst.cols
    # Steps back or beyond the tensor are cut to the first that is refused, lest the product wraps.
    seen_rows = (rows - 1) * min(max(step, -1), src.rows) + 1
    fits = exists(p, dst) and has_block(p, src, row, 0, seen_rows, cols)
    address, row_bytes = src.address + row * src.row_bytes, stored_bytes(src.bits, cols)
    head = _LOAD | (src.number << TENSOR_SHIFT)
    record_op(p, head, 0, dst.slot, address, rows, row_bytes, step * src.row_bytes)
    if fits:
        arithmetic.copy_strided(dst.data, src.data, row, step, rows, cols)


@jit_inner
def gather(p: Recorder, dst: Tile, src: Tensor, indices: Tile, first_row: int, col: int) -> None:
    """Copy the rows src[first_row + indices[0, :], col:col+cols] from HBM to a tile.

    indices: a tile of an index buffer with a column for each row of dst. The memory sees the real
    addresses.
    """
    _check_going_on(p)
    rows, cols, numbers, first_index = dst.rows, dst.cols, indices.data[0], p[NUM_INDICES]
    fits = exists(p, dst) and has_extent(p, indices, 1, rows)
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
    has: bool = has_block(p, src, first_row + lowest, col, 1, cols)
    has &= has_block(p, src, first_row + highest, col, 1, cols)
    return has


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
def store(p: Recorder, dst: Tensor, row: int, col: int, src: Tile) -> None:
    """Copy a tile to dst[row:row+rows, col:col+cols] in HBM."""
    rows, cols = src.rows, src.cols
    fits = exists(p, src) and has_block(p, dst, row, col, rows, cols)
    address = dst.address + row * dst.row_bytes + stored_bytes(dst.bits, col)
    head = _STORE | (dst.number << TENSOR_SHIFT)
    record_op(p, head, src.slot, 0, address, rows, stored_bytes(dst.bits, cols), dst.row_bytes)
    if fits:
        arithmetic.copy_to_block(dst.data, row, col, src.data, rows, cols)
