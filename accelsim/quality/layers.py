"""The attention of each layer of a model: what a kernel kept and moved there, and its error."""

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

from accelsim.quality.attention import KernelAttention
from accelsim.quality.passes import mean_statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """The attention of one layer in all windows."""

    layer: int
    relative_error: float | None
    """Root of the summed squares of the output's error over that of the output of FP32 attention on
    the same Q, K and V; None: it is not finite."""
    cycles: int
    hbm_read_bytes: int
    hbm_write_bytes: int
    statistics: dict[str, float]
    """What was selected, means over query rows."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def layer_costs(attention: KernelAttention | None) -> tuple[LayerCost, ...]:
    """Return the costs by layer; none without a kernel."""
    if attention is None:
        return ()
    return tuple(_cost(attention, layer) for layer in sorted(set(attention.layers)))


def _cost(attention: KernelAttention, layer: int) -> LayerCost:
    own = [number for number, each in enumerate(attention.layers) if each == layer]
    reports = [attention.reports[number] for number in own]
    wrong, whole = (sum(attention.squares[number][part] for number in own) for part in (0, 1))
    rows = [attention.rows[number] for number in own]
    return LayerCost(
        layer=layer,
        relative_error=sqrt(wrong / whole) if isfinite(wrong) and whole > 0 else None,
        cycles=sum(report.cycles for report in reports),
        hbm_read_bytes=sum(report.hbm_read_bytes for report in reports),
        hbm_write_bytes=sum(report.hbm_write_bytes for report in reports),
        statistics=mean_statistics([report.statistics for report in reports], rows),
    )
