"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import MARKERS, color_of, dress, new_figure, save_figure

SCHEMES = {
    "tender": "groups, shift",
    "requantized": "groups, explicit",
    "quantized": "a scale a row",
    "mixed 1 %": "1 % outliers in FP16",
    "mixed 3 %": "3 % outliers in FP16",
}
LAYER = ["model", "linear", "phase"]


def cost(folder: Path) -> pd.DataFrame:
    """Return prefill costs over those of tender in 4 bits and 8 groups, as means over layers."""
    frame = pd.read_csv(folder / "cost.csv")
    frame["scheme"] = frame["kernel"].where(frame["kernel"] != "outlier_split", frame["design"])
    is_base = (frame["kernel"] == "tender") & (frame["groups"] == 8) & (frame["bits"] == 4)
    base = frame[is_base].set_index(LAYER)
    rows = pd.MultiIndex.from_frame(frame[LAYER])
    for column in ("cycles", "energy_j"):
        frame[column] = np.log(frame[column] / base[column].reindex(rows).to_numpy())
    frame = frame[(frame["phase"] == "prefill") & (frame["bits"] < 16)]
    keys = ["bits", "scheme", "groups"]
    return np.exp(frame.groupby(keys)[["cycles", "energy_j"]].mean()).reset_index()


def error(folder: Path) -> pd.DataFrame:
    """Return the median error over the captured linears."""
    frame = pd.read_csv(folder / "error.csv")
    mixed = "mixed " + (100 * frame["share"]).round().astype(int).astype(str) + " %"
    frame["scheme"] = frame["kernel"].where(frame["kernel"] != "outlier_split", mixed)
    return frame.groupby(["bits", "scheme", "groups"])["relative_rmse"].median().reset_index()


def against_groups(axes: Axes, frame: pd.DataFrame, column: str) -> None:
    """One line a grouped scheme, a level line for each of the others."""
    for index, (scheme, label) in enumerate(SCHEMES.items()):
        points = frame[frame["scheme"] == scheme].sort_values("groups")
        if scheme in ("tender", "requantized"):
            axes.plot(
                points["groups"],
                points[column],
                color=color_of(index),
                marker=MARKERS[index],
                linestyle="-" if scheme == "tender" else ":",
                label=label,
            )
        else:
            axes.axhline(points[column].iloc[0], color=color_of(index), linestyle="--", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])


def main(results: Path, out: Path) -> None:
    """Draw the figure of the tables in `results` into `out`."""
    costs, errors = cost(results), error(results)
    figure = new_figure(13.5, 7.6)
    panels = figure.subplots(2, 3)
    what = {
        "cycles": ("time", "over INT4, 8 groups, shift"),
        "energy_j": ("energy", "over INT4, 8 groups, shift"),
        "relative_rmse": ("error", "median relative RMSE"),
    }
    letters = iter("abcdef")
    for row, bits in zip(panels, (8, 4), strict=True):
        for axes, (column, (title, label)) in zip(row, what.items(), strict=True):
            frame = errors if column == "relative_rmse" else costs
            against_groups(axes, frame[frame["bits"] == bits], column)
            dress(axes, f"{next(letters)}. INT{bits}: {title}", "groups of channels", label)
        row[2].set_yscale("log")
    panels[0, 1].legend(fontsize=9, frameon=False)
    for path in save_figure(figure, out, "channel_decomposition", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
