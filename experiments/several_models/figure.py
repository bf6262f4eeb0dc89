"""The figure and the table of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure
from accelsim.workload.model.texts import KINDS

PERCENT = 100
FINE_PERCENT = 0.1
"""Standard errors below it get a second digit."""
ERROR = "perplexity_change_se"
CHANGE = "Change of the perplexity"


def cell(row: pd.Series) -> str:
    """Return a change in percent with its standard error, or how many losses are not finite."""
    if row["nonfinite_losses"]:
        return f"**{row['nonfinite_losses']:.0f} not finite**"
    change, error = PERCENT * row["perplexity_change"], PERCENT * row[ERROR]
    digits = 1 if error > FINE_PERCENT else 2
    return f"{change:+.{digits}f} ({error:.{digits}f})"


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of texts that every model has read with every kernel."""
    wanted = frame["model"].nunique() * frame["kernel"].nunique()
    return frame[frame.groupby("text")["text"].transform("size") == wanted]


def markdown(frame: pd.DataFrame) -> str:
    """Return the table of a page: a row for every model and kernel, a column for every text."""
    kinds = [kind for kind in KINDS if kind in set(frame["text"])]
    lines = [f"| model | kernel | {' | '.join(kinds)} | mean | spread |"]
    lines.append("|---" * (len(kinds) + 4) + "|")
    for model, rows in frame.groupby("model", sort=False):
        first = rows.drop_duplicates("text").set_index("text")
        exact = " | ".join(f"{first.loc[kind, 'fp32_perplexity']:.2f}" for kind in kinds)
        lines.append(f"| `{model}` | perplexity in FP32 | {exact} | | |")
        for kernel, own in rows.groupby("kernel", sort=False):
            by_text = own.set_index("text")
            cells = " | ".join(cell(by_text.loc[kind]) for kind in kinds)
            changes, errors = PERCENT * own["perplexity_change"], PERCENT * own[ERROR]
            of_mean = np.sqrt((errors**2).sum()) / len(own)
            digits = 1 if of_mean > FINE_PERCENT else 2
            mean = f"{changes.mean():+.{digits}f} ({of_mean:.{digits}f})"
            ends = f"{mean} | {changes.std():.{digits}f}" if changes.notna().all() else "- | -"
            lines.append(f"| | `{kernel}` | {cells} | {ends} |")
    return "\n".join(lines)


def main(results: Path, out: Path) -> None:
    """Draw the figure of the table in `results` into `out`, and print the table."""
    frame = complete(pd.read_csv(results / "models.csv"))
    models, kernels = (list(dict.fromkeys(frame[name])) for name in ("model", "kernel"))
    figure = new_figure(13, 4.2)
    panels = figure.subplots(1, len(kernels), sharey=True)
    for axes, kernel in zip(np.atleast_1d(panels), kernels, strict=True):
        for index, model in enumerate(models[::-1]):
            rows = frame[(frame["kernel"] == kernel) & (frame["model"] == model)]
            changes = PERCENT * rows["perplexity_change"].to_numpy()
            if np.isfinite(changes).all():
                axes.barh(index, changes.mean(), color=color_of(0), height=0.6)
            else:
                middle = {"x": 0.5, "y": index + 0.15, "transform": axes.get_yaxis_transform()}
                axes.text(s="overflows on one text", fontsize=8, ha="center", **middle)
            axes.plot(changes, np.full(len(changes), index), "o", color=INK, markersize=4)
        axes.set_yticks(range(len(models)), models[::-1], fontsize=8.5)
        dress(axes, kernel, "percent", "")
    figure.suptitle(CHANGE)
    print(markdown(frame))
    for path in save_figure(figure, out, "several_models", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
