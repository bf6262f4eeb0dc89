"""The figure and the table of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import color_of, dress, marker_of, new_figure, save_figure
from accelsim.report.quantity import quantity_of

PERCENT, MILLI = 100, 1000
COLUMNS = {
    "time_per_token_s": "time of a step",
    "time_to_first_token_s": "time to first token",
    "energy_per_token_j": "energy of a token",
    "step_hbm_bytes": "HBM bytes of a step",
    "weights_bytes": "weights",
}


def joined(results: Path) -> pd.DataFrame:
    """Return a row for every scheme and system, with what the scheme does to the real model."""
    costs = pd.read_csv(results / "sweep" / "results.csv")
    losses = pd.read_csv(results / "quality.csv")
    costs = costs.rename(columns={"workload.linear": "scheme"})
    kept = ["scheme", "perplexity_change", "perplexity_change_se", "nonfinite_losses"]
    return costs.merge(losses[kept], on="scheme", how="left", validate="many_to_one")


def markdown(rows: pd.DataFrame) -> str:
    """Return the table of the page, and below it what could not run."""
    titles = ["system", "scheme", *COLUMNS.values(), "change of perplexity"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for _, row in rows[rows["status"] == "ok"].iterrows():
        cells = [f"`{row['machine']}`", f"`{row['scheme']}`"]
        cells += [quantity_of(name).show(row[name]) for name in COLUMNS]
        change = f"{PERCENT * row['perplexity_change']:+.2f} %"
        cells.append(change if pd.notna(row["perplexity_change"]) else "-")
        lines.append(f"| {' | '.join(cells)} |")
    refused = rows[rows["status"] != "ok"]
    for (system, lack), own in refused.groupby(["machine", refused["reason"].map(lack_of)]):
        names = ", ".join(f"`{name}`" for name in own["scheme"])
        lines.append(f"\n`{system}` has no {lack}: {names}")
    return "\n".join(lines)


def lack_of(reason: str) -> str:
    """Return what a machine does not have, of the reason why a point is infeasible."""
    return reason.partition("has no ")[2].partition(",")[0]


def draw(axes: Axes, rows: pd.DataFrame, column: str, title: str) -> None:
    """Draw a cost over the change of the perplexity: a color a system, a marker a scheme."""
    systems, schemes = (list(dict.fromkeys(rows[name])) for name in ("machine", "scheme"))
    for _, row in rows.iterrows():
        axes.plot(
            PERCENT * row["perplexity_change"],
            row[column] * MILLI,
            marker_of(schemes.index(row["scheme"])),
            color=color_of(systems.index(row["machine"])),
            markersize=9,
            markeredgecolor="white",
            label=f"{row['scheme']} on {row['machine']}",
        )
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(0.12)
    dress(axes, "", "change of the perplexity of SmolLM2 [%]", title)


def main(results: Path, out: Path) -> None:
    """Draw the figure and print the table."""
    rows = joined(results)
    print(markdown(rows))
    ran = rows[(rows["status"] == "ok") & rows["perplexity_change"].notna()]
    figure = new_figure(11, 5.2)
    panels = figure.subplots(1, 2)
    draw(panels[0], ran, "time_per_token_s", "Time of a step [ms]")
    draw(panels[1], ran, "energy_per_token_j", "Energy of a token [mJ]")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, out, "model_formats", ("png",))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
