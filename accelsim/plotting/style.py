"""How every figure looks, and how it is saved. Nothing here changes matplotlib's global state."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsim.errors import OutputError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Numbers = npt.NDArray[np.signedinteger[Any]]

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F")
"""Colors that stay apart for color-blind readers: Okabe and Ito, Color Universal Design (2008)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#222222"
GRID = "#DDDDDD"
FORMATS = ("png", "svg")

_TITLE_POINTS, _LABEL_POINTS, _TICK_POINTS = 13, 11, 10
_RESOLUTION_DPI = 150
_COLORS = 256
"""That a byte of a PNG tells apart."""


def new_figure(width_inches: float, height_inches: float) -> "Figure":
    """Return an empty figure that lays itself out; it belongs to nobody but the caller."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def dress(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    """Give `axes` its words, readable sizes and a quiet grid behind the data."""
    axes.set_title(title, fontsize=_TITLE_POINTS, color=INK, loc="left")
    axes.set_xlabel(x_label, fontsize=_LABEL_POINTS)
    axes.set_ylabel(y_label, fontsize=_LABEL_POINTS)
    axes.tick_params(labelsize=_TICK_POINTS)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def titled(figure: "Figure", subject: str) -> "Figure":
    """Return the figure with what it is of above it: machine, workload, and what was changed."""
    title = figure.suptitle(subject, fontsize=_LABEL_POINTS, color=INK, x=0.01, ha="left")
    title.set_parse_math(False)
    return figure


def legend_beside(axes: "Axes", title: str = "") -> None:
    """Put the legend to the right of `axes`, where it hides no data."""
    legend = axes.legend(
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
        frameon=False,
        fontsize=_TICK_POINTS,
        title_fontsize=_TICK_POINTS,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # names come from the user, and a dollar in them is no formula


def note_hollow(axes: "Axes", exact: "pd.Series[bool]") -> None:
    """Say in the legend what hollow markers mean, where there are any."""
    if not exact.all():
        axes.plot([], [], "o", color=INK, fillstyle="none", label="hollow: approximate")


def color_of(index: int) -> str:
    """Return the color of the series `index`; colors repeat after the palette's end."""
    return PALETTE[index % len(PALETTE)]


def marker_of(index: int) -> str:
    """Return the marker of the series `index`; another one where the colors repeat."""
    return MARKERS[(index + index // len(PALETTE)) % len(MARKERS)]


def hatch_of(index: int) -> str:
    """Return the hatch that tells apart bars whose colors repeat."""
    return ("", "///", "...")[index // len(PALETTE) % 3]


def save_figure(
    figure: "Figure", folder: str | Path, name: str, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write `figure` as `folder/name.<format>` and return the paths.

    The same figure gives the same bytes. Raises OutputError where the folder cannot be written.
    """
    from matplotlib import rc_context

    paths = [Path(folder) / f"{name}.{suffix}" for suffix in formats]
    try:
        for path in paths:
            metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
            with rc_context({"svg.hashsalt": "accelsim"}):
                figure.savefig(path, dpi=_RESOLUTION_DPI, metadata=metadata)
            if path.suffix == ".png":
                _reduce_colors(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot write the figure: {error.strerror}") from error
    return paths


def _reduce_colors(path: Path) -> None:
    """Give a PNG a palette of 256 colors: a third of the bytes, and no difference to be seen.

    Colors of series stay as they are, however few points they have; shades along edges become the
    nearest color. (A palette by median cut gives a series of few points the color of another.)
    """
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.int32)
    codes = pixels @ np.array([1 << 16, 1 << 8, 1], np.int32)
    found, places = np.unique(codes, return_inverse=True)
    colors = np.stack([found >> shift & 0xFF for shift in (16, 8, 0)], axis=1)
    own = np.flatnonzero(np.isin(found, [int(color[1:], 16) for color in (*PALETTE, INK, GRID)]))
    kept, nearest = _spread(colors, own)
    reduced = Image.fromarray(nearest.astype(np.uint8)[places].reshape(codes.shape))
    reduced.putpalette(colors[kept].astype(np.uint8).tobytes())
    reduced.save(path, optimize=True)


def _spread(colors: "Numbers", first: "Numbers") -> "tuple[list[int], Numbers]":
    """Return which colors to keep, and of each color which of these is the nearest.

    After the first ones the farthest from all that are kept is taken again and again, which leaves
    none much farther away than the best choice would (Gonzalez, Theoretical Computer Science 38,
    1985).
    """
    kept = list[int]()
    nearest = np.zeros(len(colors), np.int64)
    apart = np.full(len(colors), 1 << 30)
    for number in range(min(_COLORS, len(colors))):
        kept.append(int(first[number]) if number < len(first) else int(apart.argmax()))
        to_it = ((colors - colors[kept[-1]]) ** 2).sum(axis=1)
        nearest[to_it < apart] = number
        apart = np.minimum(apart, to_it)
    return kept, nearest
