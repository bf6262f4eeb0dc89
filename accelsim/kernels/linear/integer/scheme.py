"""What a kernel tells the frame: how X and W are quantized, and its products."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.kernels.integer.known import Known
from accelsim.kernels.linear.integer.operands import Doubles
from accelsim.program.builder import ProgramBuilder
from accelsim.quantization.channel_groups import Span
from accelsim.quantization.codes import Values
from accelsim.quantization.rotation import Rotation
from accelsim.workload.problem import GemmProblem

Beside = Callable[[ProgramBuilder, Any], tuple[Any, ...]]
"""Declares what a kernel has beside the matrices and buffers of the frame, for these `Tiles`, and
returns it as first arguments of the kernel's product."""


def nothing_beside(_builder: ProgramBuilder, _tiles: Any) -> tuple[Any, ...]:
    """Declare nothing."""
    return ()


RangeOf = Literal["calibration", "row", "scaled_row", "tensor"]


class Work(NamedTuple):
    """What a kernel does with a tile of Y, as far as it decides how long that takes."""

    shifts: int = 0
    """Doublings of the sums in one panel of channels."""
    drains: tuple[tuple[int, float], ...] = ()
    """For every size of a panel, the products of all panels, which are drained each: one for each
    group that has channels in it, in the mean of all chunks. Empty: one product, drained after all
    panels."""


class Scheme(NamedTuple):
    """How X and W are quantized, numbers apart."""

    spans: Sequence[Span]
    """Rows of the chunks."""
    work: Work
    has_bias: bool = False
    """Whether something is subtracted from X, and added to Y for it."""
    range_of: RangeOf = "calibration"
    """Where the range of X comes from: known before the run, or found in it for every row, for
    every row with its channels scaled by their group, or for all of X."""
    candidates: int = 1
    """Bases that a row of scaled channels tries."""
    run: int = 0
    """Channels of a row that share a scale, where its producer has coded it; 0: all of them."""

    @property
    def is_dynamic(self) -> bool:
        """Whether the scales of X are found in the run; every row has one then."""
        return self.range_of != "calibration"

    @property
    def can_clip(self) -> bool:
        """Whether values may lie beyond their range: it is not that of the largest of them."""
        return self.range_of == "calibration" or self.candidates > 1


class Plan(NamedTuple):
    """A linear as its kernel computes it."""

    problem: GemmProblem
    scheme: Scheme
    known: Known
    """x [m, k] and w_codes [k, n]; of static ranges x_reciprocal and x_bias [chunks, k], for codes
    are (x - bias) times reciprocal; of scaled rows x_factor in its place, for their base is the
    largest magnitude of (x - bias) times factor, and x_worth, 1 / factor, if they try several; if
    the producer of X has made the codes, x_codes [m, k] and, of dynamic ranges, x_scale [m, 1], or
    [m, runs]; scale and bias [chunks, n], for values are sums times scale, plus bias."""
    product: Callable[..., None]
    """A compiled loop over work items: product(p, number of the phase, *beside, layout)."""
    group: NDArray[Any] | None = None
    """Group of every channel [chunks, k]; None: products read channels one after the other."""
    factors: Doubles = np.zeros((0, 0))
    """What one unit of the sums of every group is worth [chunks, groups]."""
    beside: Beside = nothing_beside
    rotation: int = 0
    """Channels of X that are rotated together before they become codes; 0: none are."""
    channels_beside: int = 0
    """Channels that `beside` declares something for."""
    chosen: Mapping[str, int | str | bool | float] = {}
    """Values of parameters that were left to the kernel or to a calibration."""
    statistics: Mapping[str, float] = {}
    """What else there is to tell of it."""

    def of_rotated(self, rotation: Rotation | None, x: Values | None) -> "Plan":
        """Return this plan of operands that were rotated, which begins with x [m, k] as it is."""
        if rotation is None:
            return self
        known = self.known if x is None else {**self.known, "x": x}
        chosen = {**self.chosen, "rotation_block": rotation.block}
        return self._replace(known=known, rotation=rotation.block, chosen=chosen)

    @property
    def growth(self) -> Doubles | None:
        """By how much the array doubles the product of every channel [chunks, k]; None: by none."""
        if self.group is None or self.scheme.work.drains:
            return None
        return np.take_along_axis(self.factors, self.group.astype(np.int64), axis=1)
