"""How rows become codes: by the peak of what shares a scale, in FP32, rounded half to even.

Source: Zhang et al., "SageAttention" (2024, arXiv 2410.02367), section 4.3, and "SageAttention2"
(2024, arXiv 2411.10958), section 3.2, for what a thread of a tensor core holds: of 32 queries every
8th, and of the keys of a tile every 8th pair.
"""

from typing import Any, NamedTuple

from accelsim.kernels import language as al
from accelsim.kernels.attention.sage.parameters import Granularity
from accelsim.quantization.codes import SMALLEST_SCALE

BLOCK, THREAD, TOKEN = range(3)
SHARED_BY: dict[Granularity, int] = {"block": BLOCK, "thread": THREAD, "token": TOKEN}
THREAD_SCALES = 4
"""Scales of the keys of a tile, one a thread."""
_WARP_ROWS, _STRIDE, _PAIR = 32, 8, 2


class Coder(NamedTuple):
    """How the rows of a tile are coded, and the tiles for it; columns have one number a row."""

    shared_by: int
    largest: float
    """Largest code."""
    wide: al.Buffer
    """Rows in FP32."""
    magnitudes: al.Buffer
    peak: al.Buffer
    scale: al.Buffer
    part: al.Buffer
    codes: al.Buffer


def allocate_coder(
    builder: al.ProgramBuilder,
    name: str,
    shape: tuple[Any, Any],
    codes: al.Buffer,
    *,
    has_peaks: bool = True,
) -> dict[str, Any]:
    """Declare the tiles in which rows become codes.

    shape: rows and columns, at most. has_peaks: whether each row finds its own scale.
    """
    rows, dim = shape

    def column(part: str) -> al.Buffer:
        if not has_peaks:
            return builder.no_buffer()
        return builder.buffer(f"{name}_{part}", rows, 1, al.Format.FP32)

    wide, magnitudes = (
        builder.buffer(f"{name}_{part}", rows, dim, al.Format.FP32)
        for part in ("wide", "magnitudes")
    )
    columns = {part: column(part) for part in ("peak", "scale", "part")}
    return {"wide": wide, "magnitudes": magnitudes, **columns, "codes": codes}


@al.jit_inner
def code_rows(p, turn, wide, are_keys, coder):
    """Turn rows in FP32, which are lost, into codes; returns these and the scale of each row."""
    peak = al.tile(coder.peak, 0, wide.rows, 1)
    size = al.tile(coder.magnitudes, 0, wide.rows, wide.cols)
    al.magnitude(p, size, wide)
    al.row_max(p, peak, size)
    _share(p, peak, are_keys, coder)
    scale, part = al.tile(coder.scale, 0, wide.rows, 1), al.tile(coder.part, 0, wide.rows, 1)
    al.fill(p, part, coder.largest)
    al.divide(p, scale, peak, part)
    al.fill(p, part, SMALLEST_SCALE)
    al.maximum(p, scale, scale, part)
    al.fill(p, part, 1.0)
    al.divide(p, part, part, scale)
    al.multiply_column(p, wide, wide, part)
    codes = al.tile(coder.codes, turn, wide.rows, wide.cols)
    al.convert(p, codes, wide)
    return codes, scale


@al.jit_inner
def _share(p, peak, are_keys, coder):
    """Give each row the largest peak of those that it shares its scale with."""
    if coder.shared_by == BLOCK:
        largest = al.tile(coder.part, 0, 1, 1)
        al.tile_max(p, largest, 0, peak)
        al.fill(p, peak, al.read_element(p, largest, 0))
    elif coder.shared_by == THREAD:
        slice_rows = peak.rows if are_keys else _WARP_ROWS
        for first in range(0, peak.rows, slice_rows):
            own = al.rows_from(peak, first, min(slice_rows, peak.rows - first))
            _share_in_threads(p, own, are_keys)


@al.jit_inner
def _share_in_threads(p, peak, are_keys):
    """The same for rows of which every 8th share a scale, and of keys every 8th pair."""
    for first in range(_STRIDE, peak.rows, _STRIDE):
        rows = min(_STRIDE, peak.rows - first)
        head = al.rows_from(peak, 0, rows)
        al.maximum(p, head, head, al.rows_from(peak, first, rows))
    if are_keys:
        for first in range(0, min(_STRIDE, peak.rows) - 1, _PAIR):
            one, other = al.rows_from(peak, first, 1), al.rows_from(peak, first + 1, 1)
            al.maximum(p, one, one, other)
            al.convert(p, other, one)
    for first in range(_STRIDE, peak.rows, _STRIDE):
        rows = min(_STRIDE, peak.rows - first)
        al.convert(p, al.rows_from(peak, first, rows), al.rows_from(peak, 0, rows))


@al.jit_inner
def scales_of_keys(shared_by, keys):
    """How many scales the keys of a tile have."""
    if shared_by == TOKEN:
        return keys
    return 1 if shared_by == BLOCK else min(THREAD_SCALES, -(-keys // _PAIR))


@al.jit_inner
def kept_scales(p, scale, dst, shared_by):
    """Gather the distinct scales of the keys of a tile in the column dst."""
    if shared_by == THREAD:
        for thread in range(dst.rows):
            al.convert(p, al.rows_from(dst, thread, 1), al.rows_from(scale, _PAIR * thread, 1))
    else:
        al.convert(p, dst, al.rows_from(scale, 0, dst.rows))


@al.jit_inner
def spread_scales(p, row, kept):
    """Write the scales of threads into a row with one for each key."""
    for thread in range(kept.rows):
        start = _PAIR * thread
        pair = al.columns(row, start, min(_PAIR, row.cols - start))
        al.fill(p, pair, al.read_element(p, kept, thread))
    for first in range(_STRIDE, row.cols, _STRIDE):
        cols = min(_STRIDE, row.cols - first)
        al.convert(p, al.columns(row, first, cols), al.columns(row, 0, cols))
