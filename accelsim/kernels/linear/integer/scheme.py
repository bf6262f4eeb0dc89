"""What a kernel tells the frame: its scheme, its products, and the numbers known before the run."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from accelsim.kernels.integer.chunks import NO_ORDER, Order
from accelsim.kernels.linear.integer.operands import Activations, Doubles, Epilogue
from accelsim.quantization.channel_groups import Span
from accelsim.quantization.codes import Codes, Quantized, Values


class Work(NamedTuple):
    """What a kernel does with a tile of Y, as far as it decides how long that takes."""

    shifts: int = 0
    """Doublings of the sums in one panel of channels."""
    drains: int = 0
    """Products of one panel that are drained each; 0: one product, drained after all panels."""


class Scheme(NamedTuple):
    """How X and W are quantized, numbers apart."""

    spans: Sequence[Span]
    """Rows of the chunks."""
    work: Work
    has_order: bool = False
    """Whether products read channels through the index buffer."""
    has_bias: bool = False
    """Whether something is subtracted from X, and added to Y for it."""
    range_of: Literal["calibration", "row", "tensor"] = "calibration"
    """Where the range of X comes from: known before the run, or found in it for every row or for
    all of X."""

    @property
    def is_dynamic(self) -> bool:
        """Whether the scales of X are found in the run; every row has one then."""
        return self.range_of != "calibration"


class Product(NamedTuple):
    """The products of a kernel, and the channels that they read group by group."""

    kernel: Callable[..., None]
    """A compiled loop over work items: kernel(p, number of the phase, *beside, layout)."""
    order: Order = NO_ORDER
    factors: Doubles = np.zeros((0, 0))
    """What one unit of the sums of every group is worth [chunks, groups]."""
    growth: Doubles | None = None
    """By how much the array doubles the product of every channel [chunks, k]; None: not at all."""


class Numbers(NamedTuple):
    """What is known before the run."""

    x: Values
    """[m, k]"""
    weights: Codes
    """[k, n]"""
    epilogue: Epilogue
    activations: Activations | None = None
    """None: X is quantized by what is found in the run."""
    codes: Quantized | None = None
    """X as its producer quantized it, with scales [m, 1] if dynamic; None: quantized here."""
