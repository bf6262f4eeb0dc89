"""Symmetric integer codes of 4 and 8 bits, and the arrays that hold them with their scales."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.numerics.rounding import round_array

Values = NDArray[np.float32]
Codes = NDArray[np.int32]
Scales = NDArray[np.float64]

SUPPORTED_BITS = (4, 8)
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Scale where all values are 0: nothing is divided by 0, and every code is 0."""

_SMALLEST_HALF = float(np.finfo(np.float16).smallest_subnormal)


class Quantized(NamedTuple):
    """Integers and what one step of them is worth."""

    codes: Codes
    """[rows, columns]"""
    scale: Scales
    """Numbers of FP32 or narrower, of a shape that broadcasts to the codes."""

    @property
    def values(self) -> NDArray[np.float64]:
        """What the codes stand for, in float64 [rows, columns]: the product is exact there."""
        return self.codes * self.scale


def largest_code(bits: int) -> int:
    """Return 2^(bits - 1) - 1; raise QuantizationError for bits that are not supported."""
    if bits not in SUPPORTED_BITS:
        allowed = " or ".join(map(str, SUPPORTED_BITS))
        raise QuantizationError(f"bits: found {bits}, allowed: {allowed}")
    return (1 << bits - 1) - 1


def scale_of(peak: Any, bits: int, fmt: Format = Format.FP32) -> Scales:
    """Return the step of codes whose largest stands for `peak`, the largest magnitude.

    It is a number of format `fmt` in a float64 array, so that a machine that keeps its scales in
    that format and a statement in float64 divide by the same one.
    """
    step = np.asarray(peak, np.float64) / largest_code(bits)
    smallest = _SMALLEST_HALF if fmt == Format.FP16 else SMALLEST_SCALE
    return round_array(np.maximum(step, smallest), fmt).astype(np.float64)


def reciprocal(scale: Any) -> Values:
    """Return 1 / scale in FP32, by which values are multiplied to be encoded."""
    factors: Values = np.float32(1) / np.asarray(scale, np.float32)
    return factors


def encode(values: Values, scale: Any, bits: int) -> Codes:
    """Return clip(rint(values / scale), -2^(bits - 1), 2^(bits - 1) - 1), ties to even.

    The quotient is an FP32 product with the reciprocal, as a vector unit computes it. Raises
    QuantizationError for values that are not finite.
    """
    check_finite(values)
    largest = largest_code(bits)
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(values, np.float32) * reciprocal(scale))
    codes: Codes = np.clip(steps, -largest - 1, largest).astype(np.int32)
    return codes


def clipped_share(values: Values, scale: Any, bits: int) -> float:
    """Return how many of the values are clipped when they become codes, as a share of all."""
    largest = largest_code(bits)
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(values, np.float32) * reciprocal(scale))
    return float(np.mean((steps > largest) | (steps < -largest - 1)))


def check_finite(values: NDArray[Any], what: str = "values") -> None:
    """Raise QuantizationError if any of `values` is infinite or NaN."""
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise QuantizationError(
            f"{what}: found {wrong:,} of {values.size:,} infinite or NaN, allowed: finite numbers"
        )
