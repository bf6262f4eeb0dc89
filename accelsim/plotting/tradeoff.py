"""One column of a sweep against another: Pareto fronts and curves."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.plotting.style import (
    INK,
    color_of,
    dress,
    legend_beside,
    marker_of,
    new_figure,
    note_hollow,
)
from accelsim.plotting.table import (
    finished,
    is_exact,
    num_left_out,
    numbers,
    problems,
    series_names,
)
from accelsim.report.quantity import quantity_of, words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MOST_NAMING_LINES = 16
"""Lines of the legend that may tell the settings of the points on a front."""
MOST_VALUE_TICKS = 8
_PLAIN_RATIO = 3000.0
"""Below this ratio of largest to smallest value a logarithmic axis writes out 1, 2, 5, 10, ..."""
_LOG_RATIO = 8.0
"""An axis is logarithmic where its largest value is this many times its smallest."""


def pareto_figure(
    frame: "pd.DataFrame",
    x: str,
    y: str,
    front: Sequence[bool],
    *,
    wider_front: Sequence[bool] | None = None,
    maximize: Collection[str] = (),
    by: Sequence[str] = (),
    settings: Sequence[str] = (),
) -> "Figure":
    """Every finished row as a point, and the Pareto `front` (one flag a row of `frame`) as steps.

    A step goes where no better point is known: on the worse side of each point of the front. Each
    problem has steps of its own. `front` is that of exact designs; `wider_front`, dashed, is that
    of all, where some are not exact. The legend tells the `settings` (columns) of the points on
    the fronts, where they are few enough to be read.
    """
    flags = {"_front": front, "_wider": front if wider_front is None else wider_front}
    marked = frame.assign(**{name: np.asarray(each, bool) for name, each in flags.items()})
    rows = finished(marked, [x, y])
    figure, axes, points = _plane(rows, x, y, by)
    best = rows["_front"] | rows["_wider"]
    _scatter(axes, points, opacity=np.where(best, 1.0, 0.35))
    where: Literal["pre", "post"] = "pre" if x in maximize else "post"
    exact = is_exact(rows)
    if exact.any():
        _steps(axes, points[rows["_front"]], rows[exact], where, "-", _front_name(exact))
    if not exact.all():
        _steps(
            axes,
            points[rows["_wider"]],
            rows,
            where,
            "--",
            "Pareto front with\napproximate designs",
        )
    _name_points(axes, points[best].sort_values(["x", "y"]), rows[list(settings)])
    _note_left_out(axes, num_left_out(frame, [x, y]))
    _finish(axes, f"Pareto front of {quantity_of(x).title} and {quantity_of(y).title}", by)
    return figure


def _front_name(exact: "pd.Series[bool]") -> str:
    return "Pareto front" if exact.all() else "Pareto front of\nexact designs"


def _steps(
    axes: "Axes",
    best: "pd.DataFrame",
    rows: "pd.DataFrame",
    where: "Literal['pre', 'post']",
    style: str,
    name: str,
) -> None:
    """Draw one staircase a problem through the points that are best among `rows`."""
    ordered = best.sort_values(["x", "y"])
    fronts = list(ordered.groupby(problems(rows.loc[ordered.index])))
    named = name if len(fronts) == 1 else f"{name}, each problem"
    for index, (_, steps) in enumerate(fronts):
        axes.step(
            steps["x"],
            steps["y"],
            where=where,
            color=INK,
            linestyle=style,
            linewidth=1.4,
            zorder=1,
            label="" if index else f"{named}\n({len(best)} of {len(rows)} points)",
        )


def curve_figure(frame: "pd.DataFrame", x: str, y: str, by: Sequence[str] = ()) -> "Figure":
    """Every finished row as a point, and one line a series through its lowest value at each x.

    A line stays with one problem, unless x or y is a field of the workload.
    """
    rows = finished(frame, [x, y])
    figure, axes, points = _plane(rows, x, y, by)
    _scatter(axes, points, opacity=0.6)
    points["line"] = problems(rows) if _tells_problems(rows, x, y) else ""
    for index, (_, group) in enumerate(points.groupby("series", sort=False)):
        for _, line in group.groupby("line", sort=False):
            lowest = line.groupby("x")["y"].min()
            axes.plot(lowest.index, lowest, color=color_of(index), linewidth=1.8, zorder=1)
    crowded = points.duplicated(["series", "line", "x"]).any()
    title = f"{quantity_of(y).title} over {quantity_of(x).title}"
    _note_left_out(axes, num_left_out(frame, [x, y]))
    _finish(axes, title + (" (lines: lowest of each series)" if crowded else ""), by)
    return figure


def _plane(
    rows: "pd.DataFrame", x: str, y: str, by: Sequence[str]
) -> "tuple[Figure, Axes, pd.DataFrame]":
    """Return a figure with labelled axes and the rows: x, y (in its units), series, exact."""
    figure = new_figure(8.5, 5.2)
    axes = figure.subplots()
    scaled, labels = {}, {}
    for side, column in (("x", x), ("y", y)):
        values, quantity = numbers(rows, column)
        factor, labels[side] = quantity.label(float(values.abs().median()))
        scaled[side] = values / factor
        _scale_axis(axes, side, scaled[side])
    dress(axes, "", labels["x"], labels["y"])
    names = series_names(rows, by, with_problems=_tells_problems(rows, x, y))
    points = rows[[]].assign(**scaled, series=names, exact=is_exact(rows))
    return figure, axes, points


def _tells_problems(rows: "pd.DataFrame", x: str, y: str) -> bool:
    """Whether rows are told apart by problem, which an axis over a workload's field does itself."""
    is_axis = any(name.startswith("workload.") for name in (x, y))
    return "workload" in rows.columns and not is_axis


