"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure

PERCENT = 100
LIMIT_PERCENT = 1.0
EIGHT, FOUR = (8, 8), (4, 4)
SMALL = 8.5
COLORS = {"schemes": color_of(1), "groups": color_of(0), "weights": color_of(7)}


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


def bars(axes: Axes, rows: pd.DataFrame, title: str, x_label: str) -> None:
    """One bar a row, the first on top, with its standard error."""
    places = range(len(rows))[::-1]
    axes.barh(
        places,
        rows["change_percent"],
        xerr=rows["se_percent"],
        color=[COLORS[part] for part in rows["part"]],
        ecolor=INK,
        height=0.7,
    )
    axes.set_yticks(places, rows["label"], fontsize=SMALL)
    dress(axes, title, x_label, "")
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set(xscale="log", xlim=(0.1, None))
    axes.axvline(LIMIT_PERCENT, color=INK, linewidth=1, linestyle=":")


def main(results: Path, out: Path) -> None:
    """Draw the figure of the table in `results` into `out`."""
    frame = load(results)
    figure = new_figure(13.5, 8.2)
    panels = figure.subplots(2, 2)
    change = "change of the perplexity, percent"
    grouped = (frame["part"] == "groups") & (frame["label"] == "default")
    best = frame[grouped & (frame["weight_bits"] == 8)].replace({"label": {"default": "groups"}})
    baselines = of_bits(frame, *EIGHT)[lambda rows: rows["part"] == "schemes"]
    bars(panels[0, 0], pd.concat([baselines, best]), "a. Schemes, W8A8", change)
    options = of_bits(frame, *EIGHT)[lambda rows: rows["part"] == "groups"]
    options = options.sort_values("change_percent")
    bars(panels[0, 1], options, "b. Channel groups, W8A8, one choice changed", change)
    four = of_bits(frame, *FOUR).sort_values("change_percent")
    bars(panels[1, 0], four, "c. Schemes and groups, W4A4", change)
    parts = frame[frame["part"] == "weights"].assign(
        label=lambda rows: "W" + rows["weight_bits"].astype(str) + ", " + rows["label"]
    )
    bars(panels[1, 1], parts, "d. Weights alone", change)
    for path in save_figure(figure, out, "quantized_model", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
