"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure

KINDS = ("prefill", "draft", "decode", "linear", "vector")
MACHINES = ("ascend-910b", "ascend-910b-no-l2", "ascend-910b-banked")
LIMIT = 0.05
"""By how much a recipe that was tried by hand may be faster than the library's."""


def figure(frame: pd.DataFrame):
    """Return for each kind the operations in the order of what the hand gains."""
    drawing = new_figure(13, 3.6)
    all_axes = drawing.subplots(1, len(KINDS), sharey=True)
    for axes, kind in zip(all_axes, KINDS, strict=True):
        for index, machine in enumerate(MACHINES):
            rows = frame[(frame["kind"] == kind) & (frame["machine"] == machine)]
            gain = np.sort(1 - rows["by_hand_cycles"] / rows["cycles"])
            place = np.linspace(0, 1, len(gain))
            axes.plot(place, 100 * gain, ".-", color=color_of(index), label=machine)
        axes.axhline(100 * LIMIT, color=INK, linewidth=0.8, linestyle=":")
        dress(axes, kind, "share of the operations", "")
    all_axes[0].set_ylabel("cycles saved by the best recipe\ntried by hand, percent")
    all_axes[0].legend(frameon=False, fontsize=9)
    return drawing


def main(results: Path, out: Path) -> None:
    frame = pd.read_csv(results / "results.csv")
    save_figure(figure(frame), out, "library_choice")
    gain = 1 - frame["by_hand_cycles"] / frame["cycles"]
    summary = frame.assign(gain=gain).groupby(["machine", "kind"])["gain"]
    print(summary.agg(["count", "median", "max"]).round(4).to_string())
    worst = frame.assign(gain=gain).nlargest(8, "gain")
    print(worst[["machine", "operation", "library", "by_hand", "gain"]].to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
