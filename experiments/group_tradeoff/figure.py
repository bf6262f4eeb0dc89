"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure
from accelsim.plotting.table import find_table, read_table
from accelsim.sweeps.pareto import pareto_front

BITS = {"W8A8": (8, 8), "W4A8": (8, 4), "W4A4": (4, 4)}
"""Name -> bits of activations and weights."""
ARRAYS = {32: "^", 64: "o", 128: "s"}
CHUNKS = {256: "-", 32: "--"}
ARRAY = 64
SMALL = 9


def load(folder: Path) -> pd.DataFrame:
    """Return the points with short names for what the figure shows."""
    frame = read_table(find_table(folder))
    frame = frame[frame["status"] == "ok"]
    return frame.assign(
        error=frame["accuracy.relative_rmse"],
        energy_uj=frame["energy_j"] * 1e6,
        array=frame["machine.int_mac.rows"],
    )


def of_bits(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the points of one pair of widths."""
    activation_bits, weight_bits = BITS[name]
    is_own = frame["activation_bits"] == activation_bits
    return frame[is_own & (frame["weight_bits"] == weight_bits)]


def over_groups(axes: Axes, frame: pd.DataFrame) -> None:
    """Error against the number of groups, for the largest and the smallest chunks."""
    for index, name in enumerate(BITS):
        for chunk, dashes in CHUNKS.items():
            own = of_bits(frame, name)
            own = own[(own["chunk_rows"] == chunk) & (own["array"] == ARRAY)].sort_values("groups")
            label = name if chunk == max(CHUNKS) else None
            color = color_of(index)
            axes.plot(own["groups"], own["error"], f"o{dashes}", color=color, label=label)
    for chunk, dashes in CHUNKS.items():
        axes.plot([], [], dashes, color=INK, label=f"chunks of {chunk} rows")
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    groups = sorted(frame["groups"].unique())
    axes.set_xticks(groups, [str(each) for each in groups])
    axes.minorticks_off()
    axes.legend(fontsize=SMALL, frameon=False)
    dress(axes, "a  Accuracy", "channel groups", "relative RMSE of the output")


def over_energy(axes: Axes, frame: pd.DataFrame) -> None:
    """Error against energy of all points, with the front."""
    for index, name in enumerate(BITS):
        own = of_bits(frame, name)
        for array, marker in ARRAYS.items():
            some = own[own["array"] == array]
            axes.plot(some["energy_uj"], some["error"], marker, color=color_of(index), alpha=0.45)
        axes.plot([], [], "o", color=color_of(index), label=name)
    for array, marker in ARRAYS.items():
        axes.plot([], [], marker, color=INK, label=f"array {array} x {array}")
    front = frame[pareto_front(frame, ["energy_uj", "error"])].sort_values("energy_uj")
    axes.step(front["energy_uj"], front["error"], color=INK, where="post", label="Pareto front")
    axes.set_yscale("log")
    axes.legend(fontsize=SMALL, frameon=False)
    dress(axes, "b  What it costs", "energy [µJ]", "relative RMSE of the output")


def over_time(axes: Axes, frame: pd.DataFrame) -> None:
    """Cycles added by groups, by array size and bits, for chunks as long as the input."""
    longest = frame[frame["chunk_rows"] == max(CHUNKS)]
    for index, name in enumerate(BITS):
        for array, marker in ARRAYS.items():
            own = of_bits(longest, name)
            own = own[own["array"] == array].sort_values("groups")
            first = own["cycles"].iloc[0]
            added = 100 * (own["cycles"] / first - 1)
            axes.plot(own["groups"], added, f"{marker}-", color=color_of(index), markersize=5)
    axes.set_xticks(sorted(frame["groups"].unique()))
    axes.set_ylim(bottom=0)
    dress(axes, "c  What the shifts take", "channel groups", "cycles above one group [%]")


def main(results: Path, out: Path) -> None:
    """Draw the three panels side by side."""
    frame = load(results)
    figure = new_figure(15.0, 4.6)
    panels = figure.subplots(1, 3)
    over_groups(panels[0], frame)
    over_energy(panels[1], frame)
    over_time(panels[2], frame)
    save_figure(figure, out, "group_tradeoff", ["png"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
