"""The figure of this experiment: `python figure.py RESULTS OUT`, two folders.

Markers are simulated points of RESULTS/results.csv; lines in the first panel are the closed forms
of README.md, which every point has to match to the byte.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure
from accelsim.plotting.table import find_table, read_table

HEADS, HEAD_DIM, ELEMENT_BYTES = 24, 128, 2
ROWS = 4096
TILES = {32: ":", 128: "--", 512: "-"}
COLOR = {"dense": color_of(0), "flash": color_of(3)}
MARKER = {"dense": "s", "flash": "o"}
SMALL = 9


def flash_bytes(rows: float, tile_q: float) -> float:
    """HBM bytes of flash attention: Q, the output, and all keys and values per query tile."""
    matrix = rows * HEAD_DIM * ELEMENT_BYTES
    return HEADS * (2 * matrix + np.ceil(rows / tile_q) * 2 * matrix)


def dense_bytes(rows: float, tile_q: float) -> float:
    """Those of dense attention: the same, and scores and probabilities written and read."""
    return flash_bytes(rows, tile_q) + HEADS * 4 * rows * rows * ELEMENT_BYTES


CLOSED_FORM: dict[str, Callable[[float, float], float]] = {
    "dense": dense_bytes,
    "flash": flash_bytes,
}


def load(folder: Path) -> pd.DataFrame:
    """Return the feasible points with short names for what the figure shows."""
    frame = read_table(find_table(folder))
    frame = frame[frame["status"] == "ok"]
    return frame.assign(
        kernel=frame["kernel"].str.partition("(")[0],
        rows=frame["workload.q_len"],
        traffic=frame["hbm_read_bytes"] + frame["hbm_write_bytes"],
        capacity=frame["machine.scratchpad.capacity"],
        vector_s=frame["time_s"] * frame["units.vector.utilization"],
    )


def check(frame: pd.DataFrame) -> None:
    """Stop if a simulated point moves other bytes than its closed form says."""
    for kernel, formula in CLOSED_FORM.items():
        for row in frame[frame["kernel"] == kernel].itertuples():
            expected = formula(row.rows, row.tile_q)
            if row.traffic != expected:
                sys.exit(
                    f"{kernel}, {row.rows} tokens: {row.traffic} B, but {expected:.0f} B expected"
                )
    print(f"{len(frame)} points move exactly the bytes of their closed forms")


def over_length(axes: Axes, frame: pd.DataFrame) -> None:
    """Traffic against the sequence length, for three query tiles."""
    for kernel, formula in CLOSED_FORM.items():
        for tile_q, dashes in TILES.items():
            points = frame[(frame["kernel"] == kernel) & (frame["tile_q"] == tile_q)]
            lengths = sorted(points["rows"].unique())
            line = [formula(rows, tile_q) / 1e6 for rows in lengths]
            axes.plot(lengths, line, dashes, color=COLOR[kernel], linewidth=1.5)
            axes.plot(points["rows"], points["traffic"] / 1e6, MARKER[kernel], color=COLOR[kernel])
    lengths = sorted(frame["rows"].unique())
    compulsory = frame.groupby("rows")["compulsory_bytes"].first() / 1e6
    axes.plot(compulsory.index, compulsory, color="#777777", linewidth=1.2)
    axes.annotate(
        "compulsory",
        (lengths[-1], compulsory.iloc[-1]),
        (-4, -26),
        textcoords="offset points",
        ha="right",
        fontsize=SMALL,
        color="#777777",
    )
    for kernel in CLOSED_FORM:
        axes.plot([], [], MARKER[kernel] + "-", color=COLOR[kernel], label=kernel)
    for tile_q, dashes in TILES.items():
        axes.plot([], [], dashes, color=INK, label=f"query tile {tile_q}")
    log_axis(axes, "x", lengths)
    axes.set_yscale("log")
    axes.legend(fontsize=SMALL, frameon=False, loc="upper left")
    dress(axes, "a  HBM traffic", "sequence length [tokens]", "bytes read and written [MB]")


def over_tile(axes: Axes, frame: pd.DataFrame) -> None:
    """Time against the query tile, with what bounds it from below."""
    points = frame[frame["rows"] == ROWS]
    bandwidth = float(points["peak_hbm_bytes_per_s"].iloc[0])
    for kernel in CLOSED_FORM:
        own = points[points["kernel"] == kernel]
        for tile_k, dashes in ((64, "--"), (128, "-")):
            best = own[own["tile_k"] == tile_k].groupby("tile_q")["time_s"].min() * 1e3
            label = f"{kernel}, key tile {tile_k}"
            axes.plot(
                best.index,
                best,
                MARKER[kernel] + dashes,
                color=COLOR[kernel],
                label=label,
                markerfacecolor=COLOR[kernel] if tile_k == 128 else "white",
            )
        traffic = own.groupby("tile_q")["traffic"].first() / bandwidth * 1e3
        axes.plot(traffic.index, traffic, ":", color=COLOR[kernel], linewidth=1.2)
    flash = points[(points["kernel"] == "flash") & (points["tile_k"] == 128)]
    vector = flash.groupby("tile_q")["vector_s"].first() * 1e3
    axes.plot(vector.index, vector, ":", color=INK, linewidth=1.2, label="vector unit of flash")
    axes.plot([], [], ":", color="#777777", label="HBM of each kernel")
    log_axis(axes, "x", sorted(points["tile_q"].unique()))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper right")
    dress(axes, f"b  Time at {ROWS} tokens, and its bounds", "query tile [rows]", "time [ms]")


def over_capacity(axes: Axes, frame: pd.DataFrame) -> None:
    """Energy of the fastest tiles against the scratchpad, by where it goes."""
    points = frame[frame["rows"] == ROWS].sort_values("time_s")
    best = points.groupby(["kernel", "capacity"]).first()
    prefix = "energy_by_component_j."
    capacities = sorted(points["capacity"].unique())
    for offset, kernel in ((-0.21, "dense"), (0.21, "flash")):
        own = best.loc[kernel].loc[capacities]
        hbm, pad = own[f"{prefix}hbm"], own[f"{prefix}scratchpad"]
        parts = {"HBM": hbm, "scratchpad": pad, "all else": own["energy_j"] - hbm - pad}
        bottom = hbm * 0.0
        for (name, part), shade in zip(parts.items(), (1.0, 0.6, 0.25), strict=True):
            places = np.arange(len(capacities)) + offset
            axes.bar(
                places,
                part * 1e3,
                0.38,
                bottom=bottom * 1e3,
                color=lightened(COLOR[kernel], shade),
                edgecolor="white",
                linewidth=0.6,
                label=f"{kernel}: {name}",
            )
            bottom = bottom + part
    axes.set_xticks(range(len(capacities)), [f"{each / 1024:.0f}" for each in capacities])
    axes.legend(fontsize=SMALL, frameon=False, loc="upper right", ncols=2)
    axes.set_ylim(top=640)
    dress(axes, f"c  Energy at {ROWS} tokens, fastest tile", "scratchpad [KiB]", "energy [mJ]")
    axes.grid(visible=False, axis="x")


def lightened(color: str, share: float) -> tuple[float, ...]:
    """Return `color` mixed with white, which unlike opacity hides the grid behind it."""
    return tuple(1 - share * (1 - part) for part in to_rgb(color))


def log_axis(axes: Axes, side: str, values: list[int]) -> None:
    """Make an axis logarithmic with a tick at each value."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    axes.set(**{f"{side}scale": "log"})
    axis.set_ticks(values, [str(value) for value in values])
    axis.set_ticks([], minor=True)


def main(results: Path, out: Path) -> None:
    """Draw the figure of the table in `results` into `out`."""
    frame = load(results)
    check(frame)
    figure = new_figure(13.5, 4.4)
    first, second, third = figure.subplots(1, 3)
    over_length(first, frame)
    over_tile(second, frame)
    over_capacity(third, frame)
    for path in save_figure(figure, out, "attention_traffic", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
