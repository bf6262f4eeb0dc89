"""The kernel language, continued: ops that pick some columns of a tile by their values.

What they pick goes into an index buffer, whose tiles `gather` takes. Their numbers are in
`accelsim.numerics.selection`.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from accelsim.jit import jit, jit_inner
from accelsim.numerics import selection as arithmetic
from accelsim.numerics.formats import FP32
from accelsim.program.old.language import columns, convert, fill, rows_from
from accelsim.program.old.recording import (
    Recorder,
    Tile,
    has_numbers,
    holds,
    record_map,
    record_op,
    record_pair,
    record_vector,
    stored_bytes,
)
from accelsim.program.ops import NUM_RECORDED, OPERAND_SHIFT, REFUSED_OP, SLOT_BITS, Op

_ADD, _SELECT, _FILL = Op.ADD.value, Op.SELECT.value, Op.FILL.value
_COMPACT, _EXCHANGE, _HISTOGRAM = Op.COMPACT.value, Op.EXCHANGE.value, Op.HISTOGRAM.value
_DIGIT_BITS = 8


class Ranking(IntEnum):
    """How the vector unit finds the k-th largest of n elements."""

    RADIX = 0
    """One counting pass for each 8-bit digit."""
    BITONIC = 1
    """A sorting network of L (L + 1) / 2 passes, L = log2 n rounded up."""
    MERGE = 2
    """A merge sort of L passes, for a unit that merges in hardware."""


_RADIX, _BITONIC = Ranking.RADIX.value, Ranking.BITONIC.value


@jit_inner
def keep_at_least(
    p: Recorder,
    dst: Tile,
    src: Tile,
    column: Tile,
    otherwise: float,
    rows: int,
    cols: int,
    fmt: int,
) -> None:
    """dst = src where it is not below column[r, 0], and `otherwise` elsewhere."""
    if record_pair(p, _SELECT, fmt, dst, src, column, rows, 1, rows, cols):
        arithmetic.keep_at_least(dst.data, src.data, column.data, otherwise, rows, cols)


@jit_inner
def keep_largest(
    p: Recorder,
    dst: Tile,
    src: Tile,
    column: Tile,
    count: int,
    otherwise: float,
    rows: int,
    cols: int,
    fmt: int,
) -> None:
    """dst = the `count` largest of each row of src, the smallest of which is column[r, 0].

    Of equal elements the first ones stay; what is not kept becomes `otherwise`.
    """
    if record_pair(p, _SELECT, fmt, dst, src, column, rows, 1, rows, cols):
        arithmetic.keep_largest(dst.data, src.data, column.data, count, otherwise, rows, cols)


@jit_inner
def compact(
    p: Recorder,
    dst: Tile,
    indices: Tile,
    src: Tile,
    dropped: float,
    assumed: int,
    rows: int,
    cols: int,
    fmt: int,
) -> int:
    """Move to the front of dst the columns of src where any row differs from `dropped`.

    Their numbers go to `indices`, a tile of an index buffer. Returns how many there are; without
    numbers that is `assumed`, evenly spread. dst may be src.
    """
    # All columns may stay, or what is assumed; less than none is refused as too many are.
    most = assumed if (assumed < 0) | (assumed > cols) else cols
    fits = holds(p, src, rows, cols) & holds(p, dst, rows, most) & holds(p, indices, 1, most)
    count = 0
    if fits:
        count = arithmetic.compact(dst.data, indices.data, src.data, dropped, assumed, rows, cols)
    written = stored_bytes(dst.bits, rows * count) + stored_bytes(indices.bits, count)
    writes = dst.slot | (indices.slot << SLOT_BITS)
    read = stored_bytes(src.bits, rows * cols)
    record_op(p, _COMPACT | (fmt << OPERAND_SHIFT), src.slot, writes, rows, cols, read, written)
    return count


@jit_inner
def expand_runs(p: Recorder, dst: Tile, src: Tile, count: int, length: int) -> None:
    """Turn `count` numbers of runs into the numbers of their `length` rows each.

    Both are tiles of index buffers; 32-bit integers run at the rate of FP32.
    """
    rows, bits = count * length, src.bits * count
    fits = holds(p, src, 1, count) & holds(p, dst, 1, length)
    if fits & record_vector(p, _ADD, FP32, dst, 1, rows, src.slot, bits, 1, rows):
        arithmetic.expand_runs(dst.data, src.data, count, length)


@jit_inner
def write_column(
    p: Recorder, dst: Tile, values: npt.NDArray[np.float64], rows: int, fmt: int
) -> None:
    """dst[r, 0] = values[r], constants that the control core knows."""
    fits = has_numbers(p, values.size, 0, rows)
    if fits & record_vector(p, _FILL, fmt, dst, rows, 1, 0, 0, rows, 1):
        arithmetic.write_column(dst.data, values, rows, fmt)


@jit_inner
def read_element(p: Recorder, src: Tile, row: int) -> float:
    """Return src[row, 0] to the control core, which costs nothing; NaN without numbers."""
    value = np.nan
    if holds(p, rows_from(src, row), 1, 1):
        value = arithmetic.element(src.data, row)
    elif p[REFUSED_OP] == p[NUM_RECORDED] + 1:
        # Not the next op is to blame, which may be sound, but what happens before it.
        p[REFUSED_OP] = -p[REFUSED_OP]
    return value


@jit
def sort_width(cols: int) -> int:
    """Return the smallest power of two that is not below `cols`: what a bitonic sort works on."""
    width = 1
    while width < cols:
        width *= 2
    return width


@jit_inner
def _sort_bitonic(p: Recorder, keys: Tile, rows: int, width: int, fmt: int) -> None:
    run = 2
    while run <= width:
        distance = run // 2
        while distance > 0:
            if record_map(p, _EXCHANGE, fmt, keys, rows, width, keys, rows, width):
                arithmetic.bitonic_pass(keys.data, distance, run, rows, width)
            distance //= 2
        run *= 2


@jit_inner
def _sort_merging(p: Recorder, keys: Tile, rows: int, cols: int, fmt: int) -> None:
    run = 1
    while run < cols:
        if record_map(p, _EXCHANGE, fmt, keys, rows, cols, keys, rows, cols):
            arithmetic.merge_pass(keys.data, run, rows, cols)
        run *= 2


@jit_inner
def kth_largest(
    p: Recorder,
    dst: Tile,
    keys: Tile,
    src: Tile,
    k: int,
    ranking: int,
    rows: int,
    cols: int,
    fmt: int,
) -> None:
    """dst[r, 0] = the k-th largest of row r of src.

    keys: work tile of rows x sort_width(cols); a radix ranking does not touch it. Only keys are
    sorted, without their column numbers: the result is a threshold.
    """
    if not _has_rank(p, src, k, rows, cols):
        record_map(p, _HISTOGRAM, fmt, dst, rows, 1, src, rows, cols)
    elif ranking == _RADIX:
        _rank_by_digits(p, dst, src, k, rows, cols, fmt)
    else:
        _rank_by_sorting(p, dst, keys, src, k, ranking, rows, cols, fmt)


@jit_inner
def _has_rank(p: Recorder, src: Tile, k: int, rows: int, cols: int) -> bool:
    # A view with just `cols` columns holds k of them if the k-th largest exists.
    fits: bool = holds(p, src, rows, cols)
    return fits and holds(p, columns(src, src.cols - cols), rows, k)


@jit_inner
def _rank_by_digits(
    p: Recorder, dst: Tile, src: Tile, k: int, rows: int, cols: int, fmt: int
) -> None:
    fits = True
    for _ in range(src.bits // _DIGIT_BITS):
        fits &= record_map(p, _HISTOGRAM, fmt, dst, rows, 1, src, rows, cols)
    if fits:
        arithmetic.radix_select(dst.data, src.data, k, rows, cols)


@jit_inner
def _rank_by_sorting(
    p: Recorder,
    dst: Tile,
    keys: Tile,
    src: Tile,
    k: int,
    ranking: int,
    rows: int,
    cols: int,
    fmt: int,
) -> None:
    width = sort_width(cols)
    if ranking == _BITONIC and width > cols:
        fill(p, keys, -np.inf, rows, width, fmt)
    convert(p, keys, src, rows, cols, fmt, fmt)
    if ranking == _BITONIC:
        _sort_bitonic(p, keys, rows, width, fmt)
    else:
        _sort_merging(p, keys, rows, cols, fmt)
    convert(p, dst, columns(keys, k - 1), rows, 1, fmt, fmt)
