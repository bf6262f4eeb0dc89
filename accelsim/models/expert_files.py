"""Loads of experts as a user writes them: a name, or a file of counted rows, with a seed behind it.

`zipf(seed=3)` and `counts.csv(seed=3)` draw anew; without a seed it is 0.
"""

import os
import re
from pathlib import Path

from accelsim.errors import FILE_ERRORS, WorkloadError, did_you_mean, reason_of
from accelsim.models.expert_load import Balanced, ExpertLoad, Histogram, Uniform, Zipf

_COLUMN, _BETWEEN = "sorted_counts", ";"
_SPREAD = "spread_"
_ALLOWED = (
    "uniform, zipf, balanced, spread_<experts>, or a file of rows per expert; what is drawn may "
    "have a seed, zipf(seed=3)"
)
_NAMES = ("uniform", "zipf", "balanced", "spread_16")
_SEEDED = re.compile(r"(.+)\(seed=(\d{1,18})\)", re.DOTALL)


def expert_load(text: str | Path) -> ExpertLoad:
    """Return the load of a name, or of a file, drawn with the seed behind it.

    A file is CSV with a column `sorted_counts`, or lines of counts alone; counts are separated by
    `;`. Several lines are layers, whose mean counts. Raises WorkloadError.
    """
    name, seed = _parts(str(text))
    used = name.removeprefix(_SPREAD)
    is_spread = name.startswith(_SPREAD) and used.isdigit()
    if is_spread or name == "balanced":
        if seed is not None:
            raise WorkloadError(f"experts: found '{text}', allowed: {name}, which draws nothing")
        return Balanced(int(used) if is_spread else None)
    drawn = {"uniform": Uniform, "zipf": Zipf}.get(name)
    if drawn:
        return drawn(seed or 0)
    if not (Path(name).suffix or "/" in name or os.path.exists(name)):
        hint = did_you_mean(name, _NAMES)
        raise WorkloadError(f"experts: found '{text}'{hint or ','} allowed: {_ALLOWED}")
    return Histogram(seed or 0, _mean_counts(name, _lines(name)))


def beside(text: str, folder: Path) -> str:
    """Return a load whose file, if it has one in a folder, is named by its path."""
    file = file_of(text, folder)
    return text if file is None else text.replace(_parts(text)[0], str(file), 1)


def file_of(text: str, folder: Path = Path()) -> Path | None:
    """Return the file of a load that has one in a folder."""
    path = folder / _parts(text)[0]
    return path if os.path.isfile(path) else None


def _parts(text: str) -> tuple[str, int | None]:
    """Return a name or path, and the seed behind it."""
    found = _SEEDED.fullmatch(text)
    return (found[1], int(found[2])) if found else (text, None)


def _lines(name: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").split()
    except FILE_ERRORS as error:
        raise WorkloadError(f"experts: {name}: cannot be read: {reason_of(error)}") from None


def _mean_counts(name: str, lines: list[str]) -> tuple[float, ...]:
    heads = lines[0].split(",") if lines else []
    place = heads.index(_COLUMN) if _COLUMN in heads else None
    cells = lines if place is None else [line.split(",")[place] for line in lines[1:]]
    layers = [counts_of(cell, f"{name}, line {number}") for number, cell in enumerate(cells, 1)]
    found = sorted({len(each) for each in layers})
    if len(found) != 1:
        lines_of = f"lines of {' and '.join(map(str, found))} experts" if found else "no counts"
        raise WorkloadError(
            f"experts: {name}: found {lines_of}, allowed: one line or more, all of as many experts"
        )
    return tuple(sum(each) / len(layers) for each in zip(*layers, strict=True))


def counts_of(cell: str, place: str) -> tuple[float, ...]:
    """Return counts that stand in one cell; raises WorkloadError, which names the place."""
    try:
        counts = tuple(float(each) for each in cell.split(_BETWEEN))
    except ValueError:
        counts = (-1.0,)
    if not (min(counts) >= 0 and 0 < sum(counts) < float("inf")):
        raise WorkloadError(
            f"experts: {place}: found '{cell[:40]}', allowed: rows of each expert, 0 or more, "
            f"separated by {_BETWEEN}"
        )
    return counts
