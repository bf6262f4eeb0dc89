"""The figure of this experiment, and its table: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd

from accelsim.plotting.style import MARKERS, color_of, dress, new_figure

SHOWN = {
    "flash fp16_fp32": ("flash, fp16 scores", 1),
    "pasa": ("pasa", 4),
    "centered": ("centered", 3),
    "int_flash": ("int_flash", 2),
    "sage, not smoothed": ("sage, not smoothed", 5),
    "sage": ("sage", 0),
    "sage thread fp8": ("sage, thread, fp8", 7),
}
"""Variant -> label and color."""
AMPLITUDES = (5, 20)
FLOOR = 1e-5


def draw(table: pd.DataFrame, folder: Path) -> Path:
    figure = new_figure(11, 7.5)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, source in enumerate(("uniform", "hybrid")):
        for col, amplitude in enumerate(AMPLITUDES):
            axes = grid[row][col]
            panel = table[(table.source == source) & (table.amplitude == amplitude)]
            for variant, (label, color) in SHOWN.items():
                draw_variant(axes, panel[panel.variant == variant], label, color)
            axes.set_yscale("log")
            axes.set_ylim(FLOOR, 2)
            axes.set_xticks(sorted(table["mean"].unique()))
            x_label = "mean of q, k and v" if row else ""
            y_label = "relative RMSE" if col == 0 else ""
            dress(axes, f"{source}, amplitude {amplitude:g}", x_label, y_label)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    figure.suptitle("Means taken off K; alone at the top: output not finite", fontsize=12)
    path = folder / "key_smoothing.png"
    figure.savefig(path, dpi=110)
    return path


def draw_variant(axes, rows, label, index) -> None:
    style = {"color": color_of(index), "marker": MARKERS[index]}
    finite = rows[rows.nonfinite_fraction == 0]
    axes.plot(finite["mean"], finite.relative_rmse, label=label, **style)
    lost = rows[rows.nonfinite_fraction > 0]
    axes.scatter(lost["mean"], [1] * len(lost), s=50, **style)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the relative RMSE of every family, and how many outputs of all are not finite."""
    variants = list(dict.fromkeys(table.variant))
    family = table.source + " " + table["mean"].astype(str) + "/" + table.amplitude.astype(str)
    errors = table.assign(family=family).pivot_table(
        "relative_rmse", "family", "variant", dropna=False, sort=False
    )[variants]
    lost = table[table.nonfinite_fraction > 0].groupby("variant").size()
    errors.loc["families not finite"] = lost.reindex(variants, fill_value=0)
    return errors.T


if __name__ == "__main__":
    results, folder = Path(sys.argv[1]), Path(sys.argv[2])
    frame = pd.read_csv(results / "results.csv")
    print(summary(frame).to_string(float_format="{:.2e}".format))
    print(draw(frame, folder))
