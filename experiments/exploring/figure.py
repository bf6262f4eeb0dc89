"""Draw how fast each sampler finds the front of the grid.

python experiments/exploring/figure.py out/exploring docs/gallery
"""

import sys
from pathlib import Path

import pandas as pd

from accelsim.plotting.style import INK, color_of, dress, legend_beside, new_figure, save_figure

ENOUGH = 0.99
LOWEST = 0.8
"""Shares below that are left out, where all samplers rise alike."""


def main(table: Path, gallery: Path) -> None:
    """Write exploring.png: medians over seeds, with the lowest and highest."""
    growth = pd.read_csv(table / "growth.csv")
    figure = new_figure(8.5, 4.6)
    axes = figure.subplots()
    for index, (sampler, rows) in enumerate(growth.groupby("sampler", sort=False)):
        shares = rows.groupby("points")["hypervolume_share"]
        middle, color = shares.median(), color_of(index)
        axes.plot(middle.index, middle, color=color, linewidth=1.8, label=str(sampler))
        axes.fill_between(middle.index, shares.min(), shares.max(), color=color, alpha=0.12)
    axes.axhline(ENOUGH, color=INK, linestyle=":", linewidth=1.0, label="99 %")
    axes.set_ylim(LOWEST, 1.005)
    dress(
        axes,
        "What points of a tenth of the grid find of its front",
        "points looked at",
        "share of the hypervolume",
    )
    legend_beside(axes, title="sampler")
    print(f"wrote {save_figure(figure, gallery, 'exploring', ['png'])[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
