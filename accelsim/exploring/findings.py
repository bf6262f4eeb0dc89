"""What rows say about designs: their costs, whether they count, and which of them are best."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from accelsim.errors import UnknownNameError, unknown_name
from accelsim.exploring.hypervolume import Costs
from accelsim.exploring.spec import ExploreSpec
from accelsim.sweeps.constraints import Constraint
from accelsim.sweeps.pareto import pareto_front

Row = Mapping[str, Any]

_ACCURACY = "accuracy."
_LOST = "accuracy.nonfinite_fraction"


class Judge:
    """Says of rows what the objectives and limits of an exploration make of them."""

    def __init__(self, spec: ExploreSpec) -> None:
        self._minimize, self._objectives = spec.minimize, spec.objectives
        self._limits = [Constraint(text) for text in spec.limits]
        self._worst = [0.0] * len(spec.objectives)

    def check(self, rows: Iterable[Row]) -> None:
        """Raise UnknownNameError for an objective or limit that is no column of numbers."""
        ran = [row for row in rows if row["status"] == "ok"]
        if not ran:
            return
        found = {name: value for row in ran for name, value in row.items() if value is not None}
        names = [("objective", name) for name in self._objectives]
        names += [("column of a limit", name) for each in self._limits for name in each.names]
        numbers = [name for name, value in found.items() if _is_number(value)]
        for kind, name in names:
            if name not in found:
                raise unknown_name(kind, name, numbers if kind == "objective" else found)
            if kind == "objective" and name not in numbers:
                raise UnknownNameError(f"objective '{name}' is no number: {found[name]!r}")

    def costs(self, row: Row) -> list[float] | None:
        """Return the objectives, smaller is better; None of a design that cannot be compared."""
        if row["status"] != "ok" or not all(_is_finite(row.get(each)) for each in self._objectives):
            return None
        is_judged = any(name.startswith(_ACCURACY) for name in self._objectives)
        if is_judged and (row.get(_LOST) or 0) > 0:
            return None
        return [float(row[name]) * self._sign(name) for name in self._objectives]

    def _sign(self, name: str) -> int:
        return 1 if name in self._minimize else -1

    def violation(self, row: Row) -> float:
        """Return how many limits a design breaks; one more than there are if it cannot run."""
        if self.costs(row) is None:
            return 1.0 + len(self._limits)
        return float(sum(not limit.holds(row.get) for limit in self._limits))

    def told(self, row: Row | None) -> list[float]:
        """Return costs for a sampler: for a design without any the worst that were told of."""
        found = None if row is None else self.costs(row)
        if found is None:
            return list(self._worst)
        self._worst = [max(pair) for pair in zip(self._worst, found, strict=True)]
        return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def comparable(rows: Iterable[Row], judge: Judge) -> list[Row]:
    """Return the rows that have costs and meet every limit."""
    return [row for row in rows if judge.violation(row) == 0.0]


def costs_of(rows: Sequence[Row], judge: Judge) -> Costs:
    """Return [rows, objectives] of comparable rows."""
    return np.array([judge.costs(row) for row in rows], dtype=np.float64)


def best_of(rows: Sequence[Row], judge: Judge) -> list[Row]:
    """Return the comparable rows that no other one beats, best in the first objective first."""
    if not rows:
        return []
    costs = costs_of(rows, judge)
    columns = {str(index): costs[:, index] for index in range(costs.shape[1])}
    on_front = pareto_front(columns, minimize=list(columns)).tolist()
    best = [index for index, is_best in enumerate(on_front) if is_best]
    return [rows[index] for index in sorted(best, key=lambda index: tuple(costs[index].tolist()))]
