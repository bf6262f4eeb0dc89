"""The roofline: MACs per second against MACs per HBM byte, with every run as a point.

S. Williams, A. Waterman, D. Patterson, "Roofline", Communications of the ACM 52(4), 2009, with MACs
in the place of floating-point operations.
"""

from typing import TYPE_CHECKING

import numpy as np

from accelsim.plotting.style import (
    GRID,
    INK,
    color_of,
    dress,
    legend_beside,
    marker_of,
    new_figure,
    note_hollow,
)
from accelsim.plotting.table import finished, is_exact, series_names
from accelsim.report.quantity import quantity_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = (
    "macs",
    "time_s",
    "hbm_read_bytes",
    "hbm_write_bytes",
    "peak_macs_per_s",
    "peak_hbm_bytes_per_s",
)
_MARGIN = 4.0
"""Factor by which the axes reach beyond the data and the ridge."""


def roofline_figure(frame: "pd.DataFrame") -> "Figure":
    """Every row as a point under the roof of its machine."""
    rows = finished(frame, COLUMNS)
    moved = rows["hbm_read_bytes"] + rows["hbm_write_bytes"]
    rows = rows.assign(intensity=rows["macs"] / moved, rate=rows["macs"] / rows["time_s"])
    figure = new_figure(8.5, 5.2)
    axes = figure.subplots()
    factor, label = quantity_of("throughput_macs_per_s").label(float(rows["peak_macs_per_s"].max()))
    _roofs(axes, rows, factor)
    exact = is_exact(rows)
    for index, (name, points) in enumerate(rows.groupby(series_names(rows), sort=False)):
        is_filled = bool(exact[points.index].all())
        axes.plot(
            points["intensity"],
            points["rate"] / factor,
            marker_of(index),
            color=color_of(index),
            label=str(name),
            markersize=8,
            markerfacecolor=color_of(index) if is_filled else "white",
            markeredgecolor="white" if is_filled else color_of(index),
        )
    note_hollow(axes, exact)
    axes.set(xscale="log", yscale="log")
    axes.margins(y=0.15)
    dress(axes, "Roofline", "arithmetic intensity [MAC per HBM byte]", label)
    legend_beside(axes)
    return figure


def _roofs(axes: "Axes", rows: "pd.DataFrame", factor: float) -> None:
    """Draw min(peak, bandwidth x intensity) once for each machine of the table."""
    roofs = rows[["peak_macs_per_s", "peak_hbm_bytes_per_s"]].drop_duplicates().to_numpy(float)
    ridges = roofs[:, 0] / roofs[:, 1]
    low = min(rows["intensity"].min(), ridges.min()) / _MARGIN
    high = max(rows["intensity"].max(), ridges.max()) * _MARGIN
    for (peak, bandwidth), ridge in zip(roofs, ridges, strict=True):
        corners = np.array([low, ridge, high])
        roof = np.minimum(peak, bandwidth * corners) / factor
        axes.plot(corners, roof, color=INK if len(roofs) == 1 else GRID, linewidth=1.6, zorder=1)
    if len(roofs) == 1:
        _name_roof(axes, *roofs[0], ridge=float(ridges[0]), factor=factor)


def _name_roof(axes: "Axes", peak: float, bandwidth: float, *, ridge: float, factor: float) -> None:
    rate, compute = quantity_of("bytes_per_s").show(float(bandwidth)), quantity_of("macs_per_s")
    axes.annotate(
        f"{compute.show(float(peak))} and {rate}\nmeet at {ridge:.3g} MAC/B",
        (ridge, peak / factor),
        xytext=(0, 8),
        textcoords="offset points",
        ha="center",
        color=INK,
    )
