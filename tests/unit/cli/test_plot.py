import pandas as pd

from accelsim.cli.plot import front_of


def test_designs_compete_for_the_same_problem_only():
    table = pd.DataFrame(
        {
            "workload": "w",
            "workload.q_len": [512, 512, 4096, 4096],
            "time_s": [1.0, 2.0, 8.0, 9.0],
            "energy_j": [1.0, 3.0, 7.0, 6.0],
        }
    )
    assert front_of(table, "time_s", "energy_j", ()) == [True, False, True, True]
    assert front_of(table.drop(columns="workload.q_len"), "time_s", "energy_j", ()) == [
        True,
        False,
        False,
        False,
    ]


def test_what_lost_its_outputs_is_on_no_front_of_accuracy():
    """Whether the errors are those of the elements that are left, infinite, or absent."""
    table = pd.DataFrame(
        {
            "workload": "w",
            "time_s": [1.0, 1.0, 1.0, 1.0, 2.0],
            "accuracy.rmse": [6.02, float("inf"), None, 30.1, 29.0],
            "accuracy.nonfinite_fraction": [0.97, 0.5, 1.0, 0.0, 0.0],
        }
    )
    assert front_of(table, "time_s", "accuracy.rmse", ()) == [False, False, False, True, True]
    more = front_of(table, "time_s", "accuracy.rmse", ("accuracy.rmse",))
    assert more == [False, False, False, True, False]


def test_an_approximate_design_beats_no_exact_one():
    table = pd.DataFrame(
        {
            "workload": "w",
            "is_exact": [True, False, True],
            "time_s": [2.0, 1.0, 3.0],
            "energy_j": [2.0, 1.0, 3.0],
        }
    )
    fronts = [
        front_of(table, "time_s", "energy_j", (), exact_only=only_exact)
        for only_exact in (True, False)
    ]
    assert fronts == [[True, False, False], [False, True, False]]
    none = table.assign(is_exact=False)
    assert front_of(none, "time_s", "energy_j", (), exact_only=True) == [False] * 3


def test_problems_of_one_name_have_fronts_of_their_own():
    table = pd.DataFrame(
        {
            "workload": "w",
            "workload_digest": ["short", "long", "long"],
            "time_s": [1.0, 8.0, 9.0],
            "energy_j": [1.0, 7.0, 8.0],
        }
    )
    assert front_of(table, "time_s", "energy_j", ()) == [True, True, False]
