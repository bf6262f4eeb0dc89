"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from forms import FORMS
from matplotlib.axes import Axes

from accelsim.plotting.style import GRID, INK, color_of, dress, new_figure, save_figure

PERCENT = 100
SMALL, LARGE = "SmolLM2-135M", "Llama-3-8B"
CHANGE = "change of the perplexity, percent"
FAMILIES = {
    "groups": ("channel groups, a shift across channels", color_of(3), "s"),
    "blocks": ("blocks of 32 or 16 along channels", color_of(0), "o"),
    "row": ("a scale a row", color_of(2), "^"),
}
MARKED = {"activations": "full", "both": "none"}
FONT = 8
X_TICKS = [30, 50, 100, 200, 400, 800]
Y_TICKS = [0, 1, 3, 10, 30, 100, 300, 1_000, 10_000]
PLACES = {
    "INT8 row, rotated": ((-3, -17), "left"),
    "INT4 groups, best of 6": ((-8, -3), "right"),
    "MXFP4": ((-8, -3), "right"),
    "NVFP4": ((-8, -3), "right"),
    "MXFP4, rotated": ((5, -15), "left"),
    "MXFP6": ((-8, 4), "right"),
}
"""Numbers that would lie on others: offset in points, and alignment."""
NUMBERS = {name: str(number) for number, name in enumerate(FORMS, 1)}
PRINTED_WIDTH = 160


def changes(path: Path) -> pd.DataFrame:
    """Return change and standard error in percent, a row for each form: means over texts.

    The mean is that of the loss, so the change is that of the geometric mean of perplexities; the
    spread is the standard deviation of the change over texts.
    """
    frame = pd.read_csv(path)
    by_text = frame.groupby(["form", "text"], sort=False).agg(
        nll_change=("nll_change", "mean"),
        variance=("nll_change_se", lambda se: np.square(se).sum() / len(se) ** 2),
    )
    by_form = by_text.groupby("form", sort=False)
    ratio = np.exp(by_form["nll_change"].mean())
    error = by_form["variance"].apply(lambda own: np.sqrt(own.sum()) / len(own))
    spread = np.exp(by_text["nll_change"]).groupby("form", sort=False).std()
    texts = by_form.size()
    return pd.DataFrame(
        {
            "percent": PERCENT * (ratio - 1),
            "se": PERCENT * ratio * error,
            "spread": PERCENT * spread,
            "texts": texts,
        }
    )


def costs(frame: pd.DataFrame, model: str, phase: str, given: str = "float") -> pd.DataFrame:
    """Return what forms take with the assumed area of the shift, in the order of the forms."""
    own = frame[
        (frame["model"] == model)
        & (frame["phase"] == phase)
        & (frame["input"] == given)
        & (frame["shift_area"] == "assumed")
    ]
    return own.set_index("form").reindex(list(FORMS))


def against(
    axes: Axes, quality: dict[str, pd.DataFrame], cost: pd.Series, title: str, x_label: str
) -> None:
    """Draw quality against a cost; a line joins X alone with X and W."""
    for form, at in cost.items():
        family = FORMS[str(form)].family
        _, color, marker = FAMILIES[family]
        places = [own.loc[form] for own in quality.values() if form in own.index]
        axes.plot(
            [at] * len(places), [own["percent"] for own in places], color=color, linewidth=0.7
        )
        for own, fill in zip(places, MARKED.values(), strict=False):
            axes.errorbar(
                at,
                own["percent"],
                own["se"],
                color=color,
                marker=marker,
                fillstyle=fill,
                markersize=7,
                capsize=2,
                linewidth=1,
            )
        if places:
            offset, side = PLACES.get(str(form), ((7, -3), "left"))
            axes.annotate(
                NUMBERS[str(form)],
                (at, places[0]["percent"]),
                xytext=offset,
                ha=side,
                textcoords="offset points",
                fontsize=FONT + 1,
                color=INK,
            )
    dress(axes, title, x_label, CHANGE)
    axes.set_xscale("log")
    axes.set_xticks(X_TICKS, [str(tick) for tick in X_TICKS])
    axes.set_xticks([], minor=True)
    axes.set_xlim(0.85 * cost.min(), 1.25 * cost.max())
    axes.set_yscale("symlog", linthresh=1, linscale=0.7)
    axes.set_yticks(Y_TICKS, [f"{tick:,}" for tick in Y_TICKS])
    axes.set_ylim(-0.7, 8e4)
    axes.axhline(0, color=INK, linewidth=0.8)


