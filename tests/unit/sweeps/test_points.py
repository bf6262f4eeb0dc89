from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from accelsim.errors import (
    AccelsimError,
    ConfigError,
    DoesNotFitError,
    ShortageError,
    UnknownNameError,
)
from accelsim.sweeps.points import Grid, expand
from accelsim.sweeps.spec import SweepSpec
from tests.unit.sweeps.fakes import read_fake

WHOLE: dict[str, Any] = {
    "name": "tiles",
    "machine": "big",
    "workloads": ("prefill",),
    "kernels": ("flash",),
}


def grid(**changes: Any) -> Grid:
    return expand(SweepSpec.model_validate({**WHOLE, **changes}), read_fake, "1.0")


def test_the_grid_is_in_the_order_of_the_file() -> None:
    points = grid(workloads=("prefill", "decode"), axes={"tile_q": (16, 32), "tile_k": (8, 4)})
    assert [
        (point.workload, point.settings["tile_q"], point.settings["tile_k"])
        for point in points.points
    ] == [
        *[("prefill", 16, 8), ("prefill", 16, 4), ("prefill", 32, 8), ("prefill", 32, 4)],
        *[("decode", 16, 8), ("decode", 16, 4), ("decode", 32, 8), ("decode", 32, 4)],
    ]


def test_zipped_axes_advance_together() -> None:
    points = grid(zip=({"workload.q_heads": (8, 32), "workload.kv_heads": (4, 2)},)).points
    assert [point.settings for point in points] == [
        {"workload.q_heads": 8, "workload.kv_heads": 4},
        {"workload.q_heads": 32, "workload.kv_heads": 2},
    ]


def test_machines_workloads_and_kernels_can_be_axes() -> None:
    spec = SweepSpec.model_validate(
        {
            "name": "all",
            "axes": {
                "machine": ("big", "small"),
                "workload": ("prefill",),
                "kernel": ("dense", "flash"),
            },
        }
    )
    points = expand(spec, read_fake, "1.0").points
    assert [(point.machine, point.kernel) for point in points] == [
        *[("big", "dense"), ("big", "flash"), ("small", "dense"), ("small", "flash")]
    ]


def test_a_parameter_counts_for_the_kernels_that_have_it() -> None:
    points = grid(kernels=("dense", "flash"), axes={"tile_k": (64, 256)}).points
    assert [(point.kernel, point.settings) for point in points] == [
        *[("dense", {}), ("flash", {"tile_k": 64}), ("flash", {"tile_k": 256})]
    ]


def test_rows_show_names_and_the_numbers_behind_quantities() -> None:
    (point,) = grid(
        settings={"machine.scratchpad.capacity": "512 KiB"}, axes={"tile_q": (32,)}
    ).points
    digests = {
        f"{kind}_digest": point.columns[f"{kind}_digest"] for kind in ("machine", "workload")
    }
    assert point.columns == digests | {
        "machine": "big",
        "workload": "prefill",
        "kernel": "flash",
        "machine.scratchpad.capacity": 512 * 1024,
        "tile_q": 32,
    }


def test_ids_come_from_content() -> None:
    (base,) = grid().points
    same_design = [
        grid(settings={"machine.scratchpad.capacity": "704 KiB"}),
        grid(kernels=(" flash() ",)),
        grid(name="another", description="the same design"),
    ]
    other_design = [
        grid(settings={"machine.scratchpad.capacity": "705 KiB"}),
        grid(axes={"tile_k": (129,)}),
        # The library of a machine completes what is not asked, whatever the kernel's default.
        grid(axes={"tile_k": (128,)}),
        grid(kernels=("flash(tile_k=129)",)),
        grid(machine="small"),
        grid(kernels=("dense",)),
        grid(workloads=("decode",)),
        expand(SweepSpec.model_validate(WHOLE), read_fake, "1.1"),
    ]
    assert [each.points[0].id == base.id for each in same_design] == [True] * 3
    assert [each.points[0].id == base.id for each in other_design] == [False] * 8


