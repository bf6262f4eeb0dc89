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
    ranks, present = np.arange(1, experts + 1), _present(touched, experts)
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


def held_to(touched: float, counts: tuple[float, ...]) -> tuple[float, ...]:
    """Return mean rows by rank with no more experts than have rows in the mean layer.

    Layers differ, so the mean of their sorted counts has rows for as many experts as the layer that
    touches most of them. A mean of 0.3 rows is one row in 3 of 10 layers. What is behind the rank
    at which this makes the mean number goes to those before it, in proportion.
    """
    rows, low, high = np.array(counts), 1.0, float(len(counts))
    for _ in range(60):
        middle = (low + high) / 2
        is_few = np.minimum(1, _present(middle, len(counts)) * rows).sum() < touched
        low, high = (middle, high) if is_few else (low, middle)
    kept = _present(high, len(counts)) * rows
    return tuple(float(each) for each in kept * (rows.sum() / kept.sum()))


def _present(touched: float, experts: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the share of layers in which each rank has rows: of 5.5 experts the sixth in half."""
    present: np.ndarray[tuple[int], np.dtype[np.float64]] = np.clip(
        touched - np.arange(experts), 0, 1
    )
    return present
