"""The figure and the table of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import color_of, dress, marker_of, new_figure, save_figure
from accelsim.report.quantity import quantity_of

PERCENT = 100
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
    """Return the table of the page."""
    titles = [*COLUMNS.values(), "change of perplexity"]
    lines = [f"| system | scheme | {' | '.join(titles)} |", "|---" * (len(titles) + 2) + "|"]
    for _, row in rows.iterrows():
        if row["status"] == "ok":
            cells = [quantity_of(name).show(row[name]) for name in COLUMNS]
        else:
            cells = [str(row["reason"])] + [""] * (len(COLUMNS) - 1)
        change = f"{PERCENT * row['perplexity_change']:+.2f} %"
        loss = change if pd.notna(row["perplexity_change"]) else "-"
        lines.append(f"| `{row['machine']}` | `{row['scheme']}` | {' | '.join(cells)} | {loss} |")
    return "\n".join(lines)


def draw(axes: Axes, rows: pd.DataFrame, system: str) -> None:
    """Draw joules of a token over the loss of every scheme that ran on a system."""
    for index, scheme in enumerate(dict.fromkeys(rows["scheme"])):
        own = rows[(rows["scheme"] == scheme) & (rows["status"] == "ok")]
        own = own[own["perplexity_change"].notna()]
        axes.scatter(
            own["time_per_token_s"] * 1e3,
            own["energy_per_token_j"] * 1e3,
            s=40 + 40 * (PERCENT * own["perplexity_change"]).clip(lower=0),
            color=color_of(index),
            marker=marker_of(index),
            edgecolor="white",
            label=scheme,
        )
    dress(axes, system, "time of a step [ms]", "energy of a token [mJ]")
    axes.margins(0.2)


def main(results: Path, out: Path) -> None:
    """Draw the figure and print the table."""
    rows = joined(results)
    systems = list(dict.fromkeys(rows["machine"]))
    figure = new_figure(4.4 * len(systems), 4.6)
    panels = figure.subplots(1, len(systems))
    for axes, system in zip(panels, systems, strict=True):
        draw(axes, rows[rows["machine"] == system], system)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, out, "model_formats", ("png",))
    print(markdown(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
