"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from forms import COMPENSATED, CROSSED, FOUR_BITS, UNCALIBRATED
from matplotlib.axes import Axes
from run import OF_MATRIX
from statements import NOTHING

from accelsim.plotting.style import INK, dress, new_figure, save_figure

PERCENT = 100
LARGEST = 100
"""Hundredths of a nat that have the darkest color."""
SMALL = 8.5


def read(results: Path, *steps: str) -> pd.DataFrame:
    """Return the rows of steps."""
    parts = [pd.read_csv(results / f"{step}.csv", keep_default_na=False) for step in steps]
    return pd.concat(parts, ignore_index=True)


def by_text(rows: pd.DataFrame, index: list[str], value: str = "kl") -> pd.DataFrame:
    """Return a value in percent or in hundredths of a nat, a column a text, in the order given."""
    order = list(dict.fromkeys(rows[index].itertuples(index=False, name=None)))
    wide = rows.pivot(index=index, columns="evaluated_on", values=value).astype(float)
    keys = order if len(index) > 1 else [key for (key,) in order]
    return PERCENT * wide.reindex(keys)[list(dict.fromkeys(rows["evaluated_on"]))]


def heat(axes: Axes, values: pd.DataFrame, title: str, rows: str = "") -> None:
    """Draw a table, dark where much is lost; texts that were calibrated on are in bold."""
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
    return f"{value:+,.{digits}f} ({error:.{digits}f})"


def changes(rows: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    """Return the change of the perplexity in percent with its error by token, a column a text.

    The mean is that of the NLL, with its error over the texts.
    """
    values = by_text(rows, index, "perplexity_change")
    errors = by_text(rows, index, "perplexity_change_token_se")
    nll = by_text(rows, index, "nll_change") / PERCENT
    cells = {text: list(map(signed, values[text], errors[text])) for text in values}
    mean = np.exp(nll.mean(axis=1))
    error = mean * nll.std(axis=1, ddof=1) / np.sqrt(nll.shape[1])
    cells["mean"] = list(map(signed, PERCENT * (mean - 1), PERCENT * error))
    return pd.DataFrame(cells, index=values.index)


def off_diagonal(crossed: pd.DataFrame) -> pd.DataFrame:
    """Return what forms lose where another kind of text was calibrated on, and where the same."""
    is_home = crossed["calibrated_on"] == crossed["evaluated_on"]
    own = crossed[["form", "perplexity_change", "kl"]].set_index("form") * PERCENT
    home, away = own[is_home.to_numpy()].groupby("form"), own[~is_home.to_numpy()].groupby("form")
    told = {"home": home, "away": away}
    parts = {(name, "mean"): each.mean() for name, each in told.items()}
    parts |= {(name, "worst"): each.max() for name, each in told.items()}
    return pd.concat(parts, axis=1).reindex([form.name for form in CROSSED])


def label(row: pd.Series) -> str:
    """Return a form with what it is calibrated on."""
    source = row["calibrated_on"]
    return row["form"] if source == NOTHING else f"{row['form']}: {source}"


def main(results: Path, out: Path) -> None:
    """Draw the figure of the tables in `results` into `out`, and print them."""
    once, crossed = read(results, "once"), read(results, "crossed")
    weights, attention = read(results, "weights"), read(results, "attention")
    names = [form.name for form in CROSSED]
    all_crossed = pd.concat([once[once["form"].isin(names)], crossed], ignore_index=True)
    figure = new_figure(14, 12)
    grid = figure.add_gridspec(3, 6, height_ratios=[1, 1, 1.5])
    for place, name in enumerate(names):
        row, col = divmod(place, 3)
        axes = figure.add_subplot(grid[row, 2 * col : 2 * col + 2])
        own = by_text(all_crossed[all_crossed["form"] == name], ["calibrated_on"])
        heat(axes, own, f"{'abcdef'[place]}. {name}", "calibrated on" if col == 0 else "")
    others = pd.concat([once[~once["form"].isin(names)], weights], ignore_index=True)
    order = [form.name for form in (*COMPENSATED, *FOUR_BITS, *UNCALIBRATED)]
    others = others.sort_values("form", key=lambda each: each.map(order.index), kind="stable")
    others["form"] = others.apply(label, axis=1)
    heat(
        figure.add_subplot(grid[2, :3]),
        by_text(others, ["form"])[list(OF_MATRIX)],
        "g. Other linears",
    )
    heat(figure.add_subplot(grid[2, 3:]), by_text(attention, ["form"]), "h. Attention")
    figure.suptitle(
        "KL divergence from FP32, hundredths of a nat", fontsize=11, color=INK, x=0.01, ha="left"
    )
    print(changes(all_crossed, ["form", "calibrated_on"]).to_string(), "\n")
    print(off_diagonal(crossed).round(1).to_string(), "\n")
    print(changes(others, ["form"]).to_string(), "\n")
    print(changes(attention, ["form"]).to_string(), "\n")
    kernels = read(results, "kernels")
    print(changes(kernels, ["form", "by"]).to_string(), "\n")
    print(by_text(kernels, ["form", "by"]).round(1).to_string())
    for path in save_figure(figure, out, "calibration_matrix", ["png"]):
        print(f"wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
