from typing import Any

import pytest
from pydantic import ValidationError

from accelsim.exploring.spec import ExploreSpec
from tests.unit.exploring.fakes import WHOLE, space_of

ONE = "allowed: one; what is best is best for one problem"


def test_an_exploration_as_a_file_says_it() -> None:
    spec = space_of(minimize=["time_s"], maximize=["gain"], budget={"time": "90 s"})
    assert spec.objectives == ("time_s", "gain")
    assert (spec.budget.points, spec.budget.time) == (None, 90.0)
    assert (spec.sampler, spec.start, spec.batch, spec.seed) == ("tpe", 8, 8, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minimize": []}, "found no objective, allowed: columns in minimize, maximize or both"),
        ({"maximize": ["time_s"]}, "found the objective 'time_s' twice, allowed: once"),
        ({"budget": {}}, "found neither points nor time, allowed: one of them or both"),
        ({"budget": {"points": 0}}, "greater than or equal to 1"),
        ({"budget": {"time": "0 s"}}, "greater than 0"),
        ({"axes": {"tile_q": []}}, "at least 1 item"),
        (
            {"sampler": "nsga"},
            "found 'nsga', did you mean 'nsga3'? allowed: tpe, nsga2, nsga3, gp, quasi_random, "
            "random",
        ),
        ({"limits": ["energy_j <"]}, "cannot read 'energy_j <'; allowed: names such as"),
        ({"workloads": ["prefill", "decode"]}, f"found 2 workloads, {ONE}"),
        (
            {"workloads": [], "axes": {"workload": ["prefill", "decode"]}},
            f"found an axis 'workload', {ONE}",
        ),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ExploreSpec.model_validate({**WHOLE, **changes})
    (mistake,) = caught.value.errors()
    assert message in mistake["msg"]
