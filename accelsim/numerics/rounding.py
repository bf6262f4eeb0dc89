"""Rounding of FP32 values to the formats of the machines, compiled and bit-exact.

Every function takes and returns FP32: the result is the value of the format nearest to the input,
so a tile "in FP16" is an FP32 array that holds only FP16 values. Ties go to the even neighbor.
Floating formats keep subnormals, the sign of zero and NaN. What lies beyond the largest value
becomes infinity in BF16 and FP16, and saturates in FP8, infinities included: the PTX ISA has `cvt`
to FP8 only with `.satfinite`. Integer formats saturate too, and take NaN as 0.

The same bits come out with NUMBA_DISABLE_JIT=1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, overload

from accelsim.numerics.formats import (
    BF16,
    FP8_E4M3,
    FP8_E5M2,
    FP16,
    FP32,
    INT4,
    INT8,
    INT32,
    Format,
)
from accelsim.runtime.jit import jit

_FP32_MANTISSA_BITS = 23
_EXPONENT_FIELD = np.uint32(0x7F800000)
_BF16_FIELD = np.uint32(0xFFFF0000)
_INT32_RANGE = (np.float32(-(2.0**31)), np.float32(2.0**31 - 128))  # no FP32 between it and 2**31
_INT8_RANGE = (np.float32(-128), np.float32(127))
_INT4_RANGE = (np.float32(-8), np.float32(7))


def _through_half(x: np.float32) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(np.float16(x))


@intrinsic
def _converted_to_half_and_back(typingctx: Any, x: Any) -> Any:
    """LLVM's own conversions: one instruction each where the CPU has them."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.fptrunc(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.float32), generate


@overload(_through_half)
def _compiled_through_half(x: Any) -> Any:
    def through_half(x: Any) -> Any:
        return _converted_to_half_and_back(np.float32(x))

    return through_half


@jit
def to_fp16(x: np.float32) -> np.float32:
    """Round to FP16 (IEEE binary16); 65520 and beyond become infinity."""
    return _through_half(x)


@jit
def to_bf16(x: np.float32) -> np.float32:
    """Round to BF16, the upper half of an FP32 pattern; overflow becomes infinity."""
    value = np.float32(x)
    if np.isnan(value):
        return value
    bits = value.view(np.uint32)
    to_even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return np.uint32((bits + to_even) & _BF16_FIELD).view(np.float32)


@jit
def _rounded_magnitude(
    x: np.float32, mantissa_bits: int, smallest_normal: np.float32
) -> np.float32:
    """|x| with `mantissa_bits` after the leading one, fewer below `smallest_normal`."""
    binade = np.uint32(np.float32(x).view(np.uint32) & _EXPONENT_FIELD).view(np.float32)
    # The last place of this number is worth one step of the format, so that adding it rounds.
    shifter = max(binade, smallest_normal) * np.float32(2 ** (_FP32_MANTISSA_BITS - mantissa_bits))
    return np.float32((abs(np.float32(x)) + shifter) - shifter)


@jit
def _to_fp8(
    x: np.float32, mantissa_bits: int, smallest_normal: np.float32, largest: np.float32
) -> np.float32:
    magnitude = abs(np.float32(x))
    if not np.isnan(magnitude):
        magnitude = _rounded_magnitude(min(magnitude, largest), mantissa_bits, smallest_normal)
    return np.copysign(magnitude, np.float32(x))


@jit
def to_fp8_e4m3(x: np.float32) -> np.float32:
    """Round to FP8 E4M3 (`float8_e4m3fn`); what lies beyond 448 saturates, NaN stays."""
    return _to_fp8(x, 3, np.float32(2.0**-6), np.float32(448))


@jit
def to_fp8_e5m2(x: np.float32) -> np.float32:
    """Round to FP8 E5M2; what lies beyond 57344 saturates, NaN stays."""
    return _to_fp8(x, 2, np.float32(2.0**-14), np.float32(57344))


@jit
def _to_integer(x: np.float32, lowest: np.float32, highest: np.float32) -> np.float32:
    if np.isnan(x):
        return np.float32(0)
    # Adding zero turns -0 into 0: integers have one zero.
    return np.float32(min(max(np.rint(x), lowest), highest) + np.float32(0))


@jit
def to_int32(x: np.float32) -> np.float32:
    """Round to an integer and saturate to the INT32 range, as far as FP32 can hold it."""
    return _to_integer(x, *_INT32_RANGE)


@jit
def to_int8(x: np.float32) -> np.float32:
    """Round to an integer and saturate to [-128, 127]; NaN becomes 0."""
    return _to_integer(x, *_INT8_RANGE)


@jit
def to_int4(x: np.float32) -> np.float32:
    """Round to an integer and saturate to [-8, 7]; NaN becomes 0."""
    return _to_integer(x, *_INT4_RANGE)


# One loop per format: a rounding function passed as an argument could not be cached on disk, and
# a choice inside the loop is 50 times slower because it keeps the loop from using vectors.
@jit
def _round_value(x: np.float32, fmt_code: int) -> np.float32:
    if fmt_code == BF16:
        return to_bf16(x)
    if fmt_code == FP8_E4M3:
        return to_fp8_e4m3(x)
    if fmt_code == FP8_E5M2:
        return to_fp8_e5m2(x)
    if fmt_code == INT32:
        return to_int32(x)
    if fmt_code == INT8:
        return to_int8(x)
    if fmt_code == INT4:
        return to_int4(x)
    return np.float32(x)


@jit
def round_tile(tile: Any, rows: int, cols: int, fmt_code: int) -> None:
    """Round `tile[:rows, :cols]` (float32, any strides) in place to the format with `fmt_code`.

    Does nothing for FP32, and where `tile` is None.
    """
    if tile is None or fmt_code == FP32:
        return
    if fmt_code == FP16:
        for row in range(rows):
            for col in range(cols):
                tile[row, col] = to_fp16(tile[row, col])
    else:
        # One loop for the formats that vector paths rarely use: each more would be compiled into
        # every op that rounds.
        for row in range(rows):
            for col in range(cols):
                tile[row, col] = _round_value(tile[row, col], fmt_code)


def round_array(x: npt.ArrayLike, fmt: Format) -> npt.NDArray[np.float32]:
    """Return a float32 copy of `x` (any shape) rounded to `fmt`."""
    rounded = np.array(x, dtype=np.float32, order="C")
    if fmt == Format.FP32:
        return rounded
    if fmt == Format.FP16:
        # NumPy rounds alike, and a program without numbers waits for no compiler.
        with np.errstate(over="ignore"):
            return rounded.astype(np.float16).astype(np.float32)
    flat = rounded.reshape(1, -1)
    round_tile(flat, 1, flat.shape[1], fmt.code)
    return rounded
