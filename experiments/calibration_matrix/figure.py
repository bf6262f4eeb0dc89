"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure

PERCENT = 100
NOTHING, MIXTURE = "nothing", "mixture"
CHANGE = "change of the perplexity, percent"
LARGEST_PERCENT = 50
INT4 = ", INT4"
PRINTED_WIDTH = 140


def table(frame: pd.DataFrame, rows: list[str]) -> pd.DataFrame:
    """Return the change in percent, a column for each text in the order of the results."""
    kinds = list(dict.fromkeys(frame["evaluated_on"]))
    wide = frame.pivot(index=rows, columns="evaluated_on", values="perplexity_change")
    order = frame[rows].drop_duplicates().itertuples(index=False, name=None)
    wide = wide.reindex([each if len(rows) > 1 else each[0] for each in order])
    return PERCENT * wide[kinds]


def heat(axes: Axes, changes: pd.DataFrame, title: str) -> None:
    """Draw what is lost by the text that was calibrated on, and the one that is evaluated."""
    shown = np.clip(changes.to_numpy(), 0, LARGEST_PERCENT)
    axes.imshow(np.log1p(shown), cmap="Blues", vmin=0, vmax=np.log1p(LARGEST_PERCENT))
    for row, values in enumerate(changes.to_numpy()):
        for col, value in enumerate(values):
            ink = "white" if value > LARGEST_PERCENT / 5 else INK
            axes.text(col, row, f"{value:+.1f}", ha="center", va="center", color=ink, fontsize=9)
    dress(axes, title, "evaluated on", "calibrated on")
    axes.grid(visible=False)
    axes.set_xticks(range(len(changes.columns)), changes.columns, fontsize=8.5)
    axes.set_yticks(range(len(changes.index)), changes.index, fontsize=8.5)


def spans(axes: Axes, changes: pd.DataFrame, title: str) -> None:
    """Draw the mean over texts as a bar, and every text as a point."""
    for row, (_, values) in enumerate(changes[::-1].iterrows()):
        axes.barh(row, values.mean(), color=color_of(0), height=0.6)
        axes.plot(values, np.full(len(values), row), "o", color=INK, markersize=4)
    names = [str(name).removesuffix(INT4) for name in changes.index[::-1]]
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    dress(axes, title, CHANGE, "")
    axes.set_xscale("log")
    axes.set_xlim(left=10)


def main(results: Path, out: Path) -> None:
    """Draw the figure of the tables in `results` into `out`, and print them."""
    matrix = pd.read_csv(results / "matrix.csv")
    four = pd.read_csv(results / "four_bits.csv")
    pd.set_option("display.width", PRINTED_WIDTH)
    figure = new_figure(14, 4.6)
    panels = figure.subplots(1, 3)
    for axes, form, letter in zip(panels, ("static", "row"), "ab", strict=False):
        changes = table(matrix[matrix["form"] == form], ["calibrated_on"])
        changes = changes.reindex([MIXTURE, *changes.columns])
        heat(axes, changes, f"{letter}. INT8, base: {form}")
        print(changes.round(2), "\n")
    activations = four[four["weight_bits"] == 16]
    spans(panels[2], table(activations, ["form"]), "c. INT4 activations")
    print(table(matrix[matrix["calibrated_on"] == NOTHING], ["form"]).round(2), "\n")
    print(table(four, ["weight_bits", "form"]).round(1), "\n")
    print(table(pd.read_csv(results / "kernels.csv"), ["form"]).round(2))
    for path in save_figure(figure, out, "calibration_matrix", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
