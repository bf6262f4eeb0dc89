"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, MARKERS, color_of, dress, new_figure, save_figure

FAMILIES = {"sift": 0, "sift c/t": 2, "topk": 3, "quest": 4, "window": 7, "split_kv": 1}
MEGA, KILO, PERCENT = 1e6, 1e3, 100
SMALL = 9


def family(kernel: str) -> str:
    """Return the name of a kernel without its budget."""
    return kernel.rpartition(" ")[0] or kernel


def standard_error(values: pd.Series) -> float:
    """Return the standard error of a mean over texts or places; NaN of a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def of_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return means over texts, whose spread gives the errors."""
    grouped = frame.groupby("kernel", sort=False)
    names = ["nll_change", "kl", "greedy_agreement"]
    read = ["perplexity", "fp32_perplexity"]
    costs = ["kept_fraction", "union_fraction", "token_hbm_bytes", "token_cycles"]
    means = grouped[names + read + costs].mean()
    for name in names:
        means[f"{name}_se"] = grouped[name].agg(standard_error)
    means["texts"] = grouped.size()
    return means


def of_places(frame: pd.DataFrame) -> pd.DataFrame:
    """Return counts and means over the places of each length; every place has as many prompts."""
    grouped = frame.groupby(["length", "kernel"], sort=False)
    found = grouped[["prompts", "found", "fp32_found", "lost", "gained"]].sum()
    costs = ["kept_fraction", "union_fraction", "token_hbm_bytes", "token_cycles", "nll_change"]
    found[costs] = grouped[costs].mean()
    found["nll_change_se"] = grouped["nll_change"].agg(standard_error)
    return found


def cell(value: float, error: float, digits: int, sign: str = "") -> str:
    """Return a mean with its standard error, if it has one."""
    spread = "" if np.isnan(error) else f" ({error:.{digits}f})"
    return f"{value:{sign}.{digits}f}{spread}"


def cost_cells(row: pd.Series) -> str:
    shares = f"{PERCENT * row['kept_fraction']:.1f} | {PERCENT * row['union_fraction']:.1f}"
    return f"{shares} | {row['token_hbm_bytes'] / MEGA:.2f} | {row['token_cycles'] / KILO:.0f}"


def show_texts(means: pd.DataFrame) -> None:
    for kernel, row in means.iterrows():
        agreement = (PERCENT * row[name] for name in ("greedy_agreement", "greedy_agreement_se"))
        cells = (
            f"{row['perplexity']:.2f} (FP32: {row['fp32_perplexity']:.2f})",
            cell(row["nll_change"], row["nll_change_se"], 3, "+"),
            cell(row["kl"], row["kl_se"], 4),
            cell(*agreement, 1),
            cost_cells(row),
        )
        print(f"| `{kernel}` |", " | ".join(cells), "|")


def show_places(found: pd.DataFrame) -> None:
    for (length, kernel), row in found.iterrows():
        cells = (
            f"{row['found']:.0f} of {row['prompts']:.0f} (FP32: {row['fp32_found']:.0f})",
            cell(row["nll_change"], row["nll_change_se"], 3, "+"),
            cost_cells(row),
        )
        print(f"| {length:,} | `{kernel}` |", " | ".join(cells), "|")


def lines(axes: Axes, means: pd.DataFrame, x: str, y: str, scale: float) -> None:
    """Draw one line a family, over its budgets."""
    families = means.index.map(family)
    for number, (name, color) in enumerate(FAMILIES.items()):
        own = means[families == name].sort_values(x)
        error = f"{y}_se"
        axes.errorbar(
            own[x] / scale,
            own[y],
            own.get(error),
            color=color_of(color),
            marker=MARKERS[number],
            capsize=2,
            label=name,
        )


def draw(means: pd.DataFrame, found: pd.DataFrame, out: Path) -> None:
    figure = new_figure(11, 8)
    axes = figure.subplots(2, 2)
    lines(axes[0, 0], means, "token_hbm_bytes", "kl", MEGA)
    lines(axes[0, 1], means, "token_cycles", "kl", KILO)
    longest = found.loc[found.index.get_level_values("length").max()].copy()
    length = found.index.get_level_values("length").max()
    longest["share"] = PERCENT * longest["found"] / longest["prompts"]
    lines(axes[1, 0], longest, "token_hbm_bytes", "share", MEGA)
    lines(axes[1, 1], longest, "token_hbm_bytes", "nll_change", MEGA)
    for each in axes[0]:
        each.set_yscale("symlog", linthresh=1e-3)
    axes[0, 0].legend(frameon=False, fontsize=SMALL)
    kl = "KL divergence from FP32 [nats]"
    dress(axes[0, 0], "Decoded text", "HBM traffic of a token [MB]", kl)
    dress(axes[0, 1], "Decoded text", "attention of a token [kcycles]", kl)
    title = f"Pass keys in {length:,} tokens"
    fp32 = PERCENT * longest["fp32_found"].iloc[0] / longest["prompts"].iloc[0]
    axes[1, 0].axhline(fp32, color=INK, linewidth=1)
    dress(axes[1, 0], title, "HBM traffic of a token [MB]", "found [%], FP32 the line")
    dress(axes[1, 1], title, "HBM traffic of a token [MB]", "change of the key's NLL [nats]")
    save_figure(figure, out, "generation", ("png",))


def main(results: Path, out: Path) -> None:
    means = of_texts(pd.read_csv(results / "perplexity.csv"))
    found = of_places(pd.read_csv(results / "needles.csv"))
    show_texts(means)
    show_places(found)
    draw(means, found, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
