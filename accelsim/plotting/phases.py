"""Bars of whole models: where the time and the joules of a prefill and of a step go."""

from typing import TYPE_CHECKING

from accelsim.plotting.bars import barred, parts_of, stack
from accelsim.plotting.style import legend_beside, new_figure
from accelsim.plotting.table import finished

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PHASES = {"prefill": "Prefill", "step": "Step of one token each"}
_TIME, _ENERGY = "time_by_operation_s.", "energy_by_component_j."
_OTHERS = "others"
_LEAST_SHARE = 0.01
"""Share of a bar below which a part is drawn with the others."""


def phase_time_figure(frame: "pd.DataFrame") -> "Figure":
    """Time of every row, stacked by operation: the prefill above, a step below."""
    return _figure(frame, _TIME, "time_s", "time by operation")


def phase_energy_figure(frame: "pd.DataFrame") -> "Figure":
    """Joules of every row, stacked by component: the prefill above, a step below."""
    return _figure(frame, _ENERGY, "energy_j", "energy by component")


def _figure(frame: "pd.DataFrame", prefix: str, total: str, what: str) -> "Figure":
    import pandas as pd

    rows = barred(finished(frame, [f"{phase}_{total}" for phase in PHASES]))
    parts = {phase: _shares(rows, f"{phase}_{prefix}") for phase in PHASES}
    names = dict.fromkeys(name for shares in parts.values() for name in shares if name != _OTHERS)
    names[_OTHERS] = None
    figure = new_figure(9.5, max(4.4 + 0.7 * len(rows), 1.5 + 0.32 * len(names)))
    both = figure.subplots(len(PHASES), 1)
    for axes, (phase, title) in zip(both, PHASES.items(), strict=True):
        # Each phase has a column for every name, so that a name has one color.
        columns = {f"{phase} {name}": parts[phase].get(name, 0.0) for name in names}
        drawn = pd.concat([rows, pd.DataFrame(columns, index=rows.index)], axis=1)
        stack(axes, drawn, dict(zip(columns, names, strict=True)), "", total)
        axes.set_title(f"{title}: {what}", loc="left")
    legend_beside(both[0])
    return figure


def _shares(rows: "pd.DataFrame", prefix: str) -> "dict[str, pd.Series[float]]":
    """Return the parts of a phase by name; those that no bar would show are summed."""
    found = {name: rows[column].fillna(0.0) for column, name in parts_of(rows, prefix).items()}
    # A prompt and a step run different kernels for the same part of a layer.
    joined: dict[str, pd.Series[float]] = {}
    for name, values in found.items():
        own = name.removesuffix(" of prompts").removesuffix(" of steps")
        joined[own] = joined[own] + values if own in joined else values
    totals: pd.Series[float] = sum(joined.values(), rows[[]].assign(total=0.0)["total"])
    large = {
        name: values for name, values in joined.items() if (values / totals).max() >= _LEAST_SHARE
    }
    for values in large.values():
        totals = totals - values
    return {**large, _OTHERS: totals}
