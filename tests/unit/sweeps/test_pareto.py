import numpy as np
import pandas as pd
import pytest

from accelsim.errors import UnknownNameError
from accelsim.sweeps.pareto import pareto_front

TABLE = {
    "cycles": [10, 20, 30, 20, 10, None, 40],
    "energy_j": [9.0, 5.0, 1.0, 6.0, 9.0, 0.0, float("nan")],
    "rmse": [1.0, 1.0, 1.0, 0.5, 1.0, 0.0, 0.0],
}


def test_what_no_row_beats_is_on_the_front() -> None:
    front = pareto_front(TABLE, minimize=["cycles", "energy_j"])
    assert front.tolist() == [True, True, True, False, True, False, False]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_beats_nothing(value: float) -> None:
    table = {"time_s": [1.0, 2.0], "rmse": [value, 1.0]}
    for directions in ({"minimize": ["time_s", "rmse"]}, {"minimize": [], "maximize": ["rmse"]}):
        assert pareto_front(table, **directions).tolist() == [False, True]


def test_a_column_can_be_maximized() -> None:
    front = pareto_front(TABLE, minimize=["cycles"], maximize=["energy_j"])
    assert front.tolist() == [True, False, False, False, True, False, False]


def test_more_columns_make_a_larger_front() -> None:
    front = pareto_front(TABLE, minimize=["cycles", "energy_j", "rmse"])
    assert front.tolist() == [True, True, True, True, True, False, False]


def test_a_frame_with_missing_integers_is_a_table_too() -> None:
    frame = pd.DataFrame(TABLE).convert_dtypes()
    assert pareto_front(frame, minimize=["cycles"]).tolist() == [
        *(True, False, False, False, True, False, False)
    ]


def test_no_rows_have_no_front() -> None:
    assert pareto_front({"cycles": []}, minimize=["cycles"]).dtype == np.bool_


def test_an_unknown_column() -> None:
    with pytest.raises(UnknownNameError) as caught:
        pareto_front(TABLE, minimize=["cycle"])
    assert str(caught.value) == (
        "unknown column 'cycle', did you mean 'cycles'?; known: cycles, energy_j, rmse"
    )


def test_a_column_of_text() -> None:
    with pytest.raises(UnknownNameError, match=r"^column 'kernel' holds text, not numbers$"):
        pareto_front({"kernel": ["flash"]}, minimize=["kernel"])


def test_no_column() -> None:
    with pytest.raises(UnknownNameError) as caught:
        pareto_front(TABLE, minimize=[])
    assert str(caught.value) == ("a Pareto front needs at least one column to minimize or maximize")
