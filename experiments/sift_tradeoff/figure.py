"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure

WARMUP = 256
SMALL = 9
ERROR = {"sift fit": 0, "sift c_over_t": 2, "topk as fit": 3, "quest": 4, "window": 7}
COST = {"sift": 0, "topk radix": 3, "topk merge": 1, "topk bitonic": 5, "quest": 4}
NAMES = {
    "sift fit": "sift, fitted law",
    "sift c_over_t": "sift, c / t",
    "topk as fit": "exact top-k, as many keys",
}


def draw_error(axes: Axes, frame: pd.DataFrame) -> None:
    chosen = frame[(frame["heads"] == "broad") & (frame["warmup"] == WARMUP)]
    for method, color in ERROR.items():
        line = chosen[chosen["method"] == method].sort_values("statistics.union_fraction")
        axes.plot(
            100 * line["statistics.union_fraction"],
            100 * line["accuracy.relative_rmse"],
            marker="o",
            color=color_of(color),
            label=NAMES.get(method, method),
        )
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=SMALL)
    title = f"Error of one head group, {WARMUP} exact steps"
    dress(axes, title, "V rows read by the group [%]", "relative RMSE of the output [%]")


def draw_kept(axes: Axes, frame: pd.DataFrame) -> None:
    axes.plot([5, 50], [5, 50], color=INK, linewidth=1, label="as asked")
    for rule, color in (("sift fit", 0), ("sift c_over_t", 2)):
        for warmup, style in ((64, ":"), (WARMUP, "-")):
            for heads, marker in (("broad", "o"), ("sink", "s")):
                line = frame[(frame["method"] == rule) & (frame["warmup"] == warmup)]
                line = line[line["heads"] == heads]
                axes.plot(
                    100 * (1 - line["tau"]),
                    100 * line["statistics.kept_fraction"],
                    marker=marker,
                    linestyle=style,
                    color=color_of(color),
                    label=f"{NAMES[rule]}, {warmup} steps, {heads}",
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(lambda _value, _place: "")
    axes.set_xticks([5, 10, 25, 50])
    axes.set_yticks([5, 10, 25, 50, 100])
    axes.legend(frameon=False, fontsize=SMALL - 2)
    dress(axes, "Keys kept against keys asked for", "1 - tau [%]", "keys kept by a head [%]")


def draw_time(axes: Axes, frame: pd.DataFrame, batch: int, title: str) -> None:
    chosen = frame[frame["batch"] == batch]
    dense = chosen[chosen["method"] == "split over cores"]["cycles"].iloc[0]
    for method, color in COST.items():
        line = chosen[chosen["method"] == method].sort_values("union")
        share = 100 * line["statistics.union_fraction"]
        axes.plot(share, line["cycles"] / dense, marker="o", color=color_of(color), label=method)
    axes.axhline(1.0, color=INK, linewidth=1)
    axes.text(99, 1.02, "dense, split over cores", ha="right", va="bottom", fontsize=SMALL)
    axes.set_ylim(0, 2.2)
    axes.legend(frameon=False, fontsize=SMALL, loc="upper left", ncols=2)
    dress(axes, title, "V rows read by the group [%]", "time of a decode step, dense = 1")


def main(results: Path, out: Path) -> None:
    quality, cost = pd.read_csv(results / "quality.csv"), pd.read_csv(results / "cost.csv")
    figure = new_figure(11, 8.5)
    axes = figure.subplots(2, 2)
    draw_error(axes[0, 0], quality)
    draw_kept(axes[0, 1], quality)
    draw_time(axes[1, 0], cost, 6, "48 KV heads on 24 cores: bound by HBM")
    draw_time(axes[1, 1], cost, 1, "8 KV heads on 24 cores: 16 cores idle")
    save_figure(figure, out, "sift_tradeoff", ("png",))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