def names(axes: Axes) -> None:
    """Write the forms beside the bars, with their numbers."""
    axes.set_yticks(
        range(len(FORMS)), [f"{NUMBERS[name]}  {name}" for name in FORMS], fontsize=FONT
    )
    axes.invert_yaxis()


def time_bars(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw the time of the products, and what the encoding of X adds."""
    whole, products = (
        costs(frame, LARGE, "prefill", given)["us_per_token"] / 1e3
        for given in ("float", "quantized")
    )
    colors = [FAMILIES[form.family][1] for form in FORMS.values()]
    places = range(len(FORMS))
    axes.barh(places, products, color=colors, height=0.7)
    axes.barh(places, whole - products, left=products, color=colors, alpha=0.4, height=0.7)
    other = frame[(frame["shift_area"] == "synthesized") & (frame["model"] == LARGE)]
    other = other[other["phase"] == "prefill"].set_index("form")["us_per_token"] / 1e3
    rows = [list(FORMS).index(form) for form in other.index]
    axes.plot(
        other,
        rows,
        "|",
        color=INK,
        markersize=14,
        label="if shifters are as small as a synthesis says",
    )
    dress(axes, f"c. Time of a token, {LARGE}, prefill", "ms (pale: X is encoded)", "")
    largest = whole.drop("MXFP8").max()
    axes.set_xlim(0, 1.15 * largest)
    axes.annotate(
        f"{whole['MXFP8']:.0f} ms",
        (1.14 * largest, list(FORMS).index("MXFP8")),
        ha="right",
        va="center",
        fontsize=FONT,
        color="white",
    )
    names(axes)
    axes.legend(fontsize=FONT, frameon=True, edgecolor=GRID, loc="lower right")


def byte_bars(axes: Axes, frame: pd.DataFrame) -> None:
    """Draw the HBM bytes of a token over those of INT8 channel groups."""
    height = 0.38
    for shift, phase, alpha in ((-height / 2, "prefill", 1.0), (height / 2, "decode", 0.45)):
        own = costs(frame, LARGE, phase)["hbm_bytes_per_token"]
        colors = [FAMILIES[form.family][1] for form in FORMS.values()]
        axes.barh(
            np.arange(len(FORMS)) + shift,
            own / own["INT8 groups"],
            height=height,
            color=colors,
            alpha=alpha,
        )
    dress(
        axes,
        f"d. HBM bytes of a token, {LARGE}",
        "over INT8 groups (dark: prefill, pale: decode)",
        "",
    )
    names(axes)


def legend(axes: Axes) -> None:
    """Say what colors and fillings mean."""
    for label, color, marker in FAMILIES.values():
        axes.plot([], [], marker, color=color, label=label)
    axes.plot([], [], "o", color=INK, label="filled: X alone")
    axes.plot([], [], "o", color=INK, fillstyle="none", label="hollow: X and W")
    axes.legend(fontsize=FONT, frameon=True, edgecolor=GRID, loc="upper right", ncols=2)


def main(results: Path, out: Path) -> None:
    """Draw the figure of the tables in `results` into `out`, and print them."""
    pd.set_option("display.width", PRINTED_WIDTH, "display.max_columns", 30)
    frame = pd.read_csv(results / "costs.csv")
    paths = {name: results / f"{name}.csv" for name in ("activations", "both", "weights")}
    tables = {name: changes(path) for name, path in paths.items() if path.exists()}
    drawn = {name: tables[name] for name in MARKED if name in tables}
    figure = new_figure(14, 10)
    panels = figure.subplots(2, 2)
    cost = costs(frame, SMALL, "prefill")
    where = f"all linears of {SMALL}, prefill"
    against(
        panels[0, 0], drawn, cost["us_per_token"], "a. Quality and time", f"us per token, {where}"
    )
    against(
        panels[0, 1],
        drawn,
        cost["uj_per_token"],
        "b. Quality and energy",
        f"uJ per token, {where}",
    )
    legend(panels[0, 0])
    time_bars(panels[1, 0], frame)
    byte_bars(panels[1, 1], frame)
    for name, table in tables.items():
        print(f"{name}\n{table.round(1)}\n")
    print(frame.drop(columns="design").round(4).to_string())
    for path in save_figure(figure, out, "power_of_two_scales", ["png"]):
        print(f"wrote {path}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
