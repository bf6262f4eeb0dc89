"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import color_of, dress, new_figure, save_figure
from accelsim.report.quantity import quantity_of

PERCENT, MILLI = 100, 1000
COLUMNS = {
    "time_s": "time of a step",
    "attention_s": "of it attention",
    "energy_j": "energy of a step",
    "kv_bytes": "keys and values",
}
_QUANTITY = {"attention_s": "time_s"}
"""Column -> the quantity that it is one of."""
LOSSES = "kl", "perplexity_change"


def joined(results: Path) -> pd.DataFrame:
    """Return a row for every format and system, with what the format does to the real model."""
    costs = pd.read_csv(results / "costs.csv", keep_default_na=False, na_values=[""])
    losses = pd.read_csv(results / "quality.csv")
    kept = ["format", *(f"{name}{suffix}" for name in LOSSES for suffix in ("", "_se"))]
    whole = losses.loc[losses["text"] == "all", kept]
    plain = pd.DataFrame([{"format": "bf16"} | dict.fromkeys(kept[1:], 0.0)])
    return costs.merge(pd.concat([plain, whole]), on="format", how="left", validate="many_to_one")


def markdown(rows: pd.DataFrame) -> str:
    """Return the table of costs, and below it what could not run."""
    titles = ["system", "format", *COLUMNS.values(), "attention is bound by", "perplexity", "KL"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for _, row in rows[rows["time_s"].notna()].iterrows():
        cells = [f"`{row['system']}`", f"`{row['format']}`"]
        cells += [quantity_of(_QUANTITY.get(name, name)).show(row[name]) for name in COLUMNS]
        cells.append(str(row["bound_by"]))
        change, error = (PERCENT * row[f"perplexity_change{each}"] for each in ("", "_se"))
        cells.append(f"{change:+.2f} ± {error:.2f} %" if error > 0 else "-")
        cells.append(f"{row['kl']:.1e}" if row["kl"] > 0 else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def by_text(results: Path) -> str:
    """Return the table of the change of the perplexity for every text, in percent."""
    losses = pd.read_csv(results / "quality.csv")
    table = losses[losses["text"] != "all"].pivot(
        index="format", columns="text", values="perplexity_change"
    )
    table = table.reindex(losses["format"].unique())
    lines = [f"| format | {' | '.join(table.columns)} |", "|---" * (len(table.columns) + 1) + "|"]
    for name, row in table.iterrows():
        lines.append(f"| `{name}` | {' | '.join(f'{PERCENT * each:+.2f}' for each in row)} |")
    return "\n".join(lines)


def draw(axes: Axes, rows: pd.DataFrame, formats: list[str], column: str, title: str) -> None:
    """Draw bars of a cost over that of BF16 on the same system: a group a format."""
    systems = list(dict.fromkeys(rows["system"]))
    width = 0.8 / len(systems)
    for number, system in enumerate(systems):
        own = rows[rows["system"] == system].set_index("format")[column]
        shares = (own / own["bf16"]).reindex(formats)
        places = [
            place + width * (number - (len(systems) - 1) / 2) for place in range(len(formats))
        ]
        axes.bar(places, shares, width, color=color_of(number), label=system)
    axes.axhline(1, color="0.5", linewidth=0.8)
    dress(axes, "", "", title)


def draw_losses(axes: Axes, rows: pd.DataFrame, formats: list[str]) -> None:
    """Draw the KL divergence of every format from FP32."""
    own = rows.drop_duplicates("format").set_index("format").reindex(formats)
    places = range(len(formats))
    axes.bar(places, own["kl"], 0.6, yerr=own["kl_se"], color=color_of(3))
    axes.set_yscale("log")
    dress(axes, "", "", "KL from FP32\n[nats]")


def main(results: Path, out: Path) -> None:
    """Draw the figure and print the tables."""
    rows = joined(results)
    print(markdown(rows), by_text(results), sep="\n\n")
    ran = rows[rows["time_s"].notna()]
    formats = [name for name in dict.fromkeys(ran["format"]) if name != "bf16"]
    figure = new_figure(11, 8.2)
    panels = figure.subplots(4, 1, sharex=True)
    draw_losses(panels[0], ran, formats)
    draw(panels[1], ran, formats, "time_s", "Time of a step\n[of BF16]")
    draw(panels[2], ran, formats, "energy_j", "Energy of a step\n[of BF16]")
    draw(panels[3], ran, formats, "kv_bytes", "Bytes of K and V\n[of BF16]")
    labels = [name.replace("(", "\n(") for name in formats]
    panels[3].set_xticks(range(len(formats)), labels, fontsize=8)
    handles, names = panels[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, out, "kv_formats", ("png",))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
