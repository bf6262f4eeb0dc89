"""The figure and the tables of this experiment: `python figure.py RESULTS OUT`, two folders."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from accelsim.plotting.style import INK, color_of, dress, marker_of, new_figure, save_figure

PERCENT, MILLI = 100, 1000
FAINT = 0.35


def acceptances(results: Path) -> list[dict[str, Any]]:
    """Return what was measured of each scheme."""
    return [json.loads(path.read_text()) for path in sorted(results.glob("[0-9].json"))]


def acceptance_table(measured: list[dict[str, Any]]) -> str:
    """Return a row for every scheme: what is kept over all texts, and over the worst and best."""
    titles = ["scheme", "change of perplexity", "one token", "first 4", "first 8", "worst", "best"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for each in measured:
        shares = each["accepted_shares"]
        texts = sorted((text["acceptance"], text["text"]) for text in each["texts"])
        cells = [f"`{each['scheme']}`", f"{PERCENT * each['perplexity_change']:+.2f} %"]
        cells += [f"{PERCENT * shares[place]:.1f} %" for place in (0, 3, 7)]
        cells += [f"{PERCENT * share:.1f} % ({name})" for share, name in (texts[0], texts[-1])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def turn_table(turns: pd.DataFrame) -> str:
    """Return a row for every system, batch and scheme: the best length and what it gives."""
    titles = ["system", "batch", "scheme", "best length", "tokens a turn", "time a token", "plain"]
    titles += ["gain", "energy a token", "plain"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for (system, batch, scheme), own in turns.groupby(["system", "batch", "scheme"], sort=False):
        plain = own[own["length"] == 0].iloc[0]
        drafted = own[own["length"] > 0]
        best = drafted.loc[drafted["time_per_token_s"].idxmin()]
        cells = [f"`{system}`", str(batch), f"`{scheme}`", f"{best['length']:.0f}"]
        cells += [f"{best['tokens']:.2f}"]
        times = (best["time_per_token_s"], plain["time_per_token_s"])
        cells += [f"{MILLI * each:.2f} ms" for each in times]
        cells.append(f"{times[1] / times[0]:.2f}")
        cells += [f"{MILLI * row['energy_per_token_j']:.0f} mJ" for row in (best, plain)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_acceptance(axes: Axes, measured: list[dict[str, Any]]) -> None:
    """Draw how much of a draft is kept: a color a scheme, faint lines for its texts."""
    for number, each in enumerate(measured):
        places = range(1, len(each["accepted_shares"]) + 1)
        for text in each["texts"]:
            shares = [PERCENT * share for share in text["accepted_shares"]]
            axes.plot(places, shares, color=color_of(number), alpha=FAINT, linewidth=1)
        shares = [PERCENT * share for share in each["accepted_shares"]]
        axes.plot(places, shares, color=color_of(number), marker=marker_of(0), label=each["scheme"])
    axes.set_ylim(0, PERCENT * 1.02)
    dress(axes, "What FP32 keeps", "tokens of a draft", "drafts kept so far [%]")


def draw_gain(axes: Axes, turns: pd.DataFrame, system: str) -> None:
    """Draw how much faster a token is, over the length of a draft."""
    own = turns[turns["system"] == system]
    schemes = list(dict.fromkeys(turns["scheme"]))
    for number, batch in enumerate(sorted(own["batch"].unique())):
        for scheme in schemes:
            rows = own[(own["batch"] == batch) & (own["scheme"] == scheme)].sort_values("length")
            times = rows["time_per_token_s"].to_numpy()
            axes.plot(
                rows["length"],
                times[0] / times,
                color=color_of(schemes.index(scheme)),
                marker=marker_of(number),
                linestyle=("-", "--")[number],
                label=f"{scheme}, batch {batch}",
            )
    axes.axhline(1, color=INK, linewidth=1)
    dress(axes, f"Llama-3.1-8B on {system}", "tokens of a draft", "times as fast as plain steps")


def main(results: Path, out: Path) -> None:
    """Draw the figure and print the tables."""
    measured, turns = acceptances(results), pd.read_csv(results / "turns.csv")
    print(acceptance_table(measured), turn_table(turns), sep="\n\n")
    systems = list(dict.fromkeys(turns["system"]))
    figure = new_figure(4.2 * (1 + len(systems)), 4.6)
    panels = figure.subplots(1, 1 + len(systems))
    draw_acceptance(panels[0], measured)
    for axes, system in zip(panels[1:], systems, strict=True):
        draw_gain(axes, turns, system)
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, out, "speculation", ("png",))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
