"""Predicted against reference values: every row a point, and how far it is from the diagonal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from accelsim.plotting.style import INK, color_of, dress, legend_beside, marker_of, new_figure
from accelsim.report.quantity import Quantity, quantity_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEAR = 0.1
"""Share of the reference at which lines beside the diagonal are drawn."""
_MARGIN = 1.6
"""Factor by which the axes reach beyond the data."""

Pairs = Sequence[tuple[float, float]]
"""(reference, predicted), both greater than 0."""


def agreement_figure(pairs_by_kind: Mapping[str, Pairs], quantity: str, title: str) -> "Figure":
    """Draw one color a kind on logarithmic axes; `quantity` names what is compared."""
    values = sorted(value for pairs in pairs_by_kind.values() for pair in pairs for value in pair)
    measured = quantity_of(quantity)
    factor, unit = measured.scale(values[len(values) // 2])
    figure = new_figure(7.5, 5.6)
    axes = figure.subplots()
    _diagonals(axes, values[0] / factor / _MARGIN, values[-1] / factor * _MARGIN)
    for index, (kind, pairs) in enumerate(pairs_by_kind.items()):
        axes.plot(
            [reference / factor for reference, _ in pairs],
            [predicted / factor for _, predicted in pairs],
            marker_of(index),
            color=color_of(index),
            label=f"{kind} ({len(pairs)})",
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.5,
        )
    axes.set(xscale="log", yscale="log")
    axes.set_aspect("equal", adjustable="box")
    dress(axes, title, _label("reference", measured, unit), _label("predicted", measured, unit))
    legend_beside(axes)
    return figure


def _label(side: str, measured: Quantity, unit: str) -> str:
    named = measured.title if measured.title != unit else ""
    words = f"{side} {named}".strip()
    return f"{words} [{unit}]" if unit else words


def _diagonals(axes: "Axes", low: float, high: float) -> None:
    """Draw predicted = reference, and the lines a tenth above and below it."""
    ends = [low, high]
    axes.plot(ends, ends, color=INK, linewidth=1.2, zorder=1, label="equal")
    for number, side in enumerate((1 - NEAR, 1 + NEAR)):
        axes.plot(
            ends,
            [side * end for end in ends],
            color=INK,
            linewidth=0.8,
            linestyle="--",
            zorder=1,
            label="" if number else f"{NEAR:.0%} off",
        )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
