"""Rows of experts of which only three numbers are known."""

import numpy as np

from accelsim.errors import WorkloadError

_STEEPEST = 8.0


def skewed_counts(
    touched: float, largest_share: float, rows: int, experts: int
) -> tuple[float, ...]:
    """Return mean rows of each expert by rank [experts], `rows` in all.

    touched: mean number of experts with rows; largest_share: of all rows, that the first one has.
    Each touched expert has one row; the others fall by a power of the rank, so steep that the first
    one has its share. Raises WorkloadError for more touched experts than there are.
    """
    if not 1 <= touched <= experts:
        raise WorkloadError(
            f"experts_touched_mean: found {touched:g}, allowed: 1 to {experts}, the experts"
        )
    ranks = np.arange(1, experts + 1)
    # Of 5.5 touched experts the sixth has rows in half of the layers.
    present = np.clip(touched - ranks + 1, 0, 1)
    spare, first = max(rows - touched, 0.0), largest_share * rows
    low, high = 0.0, _STEEPEST
    for _ in range(60):
        middle = (low + high) / 2
        weights = present * ranks**-middle
        is_flat = 1 + spare * weights[0] / weights.sum() < first
        low, high = (middle, high) if is_flat else (low, middle)
    weights = present * ranks**-high
    counts = present + spare * weights / weights.sum()
    return tuple(float(each) for each in counts * (rows / counts.sum()))
