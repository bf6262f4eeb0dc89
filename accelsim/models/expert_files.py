"""Loads of experts as a user writes them: a name, or a file of counted rows."""

from pathlib import Path

from accelsim.errors import WorkloadError
from accelsim.models.expert_load import Balanced, ExpertLoad, Histogram, Uniform, Zipf
from accelsim.workload.archives import find_file

_COLUMN, _BETWEEN = "sorted_counts", ";"
_SPREAD = "spread_"
_ALLOWED = "uniform, zipf, balanced, spread_<experts>, or a file of rows per expert"


def expert_load(text: str | Path, seed: int = 0) -> ExpertLoad:
    """Return the load of a name, or of a file.

    A file is CSV with a column `sorted_counts`, or lines of counts alone; counts are separated by
    `;`. Several lines are layers, whose mean counts. Raises WorkloadError.
    """
    name = str(text)
    match name:
        case "uniform":
            return Uniform(seed)
        case "zipf":
            return Zipf(seed)
        case "balanced":
            return Balanced()
    used = name.removeprefix(_SPREAD)
    if name.startswith(_SPREAD) and used.isdigit():
        return Balanced(int(used))
    try:
        lines = Path(find_file(name, Path())).read_text(encoding="utf-8").split()
    except (OSError, UnicodeError, WorkloadError) as error:
        raise WorkloadError(f"experts: found '{name}', allowed: {_ALLOWED}") from error
    return Histogram(seed, _mean_counts(name, lines))


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
