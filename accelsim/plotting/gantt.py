"""The unit timeline: what each unit of a core does in the first cycles of a run."""

from typing import TYPE_CHECKING

from accelsim.errors import OutputError
from accelsim.plotting.style import INK, color_of, dress, hatch_of, legend_beside, new_figure
from accelsim.plotting.table import finished
from accelsim.report.quantity import quantity_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ("core", "unit", "name", "start_cycle", "end_cycle")


def timeline_figure(frame: "pd.DataFrame", first_cycles: int | None = None) -> "Figure":
    """One lane a unit and core, one bar an op, for the ops that start in the first cycles.

    `frame` has the columns of `Timeline.first_ops`. Raises OutputError where no op starts so early.
    """
    rows = finished(frame, COLUMNS)
    end = float(first_cycles or rows["end_cycle"].max())
    rows = rows[rows["start_cycle"] < end]
    if rows.empty:
        raise OutputError(f"no op starts in the first {first_cycles} cycles")
    many_cores = rows["core"].nunique() > 1
    lane = ("core " + rows["core"].astype(str) + " " if many_cores else "") + rows["unit"]
    lanes = list(dict.fromkeys(lane))
    begin = _begin(rows, lane)
    kinds = _kinds(rows)
    figure = new_figure(10, max(1.6 + 0.55 * len(lanes), 0.6 + 0.28 * kinds.nunique()))
    axes = figure.subplots()
    factor, label = quantity_of("cycles").label(end)
    for index, (name, ops) in enumerate(rows.groupby(kinds, sort=False)):
        places = [lanes.index(each) for each in lane[ops.index]]
        axes.barh(
            places,
            (ops["end_cycle"].clip(upper=end) - begin[ops.index]) / factor,
            left=begin[ops.index] / factor,
            height=0.7,
            color=color_of(index),
            hatch=hatch_of(index),
            edgecolor="white",
            linewidth=0.4,
            label=str(name),
        )
    dress(axes, f"Unit timeline, first {end:,.0f} cycles", label.replace("cycles", "time", 1), "")
    axes.set_yticks(range(len(lanes)), lanes, color=INK)
    axes.set_xlim(0, end / factor)
    axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    legend_beside(axes)
    return figure


def _begin(rows: "pd.DataFrame", lane: "pd.Series[str]") -> "pd.Series[float]":
    """Return where each bar begins: a transfer in flight behind another one is not drawn over it.

    Transfers of a queue end in order, so each is drawn from the end of the one before.
    """
    before = rows["end_cycle"].groupby(lane).cummax().groupby(lane).shift(fill_value=0)
    return rows["start_cycle"].clip(lower=before)


def _kinds(rows: "pd.DataFrame") -> "pd.Series[str]":
    """Return what a color stands for: transfers by tensor, other ops without their buffer."""
    is_transfer = rows["unit"].isin(("load", "store"))
    return rows["name"].where(is_transfer, rows["name"].str.partition(" ")[0])
