"""Keys and values as a cache keeps them, and what that stands for: the reference in numpy.

Arrays are [heads, tokens, width]. See `numerics.kv_format` for what shares a scale.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import LARGEST_SHIFT, KvFormat

Values = NDArray[np.float32]
Part = Literal["keys", "values"]
_TINY = float(np.finfo(np.float16).smallest_subnormal)
"""Step and base where all values are equal: nothing is divided by 0."""


@dataclass(frozen=True, slots=True)
class ScaledFloats:
    """Elements of a floating-point format."""

    elements: Values
    scale: Values
    """[heads, 1, 1], FP32."""

    @property
    def values(self) -> Values:
        """What they stand for."""
        return self.elements * self.scale


@dataclass(frozen=True, slots=True)
class GroupCodes:
    """Codes from 0 on, which count steps above a smallest value."""

    codes: NDArray[np.int32]
    """0 to 2^bits - 1."""
    step: Values
    """Numbers of FP16; of keys [heads, groups, width], of values [heads, tokens, groups]."""
    lowest: Values
    """Numbers of FP16, of the same shape."""
    group: int
    axis: int
    """Along which a group lies: 1 of keys, 2 of values."""

    @property
    def values(self) -> Values:
        """What they stand for; a product and a sum, each rounded to FP32."""
        spread = self.codes.astype(np.float32) * self._of_elements(self.step)
        return spread + self._of_elements(self.lowest)

    def _of_elements(self, shared: Values) -> Values:
        return _repeated(shared, self.group, self.axis, self.codes.shape[self.axis])


@dataclass(frozen=True, slots=True)
class RowCodes:
    """Symmetric codes whose step is the base of their row over a power of two."""

    codes: NDArray[np.int32]
    """Within +-(2^(bits - 1) - 1)."""
    base: Values
    """[heads, tokens, 1], numbers of FP16."""
    shift: NDArray[np.int32]
    """0 to 15; of keys [heads, groups, width], of values [heads, tokens, groups]."""
    group: int
    axis: int
    """Along which a group lies: 1 of keys, 2 of values."""

    @property
    def step(self) -> Values:
        """The step of every element; exact in FP32."""
        shift = _repeated(self.shift, self.group, self.axis, self.codes.shape[self.axis])
        return np.ldexp(self.base, -shift)

    @property
    def values(self) -> Values:
        """What they stand for; one product, rounded to FP32."""
        return self.codes.astype(np.float32) * self.step


KvCodes = ScaledFloats | GroupCodes | RowCodes


def kv_codes(x: Values, fmt: KvFormat, part: Part) -> KvCodes:
    """Return keys or values [heads, tokens, width] as a cache keeps them.

    All tokens are coded: which of them a cache keeps as they came is for the caller. Raises
    QuantizationError for codes of values that are infinite, NaN, or beyond FP16.
    """
    if not fmt.is_coded:
        return _floats(x, fmt)
    most = Format.FP16.layout.largest
    wrong = int(np.count_nonzero(~(np.abs(x) <= most)))
    if wrong:
        raise QuantizationError(
            f"kv: {fmt}: found {wrong:,} of {x.size:,} {part} that are not finite or beyond "
            f"{most:g}, allowed: numbers that FP16 holds"
        )
    code = _rows if fmt.scales == "power_of_two" else _groups
    return code(x, fmt, 1 if part == "keys" else 2)


def _floats(x: Values, fmt: KvFormat) -> ScaledFloats:
    """Return x over its scale, rounded; infinities and NaN have no part in a peak."""
    size = np.abs(np.where(np.isfinite(x), x, 0))
    shared = {"one": None, "tensor": (0, 1, 2), "head": (1, 2)}[fmt.scales]
    scale = np.ones((len(x), 1, 1), np.float32)
    if shared is not None and x.size:
        peak = size.max(axis=shared, keepdims=True) / fmt.element.layout.largest
        scale = scale * np.where(peak > 0, peak, 1).astype(np.float32)
    return ScaledFloats(_rounded(x / scale, fmt.element), scale)


def _groups(x: Values, fmt: KvFormat, axis: int) -> GroupCodes:
    levels = (1 << fmt.element.bits) - 1
    starts = np.arange(0, x.shape[axis], fmt.group)
    wide = x.astype(np.float64)
    low = np.minimum.reduceat(wide, starts, axis=axis)
    high = np.maximum.reduceat(wide, starts, axis=axis)
    step = _rounded(np.maximum((high - low) / levels, _TINY), Format.FP16)
    lowest = _rounded(low, Format.FP16)
    own = GroupCodes(np.zeros(x.shape, np.int32), step, lowest, fmt.group, axis)
    above = x - own.values
    size = _repeated(step, fmt.group, axis, x.shape[axis])
    codes = np.clip(np.rint(above / size), 0, levels).astype(np.int32)
    return GroupCodes(codes, step, lowest, fmt.group, axis)


def _rows(x: Values, fmt: KvFormat, axis: int) -> RowCodes:
    """Return codes whose groups are as fine as they can be below the largest group beside them.

    The base of a row is found when all of it has been scaled by the powers of its groups.
    """
    largest = (1 << fmt.element.bits - 1) - 1
    peaks = np.maximum.reduceat(np.abs(x), np.arange(0, x.shape[axis], fmt.group), axis=axis)
    ratio = peaks.max(axis=2, keepdims=True) / np.maximum(peaks, np.finfo(np.float32).tiny)
    shift = np.log2(np.maximum(ratio, 1)).clip(0, LARGEST_SHIFT).astype(np.int32)
    scaled = np.ldexp(x, _repeated(shift, fmt.group, axis, x.shape[axis]))
    peak = np.abs(scaled).max(axis=2, keepdims=True)
    base = _rounded(np.maximum(peak / largest, _TINY), Format.FP16)
    codes = np.clip(np.rint(scaled / base), -largest, largest).astype(np.int32)
    return RowCodes(codes, base, shift, fmt.group, axis)


def _rounded(x: NDArray[Any], fmt: Format) -> Values:
    # A run without numbers waits for no compiler.
    from accelsim.numerics.rounding import round_array

    return np.asarray(round_array(x.astype(np.float32), fmt), np.float32)


def _repeated(shared: NDArray[Any], group: int, axis: int, length: int) -> NDArray[Any]:
    """Return what groups share for each of `length` elements along an axis."""
    spread: NDArray[Any] = np.repeat(shared, group, axis=axis)
    return spread[:, :length] if axis == 1 else spread[:, :, :length]
