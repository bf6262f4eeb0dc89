"""The number formats of the machines: names, widths and the codes used inside jitted code."""

from enum import StrEnum

import numpy as np


class Format(StrEnum):
    """A number format, by the name it has in files and on the command line."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"
    INT32 = "int32"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def code(self) -> int:
        """Small integer that stands for the format inside jitted code."""
        return _CODES[self]

    @property
    def bits(self) -> int:
        """Width of one stored element."""
        return _BITS[self]

    @property
    def is_integer(self) -> bool:
        """Whether elements are two's complement integers."""
        return self in (Format.INT32, Format.INT8, Format.INT4)

    @property
    def is_fp8(self) -> bool:
        """Whether elements are floating-point numbers of 8 bits."""
        return self in (Format.FP8_E4M3, Format.FP8_E5M2)

    @property
    def of_results(self) -> "Format":
        """Format of what is computed from such operands, unless another one is asked for.

        FP8 gives BF16 and integers give INT32, as products on hardware do: they have scaled or
        quantized operands, and sums of products have neither their range nor their scale.
        """
        if self.is_fp8:
            return Format.BF16
        return Format.INT32 if self.is_integer else self


_CODES = {fmt: code for code, fmt in enumerate(Format)}
_BITS = {
    Format.FP32: 32,
    Format.BF16: 16,
    Format.FP16: 16,
    Format.FP8_E4M3: 8,
    Format.FP8_E5M2: 8,
    Format.INT32: 32,
    Format.INT8: 8,
    Format.INT4: 4,
}

# Plain integers, because jitted code cannot read an enumeration's properties.
FP32 = Format.FP32.code
BF16 = Format.BF16.code
FP16 = Format.FP16.code
FP8_E4M3 = Format.FP8_E4M3.code
FP8_E5M2 = Format.FP8_E5M2.code
INT32 = Format.INT32.code
INT8 = Format.INT8.code
INT4 = Format.INT4.code


_NARROW_BITS = 8


def common_format(a: Format, b: Format) -> Format:
    """Return the format in which a unit computes with operands of formats a and b.

    It holds the values of both: FP16 and BF16 those of at most 8 bits, and FP32 those of all.
    """
    if a == b:
        return a
    wide = {fmt for fmt in (a, b) if fmt.bits > _NARROW_BITS} or {Format.FP16}
    return wide.pop() if len(wide) == 1 else Format.FP32


COMMON_FORMATS = np.array([[common_format(a, b).code for b in Format] for a in Format])
"""Code of the common format of two, by their codes."""
