"""Elements that share scales: matrices encoded in block formats, and decoded.

A matrix is cut into blocks of `block` elements along the axis over which it is summed: the last of
activations [rows, k], the first of weights [k, n]. `across` rows or columns may share a scale too.
The last block of an axis may be short. Hardware fills it up with zeros, which have no part in its
scale.

From the largest magnitude of a block (its peak) follow its scale X and its elements, v / X rounded
to the nearest:

- *E8M0 scales* (OCP Microscaling Formats Specification v1.0, 2023, section 6.3): X is the largest
  power of two not above the peak, divided by the largest power of two among elements. What lies
  beyond the largest element is clamped, with its sign. `rounds_up` asks for the smallest power of
  two that clamps nothing instead (Mishra et al., "Recipes for Pre-training LLMs with MXFP8", 2025,
  Algorithm 1).
- *FP8 scales beside a tensor scale* (NVFP4; NVIDIA, "Pretraining Large Language Models with NVFP4",
  2025, appendix B): the FP32 tensor scale is the peak of all values divided by the product of the
  largest scale and the largest element. X is (peak / largest element) / tensor scale in E4M3.
- *FP32 scales* (DeepSeek-V3 Technical Report, 2024, section 3.3.2): X is peak / largest element.

Every quotient is one division in FP32. What those texts leave open is decided here:

- A scale is clamped to what its format holds, so a block of zeros has the smallest power of two, or
  a scale of 0 in FP8. Under a scale of 0 all elements are 0. FP32 scales are normal numbers.
- A block with an infinity or NaN has a scale of NaN, which makes NaN of all that it holds. It does
  not touch the tensor scale.
- MXINT8 has the codes -127 to 127: MX clamps to the largest number with the sign of the value.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.errors import QuantizationError
from accelsim.numerics.block_formats import BlockFormat, BlockLayout
from accelsim.numerics.formats import E8M0, FP32, SMALLEST_POWER, Format
from accelsim.numerics.rounding import round_tile, to_fp8_e4m3
from accelsim.numerics.views import Data
from accelsim.runtime.jit import jit

_MANTISSA_BITS = 23
_SMALLEST_POWER = np.float32(SMALLEST_POWER)
_LARGEST_POWER = np.float32(Format.E8M0.layout.largest)
_SMALLEST_NORMAL = np.float32(Format.FP32.layout.smallest_normal)


class Blocks(NamedTuple):
    """A matrix in a block format."""

    elements: npt.NDArray[Any]
    """Numbers of the element format [rows, cols]: float32, or int32 for integers."""
    scales: npt.NDArray[np.float32]
    """Numbers of the scale format, one a block [blocks of rows, blocks of columns]."""
    tensor_scale: np.float32
    """What all scales are relative to; 1 where the format has no such number."""
    layout: BlockLayout
    axis: int
    """Axis over which the matrix is summed, 0 or 1."""

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """What the elements stand for, exactly, in float64 [rows, cols]."""
        return decode_blocks(self)


class ScaleRule(NamedTuple):
    """How the scale of a block follows from its peak, for compiled code; from `scale_rule`."""

    code: int
    """Code of the format of scales."""
    largest: float
    """Largest number that an element stands for under a scale of 1."""
    largest_exponent: int
    """Exponent of the largest power of two among those."""
    rounds_up: bool
    """Whether scales that are powers of two are such that no element is clamped."""


def scale_rule(layout: BlockLayout, rounds_up: bool = False) -> ScaleRule:
    """Return the rule of a layout."""
    return ScaleRule(layout.scale.code, layout.largest, layout.largest_exponent, rounds_up)


def encode_blocks(
    values: npt.ArrayLike,
    fmt: BlockFormat,
    axis: int,
    across: int | None = None,
    rounds_up: bool = False,
) -> Blocks:
    """Return a matrix [rows, cols], taken as FP32, in a block format.

    It is summed over `axis`, along which blocks lie. `across` rows or columns share a scale; where
    it is not given, as many as the format says. Raises QuantizationError for what is no matrix, for
    another axis than 0, 1 and -1, for `across` below 1, and for `rounds_up` where scales are no
    powers of two.
    """
    matrix = np.ascontiguousarray(values, np.float32)
    layout = _checked_layout(matrix, fmt, axis, across, rounds_up)
    axis %= 2
    rows, cols = matrix.shape
    peaks = np.empty(layout.scale_shape(rows, cols, axis), np.float32)
    block_peaks(peaks, matrix, *layout.block_shape(axis))
    tensor_scale = tensor_scale_of(peaks, layout)
    scales = np.empty_like(peaks)
    block_scales(scales, peaks, scale_rule(layout, rounds_up), tensor_scale)
    elements = _elements(matrix, scales, tensor_scale, layout, axis)
    return Blocks(elements, scales, tensor_scale, layout, axis)


def _elements(
    matrix: npt.NDArray[np.float32],
    scales: npt.NDArray[np.float32],
    tensor_scale: np.float32,
    layout: BlockLayout,
    axis: int,
) -> npt.NDArray[Any]:
    steps, shape = np.empty_like(scales), layout.block_shape(axis)
    block_steps(steps, scales, tensor_scale, np.float32(layout.unit))
    element = layout.element
    elements = np.empty(matrix.shape, np.int32 if element.is_integer else np.float32)
    if element.is_integer:
        block_integers(elements, matrix, steps, shape, np.float32(element.layout.largest))
    else:
        block_elements(elements, matrix, steps, shape, element.code)
    return elements


def decode_blocks(blocks: Blocks) -> npt.NDArray[np.float64]:
    """Return what a matrix in a block format stands for, exactly [rows, cols]."""
    rows, cols = blocks.elements.shape
    block_rows, block_cols = blocks.layout.block_shape(blocks.axis)
    steps = blocks.scales.astype(np.float64) * (float(blocks.tensor_scale) * blocks.layout.unit)
    steps = np.repeat(np.repeat(steps, block_rows, axis=0)[:rows], block_cols, axis=1)
    return blocks.elements * steps[:, :cols]


def tensor_scale_of(peaks: npt.NDArray[np.float32], layout: BlockLayout) -> np.float32:
    """Return the FP32 number that all scales are relative to, from the peaks of all blocks."""
    if not layout.has_tensor_scale:
        return np.float32(1)
    peak = np.max(peaks, initial=0, where=np.isfinite(peaks))
    largest = np.float32(layout.scale.layout.largest * layout.largest)
    return np.float32(max(peak / largest, _SMALLEST_NORMAL))


def _checked_layout(
    matrix: npt.NDArray[np.float32],
    fmt: BlockFormat,
    axis: int,
    across: int | None,
    rounds_up: bool,
) -> BlockLayout:
    layout = fmt.layout if across is None else fmt.layout._replace(across=across)
    if matrix.ndim != 2:
        raise QuantizationError(
            f"{fmt}: found an array of shape {matrix.shape}, allowed: a matrix [rows, columns]"
        )
    if axis not in (0, 1, -1):
        raise QuantizationError(f"{fmt}: axis: found {axis}, allowed: 0 or 1, the summed one")
    if layout.across < 1:
        raise QuantizationError(f"{fmt}: across: found {across}, allowed: 1 or more")
    if rounds_up and layout.scale != Format.E8M0:
        raise QuantizationError(
            f"{fmt}: rounds_up: found scales in {layout.scale}, allowed: {Format.E8M0}, "
            "which holds powers of two only"
        )
    return layout


@jit
def block_peaks(dst: Data, src: Data, block_rows: int, block_cols: int) -> None:
    """Set dst[i, j] to the largest magnitude of block (i, j); NaN is larger than infinity."""
    if dst is None:
        return
    dst[:, :] = 0
    rows, cols = src.shape
    for r in range(rows):
        if block_cols == 1:
            for c in range(cols):
                dst[r // block_rows, c] = _larger(dst[r // block_rows, c], src[r, c])
        else:
            _row_peaks(dst[r // block_rows], src[r], block_cols)


@jit
def _row_peaks(peaks: Data, row: Data, block_cols: int) -> None:
    for block in range(peaks.size):
        first = block * block_cols
        peak = peaks[block]
        for c in range(first, min(first + block_cols, row.size)):
            peak = _larger(peak, row[c])
        peaks[block] = peak


@jit
def _larger(peak: np.float32, value: np.float32) -> np.float32:
    # Patterns without sign are in the order of their numbers, NaN last. Unlike a maximum of numbers
    # that keeps NaN, one of integers may be found in any order, and so with vectors.
    of_value = np.float32(abs(value)).view(np.uint32)
    return np.uint32(max(np.float32(peak).view(np.uint32), of_value)).view(np.float32)


@jit
def block_scales(dst: Data, peaks: Data, rule: ScaleRule, tensor_scale: np.float32) -> None:
    """Set every element of `dst` to the scale of a block with the peak in `peaks`."""
    if dst is None:
        return
    rows, cols = peaks.shape
    for r in range(rows):
        for c in range(cols):
            dst[r, c] = scale_of_peak(peaks[r, c], rule, tensor_scale)


@jit
def scale_of_peak(peak: np.float32, rule: ScaleRule, tensor_scale: np.float32) -> np.float32:
    """Return the scale of a block with this peak; NaN for one that is not finite."""
    if not np.isfinite(peak):
        return np.float32(np.nan)
    if rule.code == E8M0:
        return _power_of_two(peak, rule)
    scale = np.float32(np.float32(peak / np.float32(rule.largest)) / tensor_scale)
    if rule.code == FP32:
        return max(scale, _SMALLEST_NORMAL)
    return to_fp8_e4m3(scale)


@jit
def _power_of_two(peak: np.float32, rule: ScaleRule) -> np.float32:
    field = np.int64(np.float32(peak).view(np.uint32) >> np.uint32(_MANTISSA_BITS))
    field -= rule.largest_exponent
    # A subnormal peak has field 0 and stands for less than the smallest scale asks for.
    scale = _SMALLEST_POWER
    if field > 0:
        scale = np.uint32(np.uint32(field) << np.uint32(_MANTISSA_BITS)).view(np.float32)
    if rule.rounds_up and peak > scale * np.float32(rule.largest):
        scale = np.float32(min(scale, _LARGEST_POWER / np.float32(2)) * np.float32(2))
    return scale


@jit
def block_steps(dst: Data, scales: Data, tensor_scale: np.float32, unit: np.float32) -> None:
    """Set every element of `dst` to what an element of 1 stands for under a scale.

    Infinity where that is 0: what is divided by it becomes 0.
    """
    if dst is None:
        return
    rows, cols = scales.shape
    for r in range(rows):
        for c in range(cols):
            step = np.float32(np.float32(scales[r, c] * tensor_scale) * unit)
            dst[r, c] = np.float32(np.inf) if step == 0 else step


@jit
def block_elements(
    dst: Data, src: Data, steps: Data, block_shape: tuple[int, int], element_code: int
) -> None:
    """dst = src / steps of its block, rounded to the floating-point format of elements."""
    if dst is None:
        return
    block_rows, block_cols = block_shape
    rows, cols = src.shape
    for r in range(rows):
        _divide_row(dst[r], src[r], steps[r // block_rows], block_cols)
        round_tile(dst[r : r + 1], 1, cols, element_code)


@jit
def block_integers(
    dst: Data, src: Data, steps: Data, block_shape: tuple[int, int], largest: np.float32
) -> None:
    """dst = src / steps of its block, rounded to integers up to `largest`; NaN becomes 0."""
    if dst is None:
        return
    block_rows, block_cols = block_shape
    rows, cols = src.shape
    quotients = np.empty(cols, np.float32)
    for r in range(rows):
        _divide_row(quotients, src[r], steps[r // block_rows], block_cols)
        for c in range(cols):
            nearest = min(max(np.rint(quotients[c]), -largest), largest)
            dst[r, c] = np.int32(0) if np.isnan(quotients[c]) else np.int32(nearest)


@jit
def _divide_row(dst: Data, row: Data, steps: Data, block_cols: int) -> None:
    if block_cols == 1:
        for c in range(row.size):
            dst[c] = row[c] / steps[c]
        return
    for block in range(steps.size):
        first = block * block_cols
        step = steps[block]
        for c in range(first, min(first + block_cols, row.size)):
            dst[c] = row[c] / step
