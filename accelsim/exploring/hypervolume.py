"""How much of the space of objectives a front beats."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MARGIN = 0.1
"""By how much of its range the reference point lies beyond the worst of the front."""

Costs = npt.NDArray[np.float64]
"""[designs, objectives], smaller is better."""


def hypervolume(costs: Costs, reference: Sequence[float] | Costs) -> float:
    """Return the volume that is no better than `reference` and no worse than one of `costs`.

    By slices along the last objective, each of them a hypervolume of one objective less (While,
    Hingston, Barone, Huband: A faster algorithm for calculating hypervolume, IEEE TEVC 10(1),
    2006, section III). Exact; for the few objectives and points of a front.
    """
    bound = np.asarray(reference, dtype=np.float64)
    inside = costs[(costs < bound).all(axis=1)]
    if not len(inside):
        return 0.0
    if costs.shape[1] == 1:
        return float(bound[0] - inside.min())
    ordered = inside[np.argsort(inside[:, -1], kind="stable")]
    if costs.shape[1] == 2:
        return _area(ordered, bound)
    ends = np.append(ordered[1:, -1], bound[-1])
    depths = ends - ordered[:, -1]
    return sum(
        float(depth) * hypervolume(ordered[: row + 1, :-1], bound[:-1])
        for row, depth in enumerate(depths)
        if depth > 0
    )


def _area(ordered: Costs, bound: Costs) -> float:
    """Of two objectives, with rows in rising order of the second one."""
    lowest = np.minimum.accumulate(ordered[:, 0])
    ends = np.append(ordered[1:, 1], bound[1])
    return float(((bound[0] - lowest) * (ends - ordered[:, 1])).sum())


def reference_of(front: Costs) -> Costs:
    """Return a point a little worse than the worst of a front in every objective."""
    worst, best = front.max(axis=0), front.min(axis=0)
    width = worst - best
    # A front that is one value in an objective has no range there: the value gives the scale.
    alone = np.where(worst == 0, 1.0, np.abs(worst))
    width = np.where(width > 0, width, alone)
    reference: Costs = worst + MARGIN * width
    return reference


def scaled(costs: Costs, front: Costs) -> Costs:
    """Return costs in which the best of the front is 0 and the reference point of it 1."""
    best = front.min(axis=0)
    unit: Costs = (costs - best) / (reference_of(front) - best)
    return unit


def share_of_front(costs: Costs, front: Costs) -> float:
    """Return the hypervolume of `costs` in that of `front`, both below the reference of `front`."""
    ones = np.ones(front.shape[1])
    whole = hypervolume(scaled(front, front), ones)
    return hypervolume(scaled(costs, front), ones) / whole
