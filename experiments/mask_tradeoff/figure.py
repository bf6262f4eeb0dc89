"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, MARKERS, color_of, dress, new_figure, save_figure

NAMES = (
    "pooled",
    "antidiagonal",
    "gate",
    "indexer, fitted",
    "indexer, random",
    "window",
    "sinks_window",
    "dilated",
)
COLORS = dict(zip(NAMES, (*map(color_of, range(6)), INK, color_of(7)), strict=True))
SWEPT_TOKENS = 4096
SCALED = {
    "cycles": "cycles / those of flash",
    "hbm_bytes": "HBM bytes / those of flash",
    "energy_j": "energy / that of flash",
}
SMALL = 8.5


def load(folder: Path) -> pd.DataFrame:
    """Return the points; costs are divided by those of flash on the same workload."""
    frame = pd.read_csv(folder / "points.csv")
    frame["hbm_bytes"] = frame["hbm_read_bytes"] + frame["hbm_write_bytes"]
    flash = frame[frame["label"] == "flash"].set_index(["layer", "tokens"])
    workload = pd.MultiIndex.from_frame(frame[["layer", "tokens"]])
    for column in SCALED:
        frame[column] = frame[column] / flash[column].reindex(workload).to_numpy()
    return frame


def sweep(axes: Axes, frame: pd.DataFrame, x: str, y: str) -> None:
    """One line a mask through the points of its own knob: coverage, or the window."""
    swept = frame[(frame["select"] != "threshold") & (frame["label"] != "flash")]
    for index, name in enumerate(NAMES):
        points = swept[swept["label"] == name].sort_values(x)
        is_fixed = name in NAMES[-3:]
        axes.plot(
            points[x],
            points[y],
            color=COLORS[name],
            marker=MARKERS[index],
            markersize=4.5,
            linewidth=1.3,
            linestyle=":" if is_fixed else "-",
            label=name.replace("_", " + "),
        )


def over_length(axes: Axes, frame: pd.DataFrame) -> None:
    """Cycles of one setting of each mask against the number of tokens."""
    one = frame[(frame["coverage"] == 0.9) | (frame["window"] == 512)]
    for index, name in enumerate(NAMES):
        points = one[one["label"] == name].drop_duplicates("tokens").sort_values("tokens")
        style = ":" if name in NAMES[-3:] else "-"
        axes.plot(
            points["tokens"],
            points["cycles"],
            style,
            color=COLORS[name],
            marker=MARKERS[index],
            markersize=4.5,
            linewidth=1.3,
        )
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", ylim=(0, None))
    lengths = sorted(one["tokens"].unique())
    axes.set_xticks(lengths, [f"{length // 1024}k" for length in lengths])
    axes.set_xticks([], minor=True)


def main(results: Path, out: Path) -> None:
    """Draw the figure of the table in `results` into `out`."""
    frame = load(results)
    broad, sink = (
        frame[(frame["layer"] == layer) & (frame["tokens"] == frame_tokens(frame))]
        for layer in sorted(frame["layer"].unique())
    )
    figure = new_figure(13.5, 8.2)
    panels = figure.subplots(2, 3)
    for axes, points, title in (
        (panels[0, 0], broad, "a. Mass kept, broad attention (layer 11)"),
        (panels[0, 1], sink, "b. Mass kept, attention sink (layer 18)"),
    ):
        sweep(axes, points, "statistics.density", "statistics.kept_mass")
        dress(axes, title, "density: kept share of blocks", "kept share of attention mass")
        axes.set(xlim=(0, 1), ylim=(None, 1.005))
    sweep(panels[0, 2], broad, "cycles", "accuracy.relative_rmse")
    dress(panels[0, 2], "c. Error against time (layer 11)", SCALED["cycles"], "relative RMSE")
    panels[0, 2].set(yscale="log")
    panels[0, 2].axvline(1, color="black", linewidth=0.8)
    for axes, column, title in (
        (panels[1, 0], "hbm_bytes", "d. Traffic (layer 11)"),
        (panels[1, 1], "energy_j", "e. Energy (layer 11)"),
    ):
        sweep(axes, broad, "statistics.density", column)
        dress(axes, title, "density: kept share of blocks", SCALED[column])
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set(xlim=(0, 1), ylim=(0, None))
    over_length(panels[1, 2], frame[frame["layer"] == broad["layer"].iloc[0]])
    dress(panels[1, 2], "f. Time of coverage 0.9 or window 512", "tokens", SCALED["cycles"])
    panels[0, 0].legend(fontsize=SMALL, frameon=False, loc="lower right")
    for path in save_figure(figure, out, "mask_tradeoff", ["png"]):
        print(f"wrote {path}")


def frame_tokens(frame: pd.DataFrame) -> int:
    """Return the number of tokens that every mask was swept at."""
    return SWEPT_TOKENS if (frame["tokens"] == SWEPT_TOKENS).any() else int(frame["tokens"].min())


main(Path(sys.argv[1]), Path(sys.argv[2]))
