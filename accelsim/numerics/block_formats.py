"""Formats whose elements share scales: which elements do, and in which format the scale is.

Sources: OCP Microscaling Formats (MX) Specification v1.0, 2023, section 5 (MXFP8, MXFP6, MXFP4,
MXINT8); NVIDIA, "Introducing NVFP4", 2025, and the PTX ISA, `mxf4nvf4` (NVFP4); DeepSeek-V3
Technical Report, 2024, section 3.3.2 (FP8 with FP32 scales for 1 x 128 and 128 x 128 elements).
"""

import math
from enum import StrEnum
from typing import NamedTuple

from accelsim.numerics.formats import Format
from accelsim.units import ceil_div


class BlockLayout(NamedTuple):
    """A row of the table of block formats."""

    element: Format
    scale: Format
    """Format of the scale that the elements of a block share."""
    block: int
    """Elements along the summed dimension that share a scale."""
    across: int = 1
    """Rows or columns that share it too."""
    unit: float = 1.0
    """What an element of 1 stands for under a scale of 1."""
    has_tensor_scale: bool = False
    """Whether all scales are relative to one FP32 number of the tensor."""

    @property
    def bits(self) -> float:
        """Bits that an element takes, with its part of the scale."""
        return self.element.bits + self.scale.bits / (self.block * self.across)

    @property
    def largest(self) -> float:
        """Largest number that an element stands for under a scale of 1."""
        return self.element.layout.largest * self.unit

    @property
    def largest_exponent(self) -> int:
        """Exponent of the largest power of two that an element stands for under a scale of 1."""
        return math.frexp(self.largest)[1] - 1

    def block_shape(self, axis: int) -> tuple[int, int]:
        """Return rows and columns of a block of a matrix that is summed over `axis`."""
        return (self.block, self.across) if axis == 0 else (self.across, self.block)

    def scale_shape(self, rows: int, cols: int, axis: int) -> tuple[int, int]:
        """Return the shape of the scales of a matrix; the last blocks may be short."""
        block_rows, block_cols = self.block_shape(axis)
        return ceil_div(rows, block_rows), ceil_div(cols, block_cols)

    def stored_bytes(self, rows: int, cols: int, axis: int) -> int:
        """Return the bytes of elements and scales; the rows of both begin at whole bytes."""
        scale_rows, scale_cols = self.scale_shape(rows, cols, axis)
        elements = rows * self.element.row_bytes(cols)
        scales = scale_rows * self.scale.row_bytes(scale_cols)
        return elements + scales + Format.FP32.row_bytes(1) * self.has_tensor_scale


class BlockFormat(StrEnum):
    """A format with shared scales, by the name it has in files and on the command line."""

    MXFP8_E4M3 = "mxfp8_e4m3"
    MXFP8_E5M2 = "mxfp8_e5m2"
    MXFP6_E3M2 = "mxfp6_e3m2"
    MXFP6_E2M3 = "mxfp6_e2m3"
    MXFP4 = "mxfp4"
    MXINT8 = "mxint8"
    NVFP4 = "nvfp4"
    FP8_BLOCK128 = "fp8_block128"

    @property
    def layout(self) -> BlockLayout:
        """What shares a scale."""
        return _LAYOUTS[self]


_MX_BLOCK = 32
_LAYOUTS = {
    BlockFormat.MXFP8_E4M3: BlockLayout(Format.FP8_E4M3, Format.E8M0, _MX_BLOCK),
    BlockFormat.MXFP8_E5M2: BlockLayout(Format.FP8_E5M2, Format.E8M0, _MX_BLOCK),
    BlockFormat.MXFP6_E3M2: BlockLayout(Format.FP6_E3M2, Format.E8M0, _MX_BLOCK),
    BlockFormat.MXFP6_E2M3: BlockLayout(Format.FP6_E2M3, Format.E8M0, _MX_BLOCK),
    BlockFormat.MXFP4: BlockLayout(Format.FP4_E2M1, Format.E8M0, _MX_BLOCK),
    # An element is a fixed-point number with six bits behind the point.
    BlockFormat.MXINT8: BlockLayout(Format.INT8, Format.E8M0, _MX_BLOCK, unit=2.0**-6),
    BlockFormat.NVFP4: BlockLayout(Format.FP4_E2M1, Format.FP8_E4M3, 16, has_tensor_scale=True),
    # Of weights 128 columns share it too.
    BlockFormat.FP8_BLOCK128: BlockLayout(Format.FP8_E4M3, Format.FP32, 128),
}