def _note_left_out(axes: "Axes", count: int) -> None:
    if count:
        designs = "design is" if count == 1 else "designs are"
        note = f"{count} {designs} left out:\noutput or value not finite"
        axes.plot([], [], linestyle="", label=note)


def _scale_axis(axes: "Axes", side: str, values: "pd.Series[float]") -> None:
    """Choose a linear or logarithmic scale, with ticks at the values where these are few."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    if values.min() > 0 and values.max() / values.min() >= _LOG_RATIO:
        axes.set(**{f"{side}scale": "log"})
        _plain_ticks(axis, float(values.max() / values.min()))
    distinct = sorted(values.unique())
    if len(distinct) <= MOST_VALUE_TICKS:
        axis.set_ticks(distinct, [f"{value:.4g}" for value in distinct])
        axis.set_ticks([], minor=True)


def _plain_ticks(axis: "Axis", ratio: float) -> None:
    """Write out the ticks of a short logarithmic axis, where powers of ten alone are too few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if ratio < _PLAIN_RATIO:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _scatter(axes: "Axes", points: "pd.DataFrame", opacity: float | NDArray[np.float64]) -> None:
    """Draw the points of each series; those that are not exact are hollow."""
    from matplotlib.colors import to_rgba_array

    points = points.assign(opacity=opacity)
    for index, (name, group) in enumerate(points.groupby("series", sort=False)):
        opacity, exact = group["opacity"].to_numpy(), group["exact"].to_numpy()[:, None]
        colors = to_rgba_array([color_of(index)] * len(group), opacity)
        white = to_rgba_array(["white"] * len(group), opacity)
        axes.scatter(
            group["x"],
            group["y"],
            s=46,
            c=np.where(exact, colors, white),
            marker=marker_of(index),
            edgecolors=[tuple(color) for color in np.where(exact, white, colors)],
            linewidths=np.where(exact[:, 0], 0.6, 1.6).tolist(),
            label=str(name),
        )
    note_hollow(axes, points["exact"])


def _name_points(axes: "Axes", best: "pd.DataFrame", settings: "pd.DataFrame") -> None:
    """Number the points of the front and tell the settings that vary in the legend."""
    varied = [name for name in settings.columns if settings[name].nunique() > 1]
    if not varied or len(best) * len(varied) > MOST_NAMING_LINES:
        return
    rows = settings.loc[best.index, varied].to_dict("records")
    places = zip(best["x"], best["y"], strict=True)
    for number, (place, row) in enumerate(zip(places, rows, strict=True), start=1):
        axes.annotate(str(number), place, xytext=(5, 5), textcoords="offset points", color=INK)
        shown = [
            f"{quantity_of(name).title} {quantity_of(name).show(row[name])}" for name in varied
        ]
        axes.plot([], [], linestyle="", marker=f"${number}$", color=INK, label="\n".join(shown))


def _finish(axes: "Axes", title: str, by: Sequence[str]) -> None:
    dress(axes, title[0].upper() + title[1:], axes.get_xlabel(), axes.get_ylabel())
    axes.margins(0.08)
    legend_beside(axes, title=" · ".join(words(name) for name in by))
    legend = axes.get_legend()
    for handle in legend.legend_handles if legend else ():
        if handle is not None:
            handle.set_alpha(1.0)
