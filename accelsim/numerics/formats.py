"""The number formats of the machines: names, widths and the codes used inside jitted code."""

from enum import StrEnum
from typing import NamedTuple

import numpy as np

from accelsim.units import BITS_PER_BYTE, ceil_div


class Format(StrEnum):
    """A number format, by the name it has in files and on the command line.

    Codes inside jitted code count in this order, so a new format comes last.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"
    INT32 = "int32"
    INT8 = "int8"
    INT4 = "int4"
    FP6_E3M2 = "fp6_e3m2"
    FP6_E2M3 = "fp6_e2m3"
    FP4_E2M1 = "fp4_e2m1"
    E8M0 = "e8m0"

    __hash__ = str.__hash__  # That of equal text, and faster than that of an enumeration.

    @property
    def layout(self) -> "ElementLayout":
        """What one element is made of."""
        return _LAYOUTS[self]

    @property
    def code(self) -> int:
        """Small integer that stands for the format inside jitted code."""
        return _CODES[self]

    @property
    def bits(self) -> int:
        """Width of one stored element."""
        return self.layout.bits

    @property
    def is_integer(self) -> bool:
        """Whether elements are two's complement integers."""
        return self.layout.exponent_bits == 0

    @property
    def is_fp8(self) -> bool:
        """Whether elements are floating-point numbers of 8 bits."""
        return self in (Format.FP8_E4M3, Format.FP8_E5M2)

    def row_bytes(self, cols: int) -> int:
        """Return the bytes of a stored row of `cols` elements, which begins at a whole byte."""
        return ceil_div(cols * self.bits, BITS_PER_BYTE)

    @property
    def of_results(self) -> "Format":
        """Format of what is computed from such operands, unless another one is asked for.

        Floating-point numbers of 8 bits and fewer give BF16 and integers give INT32, as products on
        hardware do: they have scaled or quantized operands, and sums of products have neither their
        range nor their scale.
        """
        if self.is_integer:
            return Format.INT32
        return Format.BF16 if self.bits <= _NARROW_BITS else self


class ElementLayout(NamedTuple):
    """A row of the table of formats: one element."""

    bits: int
    """Width of a stored element."""
    exponent_bits: int
    """0: a two's complement integer."""
    mantissa_bits: int
    """Bits after the leading one; of an integer all but the sign."""
    largest: float
    """Largest finite number."""
    saturates: bool
    """Whether what lies beyond becomes the largest number; else infinity."""

    @property
    def is_narrow_float(self) -> bool:
        """Whether elements are floating-point numbers with a sign and at most 8 bits."""
        return self.bits <= _NARROW_BITS and self.exponent_bits > 0 and self.mantissa_bits > 0

    @property
    def smallest_normal(self) -> float:
        """Smallest number with a leading one, by the bias 2^(exponent_bits - 1) - 1 of IEEE 754."""
        return 2.0 ** (2 - 2 ** (self.exponent_bits - 1))

    @property
    def has_nan(self) -> bool:
        """Whether a floating-point format leaves patterns for NaN: the last one is no number."""
        top_binade = 2.0 ** (2**self.exponent_bits - 2) * self.smallest_normal
        return self.largest < top_binade * (2 - 2.0**-self.mantissa_bits)


_LAYOUTS = {
    Format.FP32: ElementLayout(32, 8, 23, (2 - 2.0**-23) * 2.0**127, saturates=False),
    Format.BF16: ElementLayout(16, 8, 7, (2 - 2.0**-7) * 2.0**127, saturates=False),
    Format.FP16: ElementLayout(16, 5, 10, 65504.0, saturates=False),
    # Micikevicius et al., "FP8 Formats for Deep Learning", 2022, Table 1.
    Format.FP8_E4M3: ElementLayout(8, 4, 3, 448.0, saturates=True),
    Format.FP8_E5M2: ElementLayout(8, 5, 2, 57344.0, saturates=True),
    Format.INT32: ElementLayout(32, 0, 31, 2.0**31 - 1, saturates=True),
    Format.INT8: ElementLayout(8, 0, 7, 127.0, saturates=True),
    Format.INT4: ElementLayout(4, 0, 3, 7.0, saturates=True),
    # OCP Microscaling Formats (MX) Specification v1.0, 2023, section 5.3.
    Format.FP6_E3M2: ElementLayout(6, 3, 2, 28.0, saturates=True),
    Format.FP6_E2M3: ElementLayout(6, 2, 3, 7.5, saturates=True),
    Format.FP4_E2M1: ElementLayout(4, 2, 1, 6.0, saturates=True),
    # The same, section 5.4.1: an exponent without sign, 2^-127 to 2^127, and NaN.
    Format.E8M0: ElementLayout(8, 8, 0, 2.0**127, saturates=True),
}
SMALLEST_POWER = 1 / _LAYOUTS[Format.E8M0].largest
"""Smallest number of E8M0: its exponents are as far below 1 as above it."""
_NARROW_BITS = 8
_CODES = {fmt: code for code, fmt in enumerate(Format)}

# Plain integers, because jitted code cannot read an enumeration's properties.
FP32 = Format.FP32.code
BF16 = Format.BF16.code
FP16 = Format.FP16.code
FP8_E4M3 = Format.FP8_E4M3.code
FP8_E5M2 = Format.FP8_E5M2.code
INT32 = Format.INT32.code
INT8 = Format.INT8.code
INT4 = Format.INT4.code
FP6_E3M2 = Format.FP6_E3M2.code
FP6_E2M3 = Format.FP6_E2M3.code
FP4_E2M1 = Format.FP4_E2M1.code
E8M0 = Format.E8M0.code


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
