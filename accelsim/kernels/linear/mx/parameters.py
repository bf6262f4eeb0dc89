"""Parameters of linears with shared scales."""

from typing import Annotated, Literal

from pydantic import Field

from accelsim.kernels import language as al
from accelsim.kernels.linear.product import TileParameters
from accelsim.kernels.linear.rotation import RotationParameters
from accelsim.numerics.block_formats import BlockFormat


class MxParameters(RotationParameters, TileParameters):
    """Choices of the mx kernel."""

    activations: BlockFormat | None = None
    """Format of X; absent: mxfp8_e4m3, or mxint8 where there is an integer array and no FP8."""
    weights: BlockFormat | None = None
    """Format of W, which may be another; absent: that of X."""
    rounds_up: bool = False
    """Whether scales that are powers of two are such that no element is clamped (Mishra et al.,
    2025); else they follow the exponent of the peak, as the MX specification says."""
    input: Literal["float", "quantized"] = "float"
    """X in the problem's format, to be encoded first; or elements and scales in HBM, because the
    kernel that made X encoded it before it stored it."""
    output_format: Literal[al.Format.BF16, al.Format.FP16, al.Format.FP32] = al.Format.BF16
    """Format of Y in HBM."""
    guard_bits: Annotated[int, Field(ge=-16, le=16)] | None = None
    """On an integer array that aligns: bits below the unit of a product under the largest scales of
    its row and column; absent: as many as no sum can fill the accumulator with."""
    rotate_on: Literal["vector", "cube"] | None = None
    """Unit that rotates X: butterflies on the vector unit, or products with the matrix on the cube;
    absent: the one that should take less time."""
    tile_k: al.Size | None = None
    """Depth of one step, whole blocks of both formats; absent: chosen."""
