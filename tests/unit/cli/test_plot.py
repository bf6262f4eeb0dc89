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
