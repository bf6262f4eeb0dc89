from typing import Any

import pytest
from pydantic import ValidationError

from accelsim.sweeps.spec import SweepSpec

WHOLE: dict[str, Any] = {
    "name": "tiles",
    "machine": "big",
    "workloads": ["prefill"],
    "kernels": ["flash"],
}
OF_ONE_KERNEL = 'a parameter is written with its kernel, such as kernels: ["flash(tile_q=128)"]'


def test_a_sweep_as_a_file_says_it() -> None:
    spec = SweepSpec.model_validate_json(
        """{"name": "tiles", "workloads": ["prefill"], "kernels": ["flash"],
        "axes": {"machine": ["big", "small"], "tile_q": {"from": 16, "to": 64, "points": 3}},
        "zip": [{"workload.q_heads": [8, 16], "workload.kv_heads": [2, 4]}],
        "settings": {"machine.cores": 4}, "constraints": ["tile_q <= 64"]}""",
        strict=True,
    )
    assert list(spec.axes) == ["machine", "tile_q"]
    assert spec.settings == {"machine.cores": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"axes": {"scratchpad.capacity": [1]}},
            "found the key 'scratchpad.capacity', allowed: machine, workload, kernel, "
            "machine.<field>, workload.<field> or the name of a kernel parameter; " + OF_ONE_KERNEL,
        ),
        (
            {"axes": {"machin.cores": [1]}},
            "found the key 'machin.cores', did you mean 'machine'? allowed: machine, workload, "
            "kernel, machine.<field>, workload.<field> or the name of a kernel parameter; "
            + OF_ONE_KERNEL,
        ),
        *(
            (
                {"settings": {key: 64}},
                f"found the key '{key}', allowed: machine.<field> or workload.<field>; "
                + OF_ONE_KERNEL,
            )
            for key in ("tile_q", "flash.tile_q")
        ),
        (
            {"zip": [{"tile_q": [1, 2], "tile_k": [1]}]},
            "found 'tile_q' with 2, 'tile_k' with 1, allowed: lists of one length in a group",
        ),
        ({"zip": [{}]}, "found an empty group, allowed: lists of one length in a group"),
        (
            {"axes": {"tile_q": [1]}, "zip": [{"tile_q": [1]}]},
            "found 'tile_q' twice, allowed: once among axes, zip and settings",
        ),
        (
            {"axes": {"machine.cores": [1]}, "settings": {"machine.cores": 1}},
            "found 'machine.cores' twice, allowed: once among axes, zip and settings",
        ),
        (
            {"settings": {"machine": "small"}},
            "found 'machine', which has a key of its own at the top level",
        ),
        (
            {"workloads": []},
            "found neither the key 'workloads' nor an axis 'workload', allowed: exactly one of "
            "them",
        ),
        (
            {"axes": {"kernel": ["flash"]}},
            "found both the key 'kernels' and an axis 'kernel', allowed: exactly one of them",
        ),
        (
            {"axes": {"machine": ["small"]}},
            "found both the key 'machine' and an axis 'machine', allowed: exactly one of them",
        ),
        (
            {"constraints": ["tile_q <="]},
            "cannot read 'tile_q <='; allowed: names such as tile_q or machine.cube.tile_m, "
            "numbers, quoted quantities and words, + - * / // %, comparisons, and, or, not",
        ),
    ],
)
def test_mistakes_in_a_sweep(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SweepSpec.model_validate({**WHOLE, **changes})
    assert [str(error["ctx"]["error"]) for error in caught.value.errors()] == [message]
