"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure

SHIPPED_PIECE_BYTES = 128
SMALL = 9
COLOR = {"hbm2": color_of(0), "hbm3": color_of(3)}
NAMES = {"hbm2": "HBM2", "hbm3": "HBM3"}
PATTERNS = {
    "sorted, all rows": ("sorted", 1.0, "-", "o"),
    "sorted, 2 %": ("sorted", 0.02, "--", "s"),
    "scattered, 2 %": ("scattered", 0.02, ":", "^"),
}
ACTIVATION_PJ, MOVING_PJ_PER_BIT = 909, 2.75


def row_axis(axes: Axes, frame: pd.DataFrame) -> None:
    """Give an axis of row sizes its ticks."""
    axes.set_xscale("log", base=2)
    sizes = sorted(frame["row_bytes"].unique())
    axes.set_xticks(sizes, [str(size) for size in sizes])


def draw_bandwidth(axes: Axes, frame: pd.DataFrame) -> None:
    frame = frame[frame["piece_bytes"] == SHIPPED_PIECE_BYTES]
    for standard, color in COLOR.items():
        for name, (order, kept, dashes, marker) in PATTERNS.items():
            line = frame[(frame["standard"] == standard) & (frame["order"] == order)]
            line = line[line["kept"] == kept].sort_values("row_bytes")
            label = f"{NAMES[standard]}, {name}"
            axes.plot(
                line["row_bytes"],
                100 * line["pins_share"],
                dashes,
                marker=marker,
                color=color,
                label=label,
            )
    row_axis(axes, frame)
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=SMALL, loc="lower right")
    dress(axes, "Useful bandwidth", "bytes of a row of V", "share of the pins [%]")


def draw_energy(axes: Axes, frame: pd.DataFrame) -> None:
    """Every gather on HBM2, and the closed form at the bytes that geometry alone predicts."""
    frame = frame[frame["standard"] == "hbm2"]
    useful = np.geomspace(30, 1024, 100)
    formula = MOVING_PJ_PER_BIT + ACTIVATION_PJ / (8 * useful)
    axes.plot(useful, formula, color=INK, linewidth=1, label="2.75 + 909 / (8 B)")
    looks = {("sorted", 128): "o", ("scattered", 128): "^", ("scattered", 1024): "v"}
    for place, ((order, piece_bytes), marker) in enumerate(looks.items()):
        chosen = frame[(frame["order"] == order) & (frame["piece_bytes"] == piece_bytes)]
        axes.plot(
            chosen["expected_bytes_per_activation"],
            chosen["pj_per_bit"],
            marker,
            color=color_of(place),
            fillstyle="none",
            label=f"{order}, {piece_bytes} B of a DRAM row in a piece",
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([32, 64, 128, 256, 512, 1024], ["32", "64", "128", "256", "512", "1024"])
    axes.set_ylim(2, 7)
    axes.legend(frameon=False, fontsize=SMALL)
    dress(axes, "Energy on HBM2", "B, useful bytes per activation (expected)", "pJ/bit")


def draw_break_even(axes: Axes, frame: pd.DataFrame) -> None:
    chosen = frame[frame["piece_bytes"] == SHIPPED_PIECE_BYTES]
    for standard, color in COLOR.items():
        line = chosen[(chosen["standard"] == standard) & (chosen["order"] == "scattered")]
        line = line.sort_values("row_bytes")
        for what, dashes, marker in (("time", "-", "o"), ("energy", ":", "s")):
            label = f"{NAMES[standard]}, scattered, {what}"
            axes.plot(
                line["row_bytes"], 100 * line[what], dashes, marker=marker, color=color, label=label
            )
    lowest = 100 * chosen.loc[chosen["order"] == "sorted", ["time", "energy"]].min().min()
    axes.axhline(lowest, color=INK, linewidth=1)
    axes.text(32, lowest + 1, f"sorted, time and energy: {lowest:.0f}", va="bottom", fontsize=SMALL)
    row_axis(axes, frame)
    axes.set_ylim(0, 110)
    axes.legend(frameon=False, fontsize=SMALL, loc="lower right")
    title = "Skipping pays below this share"
    dress(axes, title, "bytes of a row of V", "break-even share of rows kept [%]")


def draw_kernels(axes: Axes, frame: pd.DataFrame) -> None:
    for (standard, row_bytes), group in frame.groupby(["standard", "row_bytes"]):
        dense = group.loc[group["kernel"] == "split_kv", "cycles"].iloc[0]
        line = group[group["kernel"] == "sift"].sort_values("union")
        axes.plot(
            100 * line["union"],
            line["cycles"] / dense,
            "-" if row_bytes == 256 else ":",
            marker="o",
            color=COLOR[standard],
            label=f"{NAMES[standard]}, rows of {row_bytes} B",
        )
    shares = np.linspace(0, 1, 2)
    axes.plot(100 * shares, (1 + shares) / 2, color=INK, linewidth=1, label="bytes")
    axes.set_ylim(0, 1.2)
    axes.legend(frameon=False, fontsize=SMALL, loc="lower right")
    dress(axes, "A whole decode step", "rows of V read [%]", "sift, split_kv = 1")


def main(results: Path, out: Path) -> None:
    memory = pd.read_csv(results / "memory.csv")
    figure = new_figure(11, 8.5)
    axes = figure.subplots(2, 2)
    draw_bandwidth(axes[0, 0], memory)
    draw_energy(axes[0, 1], memory)
    draw_break_even(axes[1, 0], pd.read_csv(results / "break_even.csv"))
    draw_kernels(axes[1, 1], pd.read_csv(results / "kernels.csv"))
    save_figure(figure, out, "gather_granularity", ("png",))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
