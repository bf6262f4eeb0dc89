"""The figure and the table of this experiment: `python figure.py RESULTS OUT`, two folders."""

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, color_of, dress, new_figure, save_figure
from accelsim.report.quantity import quantity_of

PERCENT = 100


def step_of(row: pd.Series) -> str:
    """Return what a row computes, in a few words."""
    if row["new"] == 1:
        return f"{row['batch']} steps"
    return f"{row['new']} tokens"


def markdown(rows: pd.DataFrame) -> str:
    """Return the table of the page."""
    lines = [
        "| machine | model | step | apart | as one | HBM apart | HBM as one |",
        "|---" * 7 + "|",
    ]
    show_s, show_bytes = quantity_of("x_s").show, quantity_of("x_bytes").show
    for _, row in rows.iterrows():
        has_one = pd.notna(row["one_s"])
        one = show_s(row["one_s"]) if has_one else str(row["reason"])
        moved = show_bytes(row["one_hbm_bytes"]) if has_one else ""
        cells = [f"`{row['machine']}`", f"`{row['model']}`", step_of(row), show_s(row["apart_s"])]
        cells += [one, show_bytes(row["apart_hbm_bytes"]), moved]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(axes: Axes, rows: pd.DataFrame, pair: str, title: str) -> None:
    """Draw what is left of a column, in percent, a group of bars a step."""
    steps = list(dict.fromkeys(rows.apply(step_of, axis=1)))
    series = list(dict.fromkeys(zip(rows["machine"], rows["model"], strict=True)))
    width = 0.8 / len(series)
    for index, (machine, model) in enumerate(series):
        own = rows[(rows["machine"] == machine) & (rows["model"] == model)]
        places = [steps.index(step_of(row)) + index * width for _, row in own.iterrows()]
        left = PERCENT * own[f"one_{pair}"] / own[f"apart_{pair}"]
        axes.bar(places, left, width, color=color_of(index), label=f"{model} on {machine}")
    axes.axhline(PERCENT, color=INK, linewidth=1)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(steps))], steps)
    dress(
        axes,
        title,
        "decode steps of sequences, and tokens of a prompt",
        "as one program [% of apart]",
    )


def main(results: Path, out: Path) -> None:
    """Draw the figure and print the table."""
    rows = pd.read_csv(results / "layers.csv")
    print(markdown(rows))
    drawn = rows[rows["one_s"].notna()]
    figure = new_figure(12, 4.6)
    panels = figure.subplots(1, 2)
    draw(panels[0], drawn, "s", "Time")
    draw(panels[1], drawn, "hbm_bytes", "HBM bytes")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, out, "layer_as_one", ("png",))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
