"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import color_of, dress, new_figure, save_figure

PERCENT = 100

BAR = 0.38


def of_both(frame: pd.DataFrame) -> pd.DataFrame:
    """Return costs with a column for who codes, a row a machine, a model and bits."""
    parts = frame["form"].str.split(", ", expand=True)
    frame = frame.assign(machine=parts[0], model=parts[1], given=parts[2])
    frame["hbm_bytes"] = frame["hbm_read_bytes"] + frame["hbm_write_bytes"]
    kept = ["cycles", "hbm_bytes", "energy_j"]
    return frame.pivot(index=["machine", "model", "bits"], columns="given", values=kept)


def saved(both: pd.DataFrame, name: str) -> pd.Series:
    """Return what is saved of a quantity, in percent."""
    values = both[name]
    return PERCENT * (1 - values["quantized"] / values["float"])


def errors(axes: Axes, heads: pd.DataFrame) -> None:
    """Draw the error of the output of o, a bar a form and width."""
    wide = heads.pivot_table(index="form", columns="bits", values="output_error", sort=False)
    order = wide.fillna(0)[4].sort_values().index[::-1]
    for number, bits in enumerate((8, 4)):
        places = np.arange(len(order)) + (number - 0.5) * BAR
        values = PERCENT * wide.loc[order, bits]
        axes.barh(places, values, height=BAR, color=color_of(number), label=f"INT{bits}")
    axes.set_yticks(range(len(order)), order, fontsize=8.5)
    axes.set_xscale("log")
    axes.legend(frameon=False)
    dress(axes, "a. base of the row for o", "error of its output, percent", "")


def savings(axes: Axes, both: pd.DataFrame) -> None:
    """Draw what a whole layer saves."""
    names = {"hbm_bytes": "HBM bytes", "energy_j": "energy", "cycles": "cycles"}
    labels = [f"{machine}, {model}, INT{bits}" for machine, model, bits in both.index]
    height = 0.8 / len(names)
    for number, (name, label) in enumerate(names.items()):
        places = np.arange(len(labels)) + (number - 1) * height
        axes.barh(places, saved(both, name), height=height, color=color_of(number), label=label)
    axes.set_yticks(range(len(labels)), labels, fontsize=8.5)
    axes.invert_yaxis()
    axes.legend(frameon=False)
    dress(axes, "b. saved of a whole layer", "percent", "")


def main(results: Path, out: Path) -> None:
    """Draw the figure of the tables in `results` into `out`, and print them."""
    heads, costs = (pd.read_csv(results / f"{name}.csv") for name in ("heads", "costs"))
    pd.set_option("display.width", 160)
    figure = new_figure(13, 4.6)
    left, right = figure.subplots(1, 2)
    errors(left, heads)
    both = of_both(costs)
    savings(right, both)
    by_text = ["form", "bits"]
    print((PERCENT * heads.groupby(by_text, sort=False)["output_error"].mean()).round(2), "\n")
    for name in ("heads", "rounding", "kernels"):
        frame = pd.read_csv(results / f"{name}.csv")
        for column in ("perplexity_change", "perplexity_change_se"):
            wide = frame.pivot(index=by_text, columns="text", values=column)
            print(name, column, (PERCENT * wide).round(2), sep="\n", end="\n\n")
        if "energy_j" in frame:
            print(frame.groupby("form", sort=False)[["cycles", "hbm_bytes", "energy_j"]].mean())
    rounding = pd.read_csv(results / "rounding.csv")
    print((PERCENT * rounding.groupby("form")["output_error"].mean()).round(4), "\n")
    print(both.to_string(), "\n")
    for name in ("cycles", "hbm_bytes", "energy_j"):
        print(name, saved(both, name).round(1), sep="\n", end="\n\n")
    for path in save_figure(figure, out, "coded_rows", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
