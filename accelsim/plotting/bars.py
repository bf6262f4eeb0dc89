"""Stacked bars: where the bytes and the joules of each run go."""

from typing import TYPE_CHECKING

from accelsim.errors import OutputError
from accelsim.plotting.style import INK, color_of, dress, hatch_of, legend_beside, new_figure
from accelsim.plotting.table import finished, series_names
from accelsim.report.quantity import quantity_of, words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 40
_TENSORS, _COMPONENTS = "hbm_bytes_by_tensor.", "energy_by_component_j."
_DIRECTIONS = {"hbm_read_bytes": "read", "hbm_write_bytes": "written"}


def traffic_figure(frame: "pd.DataFrame") -> "Figure":
    """HBM bytes of every row: stacked by tensor above, by direction below."""
    rows = barred(finished(frame, list(_DIRECTIONS)))
    figure = new_figure(8.5, 2.6 + 0.9 * len(rows))
    above, below = figure.subplots(2, 1, sharex=True)
    stack(above, rows, parts_of(rows, _TENSORS), "HBM traffic by tensor", "traffic_bytes")
    stack(below, rows, _DIRECTIONS, "HBM traffic by direction", "traffic_bytes")
    for axes in (above, below):
        legend_beside(axes)
    above.set_xlabel("")
    return figure


def energy_figure(frame: "pd.DataFrame") -> "Figure":
    """Joules of every row, stacked by component."""
    rows = barred(finished(frame, ["energy_j"]))
    figure = new_figure(8.5, 1.8 + 0.5 * len(rows))
    axes = figure.subplots()
    stack(axes, rows, parts_of(rows, _COMPONENTS), "Energy by component", "energy_j")
    legend_beside(axes)
    return figure


def barred(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows; raises OutputError for more than a figure can show."""
    if len(rows) > MOST_BARS:
        raise OutputError(
            f"bars for {len(rows)} rows would not be readable; at most {MOST_BARS} are drawn"
        )
    return rows


def parts_of(rows: "pd.DataFrame", prefix: str) -> dict[str, str]:
    """Return column -> name of the parts of a total that any row has; raises OutputError."""
    columns = [name for name in rows.columns if name.startswith(prefix)]
    used = [name for name in columns if rows[name].fillna(0).gt(0).any()]
    if not used:
        raise OutputError(f"the table has no column {prefix}<name> with a value to draw")
    return {name: words(name.removeprefix(prefix)) for name in used}


def stack(
    axes: "Axes", rows: "pd.DataFrame", parts: dict[str, str], title: str, total: str
) -> None:
    """Draw one horizontal bar a row, one segment a part, and the total at its end."""
    values = rows[list(parts)].fillna(0.0)
    totals = values.sum(axis=1)
    factor, label = quantity_of(total).label(float(totals.max()))
    names = list(series_names(rows))
    places = list(range(len(names)))
    left = totals * 0.0
    for index, (column, part) in enumerate(parts.items()):
        axes.barh(
            places,
            values[column] / factor,
            left=left / factor,
            height=0.62,
            label=part,
            color=color_of(index),
            hatch=hatch_of(index),
            edgecolor="white",
            linewidth=0.6,
        )
        left = left + values[column]
    for place, value in zip(places, totals, strict=True):
        shown = quantity_of(total).show(float(value))
        axes.annotate(
            shown,
            (value / factor, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=INK,
        )
    dress(axes, title, label, "")
    axes.grid(visible=False, axis="y")
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.14)
