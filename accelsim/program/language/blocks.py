"""Vector ops that turn values into elements with shared scales, and scale sums by such scales.

Their numbers are those of `accelsim.numerics.blocks`, bit by bit. A run is a number of columns that
share something; the last run of a row may be shorter.
"""

import numpy as np

from accelsim.numerics import blocks as arithmetic
from accelsim.numerics import elementwise
from accelsim.numerics.blocks import ScaleRule
from accelsim.numerics.formats import E8M0, FP8_E4M3, FP32, INT4, INT8
from accelsim.numerics.views import block
from accelsim.program.language.tiles import computed_in
from accelsim.program.ops import Op
from accelsim.program.recording import (
    Recorder,
    Tile,
    elements_of,
    exists,
    has_extent,
    record_map,
    record_reduction,
    record_vector,
    record_with,
)
from accelsim.runtime.jit import jit_inner

__all__ = [
    "block_elements",
    "block_scales",
    "block_steps",
    "multiply_row_runs",
    "run_peaks",
]

_MULTIPLY, _DIVIDE = Op.MULTIPLY.value, Op.DIVIDE.value
_REDUCE, _CONVERT = Op.REDUCE.value, Op.CONVERT.value


@jit_inner
def _runs(cols: int, run: int) -> int:
    return -(-cols // run) if run > 0 else 0


@jit_inner
def run_peaks(p: Recorder, dst: Tile, src: Tile, run: int) -> None:
    """dst[r, i] = largest magnitude of run i of row r."""
    if record_reduction(p, _REDUCE, dst, src, src.rows, _runs(src.cols, run)):
        peaks = block(dst.data, dst.rows, dst.cols)
        arithmetic.block_peaks(peaks, block(src.data, src.rows, src.cols), 1, run)


@jit_inner
def block_scales(p: Recorder, dst: Tile, peaks: Tile, rule: ScaleRule, tensor_scale: float) -> None:
    """dst = scales of blocks with these peaks, by the rule of their format.

    A power of two is the exponent of the peak, one conversion. Other scales are a quotient, those
    in FP8 two and a conversion.
    """
    wide = computed_in(dst, FP32)
    if rule.code != E8M0:
        record_map(p, _DIVIDE, wide, peaks)
    if rule.code == FP8_E4M3:
        record_map(p, _DIVIDE, wide, peaks)
    fits = exists(p, peaks) and has_extent(p, dst, peaks.rows, peaks.cols)
    if rule.code != FP32:
        record_map(p, _CONVERT, wide, peaks)
    if fits:
        own = block(dst.data, dst.rows, dst.cols)
        tensor = np.float32(tensor_scale)
        arithmetic.block_scales(own, block(peaks.data, dst.rows, dst.cols), rule, tensor)


@jit_inner
def block_steps(p: Recorder, dst: Tile, scales: Tile, tensor_scale: float, unit: float) -> None:
    """dst = what an element of 1 stands for under each scale, and infinity where that is 0."""
    if record_map(p, _MULTIPLY, dst, scales):
        own, given = block(dst.data, dst.rows, dst.cols), block(scales.data, dst.rows, dst.cols)
        arithmetic.block_steps(own, given, np.float32(tensor_scale), np.float32(unit))


@jit_inner
def block_elements(
    p: Recorder, dst: Tile, wide: Tile, src: Tile, steps: Tile, run: int, has_powers: bool
) -> None:
    """dst = src / steps of its run, rounded to the format of dst; integers are symmetric.

    has_powers: steps are powers of two, so that a quotient is a product with the reciprocal. wide:
    where the quotients are before they are converted; it is written, and what it holds is not said.
    """
    quotient = _MULTIPLY if has_powers else _DIVIDE
    fits = record_with(p, quotient, wide, src, steps, src.rows, _runs(src.cols, run))
    fits = fits and has_extent(p, dst, src.rows, src.cols)
    converted = computed_in(dst, wide.fmt)
    read_bits = wide.bits * elements_of(wide)
    record_vector(p, _CONVERT, converted, wide.slot, read_bits, src.rows, src.cols)
    if fits:
        own, values = block(dst.data, dst.rows, dst.cols), block(src.data, src.rows, src.cols)
        given = block(steps.data, steps.rows, steps.cols)
        if dst.fmt in (INT8, INT4):
            largest = np.float32((1 << (dst.bits - 1)) - 1)
            arithmetic.block_integers(own, values, given, (1, run), largest)
        else:
            arithmetic.block_elements(own, values, given, (1, run), dst.fmt)


@jit_inner
def multiply_row_runs(p: Recorder, dst: Tile, a: Tile, row: Tile, run: int) -> None:
    """Multiply column c by row[0, c // run]."""
    if record_with(p, _MULTIPLY, dst, a, row, 1, _runs(a.cols, run)):
        given = (dst.data, a.data, row.data)
        elementwise.multiply_row_runs(*given, a.rows, a.cols, run, dst.fmt)
