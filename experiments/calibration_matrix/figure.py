"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, dress, new_figure, save_figure

PERCENT = 100
NOTHING, MIXTURE = "nothing", "mixture"
SHOWN = ("tender(base=static)", "tender, 8 groups", "tender, as calibrated by default")
"""Forms that the figure has for every text that is calibrated on."""
LARGEST = 100
"""Hundredths of a nat that have the darkest color."""
SMALL = 8.5


def read(results: Path, step: str) -> pd.DataFrame:
    """Return the rows of a step."""
    return pd.read_csv(results / f"{step}.csv", keep_default_na=False)


def by_text(rows: pd.DataFrame, index: list[str], value: str = "kl") -> pd.DataFrame:
    """Return a value in percent or in hundredths of a nat, a column a text, in the order given."""
    order = list(dict.fromkeys(rows[index].itertuples(index=False, name=None)))
    wide = rows.pivot(index=index, columns="evaluated_on", values=value).astype(float)
    keys = order if len(index) > 1 else [key for (key,) in order]
    return PERCENT * wide.reindex(keys)[list(dict.fromkeys(rows["evaluated_on"]))]


def heat(axes: Axes, values: pd.DataFrame, title: str, rows: str = "") -> None:
    """Draw a table, dark where much is lost; texts that were calibrated on are framed."""
    shades = np.log1p(np.clip(values.to_numpy(), 0, LARGEST))
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=np.log1p(LARGEST), aspect="auto")
    for row, numbers in enumerate(values.to_numpy()):
        for col, number in enumerate(numbers):
            ink = "white" if number > LARGEST / 6 else INK
            weight = "bold" if values.columns[col] == values.index[row] else "normal"
            text = f"{number:.1f}" if number < LARGEST else f"{number:,.0f}"
            axes.text(
                col, row, text, ha="center", va="center", color=ink, fontsize=SMALL, weight=weight
            )
    dress(axes, title, "evaluated on", rows)
    axes.grid(visible=False)
    axes.set_xticks(range(len(values.columns)), values.columns, fontsize=SMALL)
    axes.set_yticks(range(len(values.index)), values.index, fontsize=SMALL)


def signed(value: float, error: float) -> str:
    """Return a change in percent with its standard error."""
    digits = 0 if abs(value) >= 10 else 1 if error >= 0.1 else 2
    return f"{value:+.{digits}f} ({error:.{digits}f})"


def changes(rows: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Return the change of the perplexity in percent with its error by token, a column a text."""
    values = by_text(rows, index, "perplexity_change")
    errors = by_text(rows, index, "perplexity_change_token_se")
    return pd.DataFrame(
        {text: list(map(signed, values[text], errors[text])) for text in values},
        index=values.index,
    )


def main(results: Path, out: Path) -> None:
    """Draw the figure of the tables in `results` into `out`, and print them."""
    matrix, attention = read(results, "matrix"), read(results, "attention")
    once = pd.concat([matrix[matrix["calibrated_on"].isin([MIXTURE, NOTHING])], attention])
    figure = new_figure(14, 9.5)
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 2.4])
    for place, form in enumerate(SHOWN):
        rows = by_text(matrix[matrix["form"] == form], ["calibrated_on"])
        heat(figure.add_subplot(grid[0, place]), rows, f"{'abc'[place]}. {form}", "calibrated on")
    title = "d. All kernels, linear ones calibrated on the mixture or on nothing"
    heat(figure.add_subplot(grid[1, :]), by_text(once, ["form"]), title)
    figure.suptitle(
        "KL divergence from FP32, hundredths of a nat", fontsize=11, color=INK, x=0.01, ha="left"
    )
    print(by_text(matrix, ["form", "calibrated_on"]).round(1).to_string(), "\n")
    print(changes(once, ["form"]).to_string(), "\n")
    print(changes(read(results, "headline"), ["form", "calibrated_on"]).to_string(), "\n")
    print(changes(read(results, "kernels"), ["form", "part"]).to_string(), "\n")
    parts = read(results, "parts")
    parts["change"] = list(
        map(
            signed,
            PERCENT * parts["perplexity_change"],
            PERCENT * parts["perplexity_change_token_se"],
        )
    )
    parts["kl"] = (PERCENT * parts["kl"]).round(2)
    print(parts[["part", "form", "change", "kl"]].to_string())
    for path in save_figure(figure, out, "calibration_matrix", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
