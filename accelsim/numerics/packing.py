"""Numbers of a format as the bytes of memory and files, and back.

Rows begin at whole bytes. Bits are filled from the lowest: of two elements of 4 bits the first is
the low half of a byte, and four elements of 6 bits take three bytes. Elements of 8 bits and more
lie in the order of bytes of little-endian machines. Integers are two's complement.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.errors import QuantizationError
from accelsim.numerics.formats import Format
from accelsim.units import BITS_PER_BYTE

Bytes = npt.NDArray[np.uint8]
_Codes = npt.NDArray[np.uint32]

_BF16_SHIFT = np.uint32(16)


def pack(values: npt.ArrayLike, fmt: Format) -> Bytes:
    """Return the bytes of a matrix [rows, cols] of numbers of `fmt`: uint8 [rows, bytes of a row].

    Raises QuantizationError where a value is not a number of the format.
    """
    matrix = np.atleast_2d(np.asarray(values))
    codes = _codes_of(matrix, fmt)
    _check_kept(matrix, codes, fmt)
    little = np.ascontiguousarray(codes.astype("<u4")).view(np.uint8)
    bits = np.unpackbits(little.reshape(*codes.shape, 4), axis=-1, bitorder="little")
    bits = bits[..., : fmt.bits].reshape(len(matrix), -1)
    return np.packbits(bits, axis=1, bitorder="little")


def unpack(packed: Bytes, fmt: Format, cols: int) -> npt.NDArray[Any]:
    """Return the matrix [rows, cols] that lies in such bytes: float32, or int32 for integers.

    Raises QuantizationError where rows have another number of bytes.
    """
    if packed.shape[1] != fmt.row_bytes(cols):
        raise QuantizationError(
            f"{fmt}: found rows of {packed.shape[1]} bytes, allowed: "
            f"{fmt.row_bytes(cols)} for {cols} elements"
        )
    bits = np.unpackbits(packed, axis=1, bitorder="little")[:, : cols * fmt.bits]
    bits = bits.reshape(len(packed), cols, fmt.bits)
    whole = np.zeros((len(packed), cols, 4 * BITS_PER_BYTE), np.uint8)
    whole[..., : fmt.bits] = bits
    codes = np.packbits(whole, axis=-1, bitorder="little").view("<u4")[..., 0]
    return _values_of(codes, fmt)


def _codes_of(values: npt.NDArray[Any], fmt: Format) -> _Codes:
    if fmt.is_integer:
        return values.astype(np.int64).astype(np.uint32)
    wide = values.astype(np.float32)
    if fmt == Format.FP16:
        with np.errstate(over="ignore"):
            return wide.astype(np.float16).view(np.uint16).astype(np.uint32)
    if fmt.bits > BITS_PER_BYTE:
        bits = wide.view(np.uint32)
        return bits >> _BF16_SHIFT if fmt == Format.BF16 else bits
    return _narrow_codes(wide, fmt)


def _narrow_codes(values: npt.NDArray[np.float32], fmt: Format) -> _Codes:
    """Return the place of magnitudes among those of the format, which ascend with their codes."""
    magnitudes = _magnitudes(fmt)
    finite = magnitudes[np.isfinite(magnitudes)]
    codes = np.searchsorted(finite, np.abs(values)).astype(np.uint32)
    codes[np.isnan(values)] = len(magnitudes) - 1
    if fmt == Format.E8M0:
        return codes
    return codes | np.signbit(values).astype(np.uint32) << np.uint32(fmt.bits - 1)


def _values_of(codes: _Codes, fmt: Format) -> npt.NDArray[Any]:
    if fmt.is_integer:
        unused = np.uint32(4 * BITS_PER_BYTE - fmt.bits)
        return (codes << unused).view(np.int32) >> np.int32(unused)
    if fmt == Format.FP16:
        return codes.astype(np.uint16).view(np.float16).astype(np.float32)
    if fmt.bits > BITS_PER_BYTE:
        bits = codes << _BF16_SHIFT if fmt == Format.BF16 else codes
        return bits.astype(np.uint32).view(np.float32)
    magnitudes = _magnitudes(fmt)
    if fmt == Format.E8M0:
        return magnitudes[codes]
    signs = np.where(codes >= len(magnitudes), np.float32(-1), np.float32(1))
    return np.copysign(magnitudes[codes % len(magnitudes)], signs)


@cache
def _magnitudes(fmt: Format) -> npt.NDArray[np.float32]:
    """Return the numbers of all codes without sign, ascending; infinity and NaN at the end."""
    layout = fmt.layout
    if fmt == Format.E8M0:
        powers = np.ldexp(1.0, np.arange(-127, 128)).astype(np.float32)
        return np.append(powers, np.float32(np.nan))
    codes = np.arange(2 ** (layout.bits - 1))
    exponents, mantissas = np.divmod(codes, 2**layout.mantissa_bits)
    leading = np.where(exponents > 0, 2**layout.mantissa_bits, 0)
    step = layout.smallest_normal / 2**layout.mantissa_bits
    values = (leading + mantissas) * np.ldexp(step, np.maximum(exponents - 1, 0))
    beyond = np.flatnonzero(values > layout.largest)
    values[beyond] = np.nan
    # E4M3 has one pattern beyond the largest number, NaN; in E5M2 infinity is the first of four.
    values[beyond[: len(beyond) > 1]] = np.inf
    return values.astype(np.float32)


def _check_kept(values: npt.NDArray[Any], codes: _Codes, fmt: Format) -> None:
    cut = codes & np.uint32(2**fmt.bits - 1)
    kept = _values_of(cut, fmt)
    same = np.asarray(kept == values) | (np.isnan(kept) & np.isnan(values))
    if not same.all():
        raise QuantizationError(
            f"{fmt}: found {float(values[~same][0]):g}, allowed: numbers of the format; "
            "round to it first"
        )
