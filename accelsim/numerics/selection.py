"""Arithmetic of selection: what picks some columns of a tile, apart from what it costs.

As in `accelsim.numerics.tile`, functions return at once when there are no numbers. NaN is never
dropped: what cannot be compared stays, so that it shows in the result.
"""

import numpy as np
import numpy.typing as npt

from accelsim.numerics.rounding import round_tile
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit_inner

Room = npt.NDArray[np.int64]
"""Of each row, how many more elements are kept that equal the bound."""

_DIGIT_BITS = 8
_KEY_BITS = 32
_DIGITS = 1 << _DIGIT_BITS
_SIGN = 1 << (_KEY_BITS - 1)


@jit_inner
def keep_at_least(
    dst: Data, src: Data, column: Data, otherwise: float, rows: int, cols: int
) -> None:
    """Copy what is not below column[r, 0]; elsewhere write `otherwise`."""
    if dst is None:
        return
    for r in range(rows):
        bound = column[r, 0]
        for c in range(cols):
            dst[r, c] = otherwise if src[r, c] < bound else src[r, c]


@jit_inner
def keep_largest(
    dst: Data, src: Data, column: Data, count: int, otherwise: float, rows: int, cols: int
) -> None:
    """Copy the `count` largest of each row, column[r, 0] being the smallest of them.

    Of equal elements the first ones stay. Elsewhere write `otherwise`.
    """
    if dst is None:
        return
    for r in range(rows):
        bound = column[r, 0]
        room = count
        for c in range(cols):
            if not src[r, c] <= bound:
                room -= 1
        _keep_row(dst[r], src[r], bound, room, otherwise, cols)


@jit_inner
def _keep_row(
    dst: npt.NDArray[np.float32],
    src: npt.NDArray[np.float32],
    bound: np.float32,
    room: int,
    otherwise: float,
    cols: int,
) -> int:
    """Copy what is above a bound, and the first `room` equal to it; return the room left."""
    for c in range(cols):
        value = src[c]
        if value == bound and room > 0:
            room -= 1
        elif value <= bound:
            value = otherwise
        dst[c] = value
    return room


@jit_inner
def keep_in_turn(
    dst: Data, src: Data, column: Data, room: Room, otherwise: float, rows: int, cols: int
) -> None:
    """Copy what is above column[r, 0], and the first room[r] equal to it, which are used up.

    Elsewhere write `otherwise`.
    """
    if dst is None:
        return
    for r in range(rows):
        room[r] = _keep_row(dst[r], src[r], column[r, 0], room[r], otherwise, cols)


@jit_inner
def compact(
    dst: Data, indices: Data, src: Data, dropped: float, assumed: int, rows: int, cols: int
) -> int:
    """Move to the front the columns where any row differs from `dropped`; return how many.

    indices: int32 [1, >= cols], takes their numbers, also without numbers: `assumed` of them then,
    evenly spread.
    """
    if dst is None:
        for i in range(assumed):
            indices[0, i] = i * cols // assumed
        return assumed
    count = 0
    for c in range(cols):
        is_kept = False
        for r in range(rows):
            is_kept |= src[r, c] != dropped
        if is_kept:
            for r in range(rows):
                dst[r, count] = src[r, c]
            indices[0, count] = c
            count += 1
    return count


@jit_inner
def expand_runs(dst: Data, src: Data, count: int, length: int) -> None:
    """dst[0, i length + j] = src[0, i] length + j: from numbers of runs to numbers of rows."""
    for i in range(count):
        for j in range(length):
            dst[0, i * length + j] = src[0, i] * length + j


@jit_inner
def bitonic_pass(data: Data, distance: int, run: int, rows: int, cols: int) -> None:
    """Put partners `distance` apart in order, in runs of `run` that fall and rise in turn.

    cols is a power of two. Source: Batcher, "Sorting networks and their applications" (1968).
    """
    if data is None:
        return
    for r in range(rows):
        for c in range(cols):
            partner = c ^ distance
            if partner > c:
                first, second = data[r, c], data[r, partner]
                is_falling = (c & run) == 0
                if (is_falling and first < second) or (not is_falling and first > second):
                    data[r, c], data[r, partner] = second, first


@jit_inner
def merge_pass(data: Data, run: int, rows: int, cols: int) -> None:
    """Merge neighboring falling runs of `run` elements into falling ones of twice as many."""
    if data is None:
        return
    merged = np.empty(cols, data.dtype)
    for r in range(rows):
        for start in range(0, cols, 2 * run):
            left, middle = start, min(start + run, cols)
            right, end = middle, min(start + 2 * run, cols)
            for c in range(start, end):
                if right >= end or (left < middle and not data[r, left] < data[r, right]):
                    merged[c] = data[r, left]
                    left += 1
                else:
                    merged[c] = data[r, right]
                    right += 1
        for c in range(cols):
            data[r, c] = merged[c]


@jit_inner
def _ordered_key(value: np.float32) -> np.int64:
    """Return an unsigned integer that orders FP32 values as they are ordered; NaN at the ends."""
    bits = np.int64(np.float32(value).view(np.uint32))
    return 2 * _SIGN - 1 - bits if bits & _SIGN else bits | _SIGN


@jit_inner
def _value_of_key(key: int) -> np.float32:
    bits = key & (_SIGN - 1) if key & _SIGN else 2 * _SIGN - 1 - key
    return np.uint32(bits).view(np.float32)


@jit_inner
def radix_select(dst: Data, src: Data, rank: int, rows: int, cols: int) -> None:
    """dst[r, 0] = the `rank`-th largest of row r (1 is the largest), digit by digit."""
    if dst is None:
        return
    for r in range(rows):
        dst[r, 0], _ = _selected(src[r], rank, cols)


@jit_inner
def radix_select_from(
    dst: Data, src: Data, first_row: int, rank: int, room: Room, rows: int, cols: int
) -> None:
    """dst[r, 0] = the `rank`-th largest of row first_row + r of src.

    room[r] = how many elements equal to it are among the `rank` largest.
    """
    if dst is None:
        return
    for r in range(rows):
        dst[r, 0], room[r] = _selected(src[first_row + r], rank, cols)


@jit_inner
def _selected(row: npt.NDArray[np.float32], rank: int, cols: int) -> tuple[np.float32, int]:
    """Return the `rank`-th largest of a row, and its rank among those that equal it."""
    counts = np.empty(_DIGITS, np.int64)
    prefix, left = np.int64(0), rank
    for shift in range(_KEY_BITS - _DIGIT_BITS, -1, -_DIGIT_BITS):
        counts[:] = 0
        for c in range(cols):
            key = _ordered_key(row[c])
            if key >> (shift + _DIGIT_BITS) == prefix:
                counts[(key >> shift) & (_DIGITS - 1)] += 1
        digit = _DIGITS - 1
        while counts[digit] < left:
            left -= counts[digit]
            digit -= 1
        prefix = (prefix << _DIGIT_BITS) | digit
    return _value_of_key(prefix), left


@jit_inner
def write_column(dst: Data, values: npt.NDArray[np.float64], rows: int, fmt: int) -> None:
    """dst[r, 0] = values[r], rounded."""
    if dst is None:
        return
    for r in range(rows):
        dst[r, 0] = values[r]
    round_tile(dst, rows, 1, fmt)


@jit_inner
def element(data: Data, row: int) -> float:
    """Return data[row, 0], or NaN without numbers."""
    if data is None:
        return np.nan
    else:
        return np.float64(data[row, 0])