def test_a_recipe_and_an_axis_describe_one_design() -> None:
    recipe = grid(kernels=("flash(tile_k=64, tile_q=8)",)).points
    axes = grid(axes={"tile_q": (8,), "tile_k": (64,)}).points
    both = grid(kernels=("flash(tile_k=64)",), axes={"tile_q": (8,)}).points
    assert recipe[0].id == axes[0].id == both[0].id


def test_rows_and_constraints_tell_recipes_and_kernels_apart() -> None:
    found = grid(
        kernels=("dense", "flash", "flash(tile_q=8)"),
        constraints=("kernel == 'flash'", "tile_k == 128"),
    )
    assert [point.columns["kernel"] for point in found.points] == ["flash", "flash(tile_q=8)"]


def test_without_kernels_the_library_picks() -> None:
    (point,) = grid(kernels=()).points
    assert (point.kernel, point.settings) == ("library", {})


def test_the_technology_is_part_of_the_id() -> None:
    def read_changed(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        contents = read_fake(kind, name, settings)
        return {**contents, "node_nm": 5} if kind == "technology" else contents

    spec = SweepSpec.model_validate(WHOLE)
    ids = [expand(spec, read, "1.0").points[0].id for read in (read_fake, read_changed)]
    assert ids[0] != ids[1]


def test_a_design_that_two_choices_describe_is_one_point() -> None:
    points = grid(axes={"machine.scratchpad.capacity": ("64 KiB", "65536 B", "1 MiB")}).points
    assert len(points) == 2


def test_files_beside_the_sweep_come_first(tmp_path: Path) -> None:
    beside = tmp_path / "big"
    beside.touch()
    sources = []

    def read(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        sources.append(name)
        return read_fake(kind, Path(name).name, settings)

    (point,) = expand(SweepSpec.model_validate(WHOLE), read, "1.0", tmp_path).points
    assert point.machine == str(beside)
    assert str(beside) in sources
    assert point.columns["machine"] == "big"


def test_constraints_leave_points_out() -> None:
    found = grid(
        axes={"tile_q": (16, 32, 64), "machine.cores": (2, 4)},
        constraints=(
            "tile_q <= 16 * machine.cores",
            "workload.q_len > tile_q",
            "kernel == 'flash'",
        ),
    )
    assert [point.settings for point in found.points] == [
        {"tile_q": 16, "machine.cores": 2},
        {"tile_q": 16, "machine.cores": 4},
        {"tile_q": 32, "machine.cores": 2},
        {"tile_q": 32, "machine.cores": 4},
        {"tile_q": 64, "machine.cores": 4},
    ]
    assert found.num_excluded == 1


def test_constraints_can_name_machines_and_workloads() -> None:
    found = grid(workloads=("prefill", "decode"), constraints=("workload != 'decode'",))
    assert [point.workload for point in found.points] == ["prefill"]


def test_a_constraint_passes_by_the_kernels_without_its_parameter() -> None:
    found = grid(kernels=("dense", "flash"), axes={"tile_k": (8, 16)}, constraints=("tile_k > 8",))
    assert [(point.kernel, point.settings) for point in found.points] == [
        *[("dense", {}), ("flash", {"tile_k": 16})]
    ]


def test_settings_that_contradict_each_other_make_an_infeasible_point() -> None:
    points = grid(axes={"workload.kv_heads": (8, 3)}).points
    assert [point.infeasible_because for point in points] == [
        *["", "workload.kv_heads: does not divide q_heads"]
    ]
    assert points[1].columns["workload.kv_heads"] == 3


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"machine": "bigg"}, UnknownNameError, "unknown machine 'bigg'"),
        ({"workloads": ("prefill", "deco")}, UnknownNameError, "unknown workload 'deco'"),
        ({"kernels": ("flash", "flush")}, UnknownNameError, "unknown kernel 'flush'"),
        (
            {"axes": {"tile_qq": (3,)}},
            UnknownNameError,
            "unknown kernel parameter 'tile_qq', did you mean 'tile_q'?; known: tile_k, tile_q",
        ),
        (
            {"axes": {"machine.coers": (1, 2)}},
            DoesNotFitError,
            "machine.coers: unknown key",
        ),
        (
            {"axes": {"tile_k": (1,)}, "constraints": ("tile_q > 3",)},
            ConfigError,
            "constraint 'tile_q > 3': 'tile_q' has no value at any point",
        ),
        (
            {"axes": {"tile_q": tuple(range(1001)), "tile_k": tuple(range(1000))}},
            ConfigError,
            "sweep 'tiles': found 1001000 points, allowed: 1000000",
        ),
    ],
)
def test_what_is_wrong_at_every_point_is_an_error(
    changes: dict[str, Any], kind: type[AccelsimError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        grid(**changes)
    assert str(caught.value) == message


def columns(name: str, **changes: Any) -> list[Any]:
    return [point.columns.get(name) for point in grid(**changes).points]


def test_digests_tell_contents_apart_and_not_names() -> None:
    def read(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return read_fake(kind, name.removesuffix("-again"), settings) | {"name": name}

    names = ("prefill", "prefill-again", "decode")
    spec = SweepSpec.model_validate({**WHOLE, "workloads": names})
    rows = [point.columns for point in expand(spec, read, "1.0").points]
    digests = [row["workload_digest"] for row in rows]
    assert [row["workload"] for row in rows] == list(names)
    assert digests[0] == digests[1] != digests[2]
    assert {len(each) for each in digests} == {12}
    assert len({row["machine_digest"] for row in rows}) == 1
    assert len(set(columns("machine_digest", axes={"machine.cores": (1, 2)}))) == 2


def test_a_technology_is_part_of_a_machine() -> None:
    def read(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        contents = read_fake(kind, name, settings)
        return {**contents, "node": 6} if kind == "technology" else contents

    spec = SweepSpec.model_validate(WHOLE)
    rows = [expand(spec, each, "1.0").points[0].columns for each in (read_fake, read)]
    assert rows[0]["machine_digest"] != rows[1]["machine_digest"]
    assert rows[0]["workload_digest"] == rows[1]["workload_digest"]


def test_files_of_one_name_are_told_apart_by_the_fields_in_which_they_differ() -> None:
    def read(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return read_fake(kind, name, settings) | ({"name": "same"} if kind == "workload" else {})

    spec = SweepSpec.model_validate({**WHOLE, "workloads": ("prefill", "decode")})
    rows = [point.columns for point in expand(spec, read, "1.0").points]
    assert [(row["workload"], row["workload.q_len"]) for row in rows] == [
        ("same", 2048),
        ("same", 1),
    ]
    assert "workload.q_heads" not in rows[0]
    assert columns("workload.q_len", workloads=("prefill", "decode")) == [None, None]


def test_the_label_is_what_the_sweep_says_and_the_id_what_it_means() -> None:
    def read(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return read_fake(kind, name, settings) | ({"q_len": 7} if kind == "workload" else {})

    spec = SweepSpec.model_validate(WHOLE)
    (before,), (after,) = (expand(spec, each, "1.0").points for each in (read_fake, read))
    assert before.label == after.label
    assert before.id != after.id
    assert grid(axes={"tile_q": (8,)}).points[0].label != before.label


def test_the_source_of_a_kernel_from_outside_is_part_of_its_version() -> None:
    def read_of(source: str) -> Any:
        def read(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
            own = {"source_digest": source} if kind == "kernel" else {}
            return read_fake(kind, name, settings) | own

        return read

    spec = SweepSpec.model_validate(WHOLE)
    points = [expand(spec, each, "1.0").points[0] for each in (read_fake, *map(read_of, "ab"))]
    assert points[0].version == "1.0"
    assert len({point.version for point in points}) == len({point.id for point in points}) == 3
    assert len({point.label for point in points}) == 1


def test_what_cannot_be_read_now_is_no_property_of_a_point() -> None:
    def read(kind: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        if settings:
            raise ShortageError("m.yaml: cannot be read: Permission denied")
        return read_fake(kind, name, settings)

    spec = SweepSpec.model_validate({**WHOLE, "axes": {"machine.cores": (1, 2)}})
    with pytest.raises(ShortageError) as caught:
        expand(spec, read, "1.0")
    assert str(caught.value) == "m.yaml: cannot be read: Permission denied"
