"""The figure of this experiment, and its summary: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from accelsim.plotting.style import MARKERS, color_of, dress, new_figure

SHOWN = {
    "flash fp32": ("flash, fp32", 0),
    "flash fp16_fp32": ("flash, fp16 scores", 1),
    "flash fp16_fp32, scaled query": ("flash, fp16 scores, scaled query", 2),
    "flash fp16": ("flash, all fp16", 7),
    "pasa .9375": ("pasa", 4),
    "pasa .9375 fp32 statistics": ("pasa, fp32 statistics", 5),
    "centered": ("centered", 3),
}
"""Variant -> label and color."""
AMPLITUDES = (5, 20)
FLOOR = 1e-5
"""Families where even FP32 has a smaller error say nothing: every query chooses the same key there,
and copies its value whatever the rounding."""


def draw(table: pd.DataFrame, folder: Path) -> Path:
    figure = new_figure(11, 7.5)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    means = sorted(table["mean"].unique())
    for row, source in enumerate(("uniform", "hybrid")):
        for col, amplitude in enumerate(AMPLITUDES):
            axes = grid[row][col]
            panel = table[(table.source == source) & (table.amplitude == amplitude)]
            for variant, (label, color) in SHOWN.items():
                draw_variant(axes, panel[panel.variant == variant], label, color)
            axes.set_yscale("log")
            axes.set_ylim(FLOOR, 2)
            axes.set_xticks(means)
            x_label = "mean of q, k and v" if row else ""
            y_label = "relative RMSE" if col == 0 else ""
            dress(axes, f"{source}, amplitude {amplitude:g}", x_label, y_label)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    figure.suptitle("Error of FP16 attention; alone at the top: output not finite", fontsize=12)
    path = folder / "pasa_accuracy.png"
    figure.savefig(path, dpi=110)
    return path


def draw_variant(axes, rows, label, index) -> None:
    style = {"color": color_of(index), "marker": MARKERS[index]}
    finite = rows[rows.nonfinite_fraction == 0]
    axes.plot(finite["mean"], finite.relative_rmse, label=label, **style)
    lost = rows[rows.nonfinite_fraction > 0]
    axes.scatter(lost["mean"] + (0.5 if index > 1 else -0.5), [1] * len(lost), s=50, **style)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return, by variant: families with a loss, and geometric means of the relative RMSE."""
    variants = list(dict.fromkeys(table.variant))
    index = ["source", "mean", "amplitude"]
    errors = table.pivot_table("relative_rmse", index, "variant", dropna=False)[variants]
    lost = table.pivot_table("nonfinite_fraction", index, "variant")[variants]
    errors = errors.where(lost == 0)[errors["flash fp32"] > FLOOR]
    survived = errors.dropna()
    return pd.DataFrame(
        {
            "not finite": (lost > 0).sum(),
            f"mean of {len(survived)}": np.exp(np.log(survived).mean()),
            f"mean of {len(errors)}": np.exp(np.log(errors).mean(skipna=False)),
        }
    )


if __name__ == "__main__":
    results, folder = Path(sys.argv[1]), Path(sys.argv[2])
    frame = pd.read_csv(results / "results.csv")
    print(summary(frame).to_string(float_format="{:.2e}".format))
    print(draw(frame, folder))
