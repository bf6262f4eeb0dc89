"""Rounding of FP32 values to the formats of the machines, compiled and bit-exact.

Every function takes and returns FP32: the result is the value of the format nearest to the input,
so a tile "in FP16" is an FP32 array that holds only FP16 values. Ties go to the even neighbor.
Floating formats keep subnormals, the sign of zero and NaN. What lies beyond the largest value
becomes infinity in BF16 and FP16, and saturates in FP8, FP6 and FP4, infinities included: the PTX
ISA has `cvt` to them only with `.satfinite`. Integer formats saturate too, and take NaN as 0.

FP6 and FP4 have no NaN, and the OCP Microscaling specification (MX v1.0, sections 5.3.2 and 5.3.3)
leaves to the implementation what becomes of one: here the largest number, positive, as in the PTX
ISA (`cvt`). In a block it is the scale that becomes NaN.

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
    E8M0,
    FP16,
    FP32,
    INT4,
    INT8,
    INT32,
    SMALLEST_POWER,
    Format,
)
from accelsim.runtime.jit import jit

_FP32_MANTISSA_BITS = 23
_EXPONENT_FIELD = np.uint32(0x7F800000)
_BF16_FIELD = np.uint32(0xFFFF0000)

_Narrow = tuple[np.float32, np.float32, np.float32, np.bool_]


def _narrow(fmt: Format) -> _Narrow:
    """Return how to round to a floating-point format of at most 8 bits, from its row in the table.

    2 to the number of bits that a mantissa of FP32 has beyond the format's, the smallest normal
    number, the largest one, and whether there is a NaN.
    """
    layout = fmt.layout
    return (
        np.float32(2.0 ** (_FP32_MANTISSA_BITS - layout.mantissa_bits)),
        np.float32(layout.smallest_normal),
        np.float32(layout.largest),
        np.bool_(layout.has_nan),
    )


def _integer_range(fmt: Format) -> tuple[np.float32, np.float32]:
    """Return the ends of an integer format, the upper as far as FP32 can hold it."""
    largest = np.float32(fmt.layout.largest)
    if float(largest) > fmt.layout.largest:
        largest = np.nextafter(largest, np.float32(0))
    return np.float32(-fmt.layout.largest - 1), largest


_FP8_E4M3 = _narrow(Format.FP8_E4M3)
_FP8_E5M2 = _narrow(Format.FP8_E5M2)
_FP6_E3M2 = _narrow(Format.FP6_E3M2)
_FP6_E2M3 = _narrow(Format.FP6_E2M3)
_FP4_E2M1 = _narrow(Format.FP4_E2M1)
_IS_NARROW = np.array([fmt.layout.is_narrow_float for fmt in Format])
_SHIFTS, _SMALLEST_NORMALS, _LARGEST, _HAVE_NAN = (
    np.array(column) for column in zip(*map(_narrow, Format), strict=True)
)
"""The same by the code of a format, for loops; only those of narrow formats are read."""
_LARGEST_E8M0 = np.float32(Format.E8M0.layout.largest)
_SMALLEST_E8M0 = np.float32(SMALLEST_POWER)
_SMALLEST_FP32 = np.float32(Format.FP32.layout.smallest_normal)
_EXPONENT_STEP = np.uint32(1 << _FP32_MANTISSA_BITS)
_INT32_RANGE = _integer_range(Format.INT32)
_INT8_RANGE = _integer_range(Format.INT8)
_INT4_RANGE = _integer_range(Format.INT4)


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
def _to_narrow(
    x: np.float32,
    shift: np.float32,
    smallest_normal: np.float32,
    largest: np.float32,
    has_nan: np.bool_,
) -> np.float32:
    value = np.float32(x)
    magnitude = abs(value)
    within = np.float32(min(largest, magnitude))
    binade = np.uint32(within.view(np.uint32) & _EXPONENT_FIELD).view(np.float32)
    # The last place of this number is worth one step of the format, so that adding it rounds.
    shifter = max(binade, smallest_normal) * shift
    rounded = np.copysign(np.float32((within + shifter) - shifter), value)
    of_nan = value if has_nan else largest
    return of_nan if np.isnan(value) else rounded


@jit
def to_fp8_e4m3(x: np.float32) -> np.float32:
    """Round to FP8 E4M3 (`float8_e4m3fn`); what lies beyond 448 saturates, NaN stays."""
    return _to_narrow(x, *_FP8_E4M3)


@jit
def to_fp8_e5m2(x: np.float32) -> np.float32:
    """Round to FP8 E5M2; what lies beyond 57344 saturates, NaN stays."""
    return _to_narrow(x, *_FP8_E5M2)


@jit
def to_fp6_e3m2(x: np.float32) -> np.float32:
    """Round to FP6 E3M2 (`float6_e3m2fn`); what lies beyond 28 saturates, NaN becomes 28."""
    return _to_narrow(x, *_FP6_E3M2)


@jit
def to_fp6_e2m3(x: np.float32) -> np.float32:
    """Round to FP6 E2M3 (`float6_e2m3fn`); what lies beyond 7.5 saturates, NaN becomes 7.5."""
    return _to_narrow(x, *_FP6_E2M3)


@jit
def to_fp4_e2m1(x: np.float32) -> np.float32:
    """Round to FP4 E2M1 (`float4_e2m1fn`); what lies beyond 6 saturates, NaN becomes 6."""
    return _to_narrow(x, *_FP4_E2M1)


@jit
def to_e8m0(x: np.float32) -> np.float32:
    """Round to the nearest power of two from 2^-127 to 2^127, ties up (`float8_e8m0fnu`).

    Zero becomes the smallest and infinity the largest: a scale saturates as elements do. NaN stays,
    and what is below zero becomes NaN, since the format has no sign.
    """
    value = np.float32(x)
    if np.isnan(value) or value < 0:
        return np.float32(np.nan)
    if value < _SMALLEST_FP32:
        return _SMALLEST_E8M0 if value < np.float32(1.5) * _SMALLEST_E8M0 else _SMALLEST_FP32
    bits = np.float32(min(value, _LARGEST_E8M0)).view(np.uint32)
    half = _EXPONENT_STEP >> np.uint32(1)
    return np.uint32((bits + half) & _EXPONENT_FIELD).view(np.float32)


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


# One loop per kind of format: a rounding function as an argument could not be cached on disk, and
# a choice inside the loop is seven times slower where it keeps the loop from using vectors.
@jit
def _round_value(x: np.float32, fmt_code: int) -> np.float32:
    if fmt_code == BF16:
        return to_bf16(x)
    if fmt_code == INT32:
        return to_int32(x)
    if fmt_code == INT8:
        return to_int8(x)
    if fmt_code == INT4:
        return to_int4(x)
    if fmt_code == E8M0:
        return to_e8m0(x)
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
    elif _IS_NARROW[fmt_code]:
        # Read once: the loop has vectors for any of these formats.
        shift, smallest_normal = _SHIFTS[fmt_code], _SMALLEST_NORMALS[fmt_code]
        largest, has_nan = _LARGEST[fmt_code], _HAVE_NAN[fmt_code]
        for row in range(rows):
            for col in range(cols):
                tile[row, col] = _to_narrow(
                    tile[row, col], shift, smallest_normal, largest, has_nan
                )
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
