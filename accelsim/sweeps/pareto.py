"""Which rows of a table no other row beats."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from accelsim.errors import UnknownNameError, unknown_name


def pareto_front(
    columns: Mapping[str, Any], minimize: Sequence[str], maximize: Sequence[str] = ()
) -> npt.NDArray[np.bool_]:
    """Return which rows no other row beats: as good in every column and better in one.

    `columns` is a DataFrame or a mapping of equally long columns. Equal rows are all on the front;
    a row without a finite number in one of the columns is not. Raises UnknownNameError for a column
    that is not there or holds text, or for none at all.
    """
    if not minimize and not maximize:
        raise UnknownNameError("a Pareto front needs at least one column to minimize or maximize")
    costs = np.column_stack(
        [_numbers(columns, name) for name in minimize]
        + [-_numbers(columns, name) for name in maximize]
    )
    on_front = np.zeros(len(costs), dtype=bool)
    complete = np.flatnonzero(np.isfinite(costs).all(axis=1))
    on_front[complete] = _undominated(costs[complete])
    return on_front


def _numbers(columns: Mapping[str, Any], name: str) -> npt.NDArray[np.float64]:
    if name not in columns:
        raise unknown_name("column", name, [str(each) for each in columns])
    import pandas as pd

    try:
        return pd.Series(columns[name]).to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise UnknownNameError(f"column '{name}' holds text, not numbers") from None


def _undominated(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """[rows, columns], smaller is better. Looks at each row with only the front before it."""
    on_front = np.zeros(len(costs), dtype=bool)
    front = np.empty((0, costs.shape[1]))
    # In lexicographic order nothing that comes later can beat an earlier row.
    for row in np.lexsort(costs.T[::-1]):
        as_good = (front <= costs[row]).all(axis=1)
        on_front[row] = not (as_good & (front < costs[row]).any(axis=1)).any()
        if on_front[row]:
            front = np.vstack([front, costs[row]])
    return on_front
