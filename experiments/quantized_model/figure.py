"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, MARKERS, color_of, dress, new_figure, save_figure

PERCENT = 100
LIMIT_PERCENT = 1.0
MICROJOULES = 1e6
CHANGE = "change of the perplexity, percent"
CALIBRATED = "best rounding"
"""What `accelsim calibrate` makes unless told otherwise."""
SMALL = 8.5
COLORS = {"schemes": color_of(1), "groups": color_of(0), "weights": color_of(7)}
PLACES = {
    "groups, shifts, W4A4": ((8, 6), "left"),
    "3 % outliers in FP16, W4A4": ((8, -6), "left"),
    "per tensor, static": ((-8, -10), "right"),
    "weight-only W4": ((8, -10), "left"),
    "groups, explicit": ((8, -8), "left"),
    "groups, shifts": ((-8, -10), "right"),
}
"""Labels that would lie on others: offset in points, and alignment."""


def load(folder: Path) -> pd.DataFrame:
    """Return the schemes with the change of the perplexity, and its standard error, in percent."""
    frame = pd.read_csv(folder / "quality.csv")
    ratio = frame["perplexity"] / frame["fp32_perplexity"]
    frame["change_percent"] = PERCENT * (ratio - 1)
    frame["se_percent"] = PERCENT * ratio * frame["nll_change_se"]
    return frame


def of_bits(frame: pd.DataFrame, weights: int, activations: int) -> pd.DataFrame:
    bits = (frame["weight_bits"] == weights) & (frame["activation_bits"] == activations)
    return frame[bits]


def bars(axes: Axes, rows: pd.DataFrame, title: str, largest_percent: float) -> None:
    """One bar a row, the least change on top, with its standard error; the axis may cut a bar."""
    rows = rows.sort_values("change_percent", ascending=False)
    axes.barh(
        range(len(rows)),
        rows["change_percent"],
        xerr=rows["se_percent"],
        color=[COLORS[part] for part in rows["part"]],
        ecolor=INK,
        height=0.7,
    )
    dress(axes, title, CHANGE, "")
    axes.set_yticks(range(len(rows)), rows["label"], fontsize=SMALL)
    axes.set(xscale="log", xlim=(0.1, largest_percent))
    axes.axvline(LIMIT_PERCENT, color=INK, linewidth=1, linestyle=":")


def costs(axes: Axes, frame: pd.DataFrame) -> None:
    """Energy of every kernel against what it does to the perplexity."""
    for index, row in enumerate(frame.to_dict("records")):
        place = MICROJOULES * row["energy_j_per_token"], PERCENT * row["perplexity_change"]
        axes.plot(*place, MARKERS[index % len(MARKERS)], color=color_of(index), markersize=8)
        offset, side = PLACES.get(row["label"], ((8, 5), "left"))
        axes.annotate(
            row["label"],
            place,
            xytext=offset,
            textcoords="offset points",
            ha=side,
            fontsize=SMALL,
        )
    dress(axes, "d. Kernels: energy and quality", "linears: energy per token, uJ", CHANGE)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.margins(x=0.25, y=0.1)


def main(results: Path, out: Path) -> None:
    """Draw the figure of the tables in `results` into `out`."""
    frame = load(results)
    eight, four = of_bits(frame, 8, 8), of_bits(frame, 4, 4)
    chosen = eight[(eight["label"] == CALIBRATED) & (eight["part"] == "groups")].assign(
        label="channel groups"
    )
    figure = new_figure(13.5, 8.2)
    panels = figure.subplots(2, 2)
    schemes = pd.concat([eight[eight["part"] == "schemes"], chosen])
    bars(panels[0, 0], schemes, "a. Schemes, W8A8", 1e3)
    bars(
        panels[0, 1], eight[eight["part"] == "groups"], "b. Channel groups, W8A8: calibration", 100
    )
    label = four["label"].str.removeprefix("4 bits, ").replace("4 bits", "64 windows")
    named = four.assign(label=label.where(four["part"] != "groups", "groups, " + label))
    bars(panels[1, 0], named, "c. Schemes and channel groups, W4A4", 1e9)
    costs(panels[1, 1], pd.read_csv(results / "kernels.csv"))
    for path in save_figure(figure, out, "quantized_model", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
