"""What Python code may give as a setting, and what a file and a setting both may not hold."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.config.document import Document
from accelsim.config.plain import MAX_BYTES, MAX_DEPTH
from accelsim.errors import ConfigError
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import Recipe
from accelsim.loading import load_machine
from accelsim.quality.chosen import choose_kernels
from accelsim.sweeps.axis import AxisRange
from accelsim.sweeps.spec import SweepSpec

EXPECTED = "expected text, a number, true or false, a list or a mapping"
EMPTY = Document({}, {(): "--set "})


def setting(value: object) -> object:
    return EMPTY.with_overrides({"key": value}, "--set ").value["key"]


def refusal(overrides) -> str:
    with pytest.raises(ConfigError) as refused:
        EMPTY.with_overrides(overrides, "--set ")
    return str(refused.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(64), 64),
        (np.uint8(4), 4),
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.longdouble(2), 2.0),
        (np.bool_(True), True),
        (np.str_("fp32"), "fp32"),
        (np.str_("512 KiB"), "512 KiB"),
        (np.array(64), 64),
        (np.array([1, 2]), [1, 2]),
        ((np.int8(1), [np.bool_(False)]), [1, [False]]),
        ({np.str_("a"): np.int64(1)}, {"a": 1}),
        (Path("folder/file.npz"), "folder/file.npz"),
    ],
)
def test_a_value_stands_for_the_plain_one(value, expected):
    found = setting(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1j, "complex"),
        (np.complex64(1), "complex"),
        (np.datetime64("2026-01-01"), "date"),
        (datetime.date(2026, 1, 1), "date"),
        (b"x", "bytes"),
        ({1, 2}, "set"),
        (object(), "object"),
    ],
)
def test_what_no_file_could_hold_is_one_message(value, found):
    assert refusal({"key": value}) == f"--set key: found a value of type {found}, {EXPECTED}"
    assert refusal({"key": [value]}) == f"--set key: found a value of type {found}, {EXPECTED}"


def test_keys_are_text_and_integers_have_an_end():
    assert refusal({3: 1}) == "--set found the key 3, expected text"
    assert refusal({"key": {3: 1}}) == "--set key: found the key 3, expected text"
    assert refusal({"key": 10**5000}) == "--set key: found an integer of more than 99 digits"


def test_a_setting_is_as_deep_as_a_file_may_be():
    deepest = ".".join("a" * MAX_DEPTH)
    assert EMPTY.with_overrides({deepest: "1"}, "").at(tuple("a" * MAX_DEPTH)) == 1
    ending = "nested deeper than the 20 levels allowed"
    circle: list[object] = []
    circle.append(circle)
    assert refusal({f"{deepest}.a": "1"}) == f"--set {deepest}.a: {ending}"
    assert refusal({deepest: "[1]"}) == f"--set {deepest}: {ending}"
    assert refusal({"key": circle}) == f"--set key: {ending}"
    start = ("a." * 2000)[:60]
    assert refusal({"a." * 2000 + "a": "1"}) == f"--set {start}...: {ending}"


def test_settings_are_not_larger_than_a_file_may_be():
    text = "x" * (MAX_BYTES - 3)
    assert setting(text) == text
    assert refusal({"key": f"{text}y"}) == "--set found 1048577 characters, allowed are 1048576"


def test_a_key_that_appears_twice_in_a_setting_is_refused():
    assert refusal({"key": "{a: 1, a: 2}"}) == (
        "--set key: a: the key appears twice, first at --set key"
    )


def test_every_way_into_the_simulator_takes_numbers_of_numpy():
    recipe = Recipe("flash", tile_q=np.int64(64), precision=np.str_("fp16"))
    settings = {"machine.cores": np.int32(2), "machine.name": np.str_("two")}
    run = Bench.prepare("ascend-910b", recipe, settings)
    assert (run.machine.cores, run.recipe.parameters().tile_q) == (2, 64)
    assert {type(value) for value in run.settings.values()} == {int, str}
    assert load_machine("ascend-910b", {"cores": np.array(3)}).cores == 3


def test_a_model_with_kernels_in_it_takes_numbers_of_numpy():
    recipes = Recipe("flash", tile_q=np.int64(64)), Recipe("gemm", tile_m=np.int64(16))
    chosen = choose_kernels(Kernels(*recipes), {"machine.cores": np.int8(2)}, "ascend-910b")
    assert chosen.attention.recipe.parameters().tile_q == 64
    assert chosen.linear.recipe.parameters().tile_m == 16
    assert chosen.linear.machine.cores == 2
    with pytest.raises(ConfigError) as refused:
        choose_kernels(Kernels("flash", "gemm"), {"machine.cores": b"2"}, "ascend-910b")
    assert str(refused.value) == f"--set machine.cores: found a value of type bytes, {EXPECTED}"


def test_a_mistake_in_a_number_of_numpy_names_the_setting():
    with pytest.raises(ConfigError) as refused:
        Bench.prepare("ascend-910b", "flash", {"machine.cores": np.float32(64.5)})
    assert str(refused.value) == ("--set machine.cores: found 64.5, expected a valid integer")


def test_a_sweep_in_python_takes_numbers_of_numpy():
    spec = SweepSpec(
        name="tiles",
        machine="ascend-910b",
        workloads=("attention-2048",),
        kernels=("flash",),
        axes={
            "tile_q": np.arange(16, 64, 16),
            "tile_k": [np.int64(16), np.array(32)],
            "machine.cores": AxisRange(**{"from": np.int64(1), "to": np.int64(4), "points": 2}),
        },
        settings={"workload.dtype": np.str_("fp16")},
    )
    assert spec.axes["tile_q"] == (16, 32, 48)
    assert spec.axes["tile_k"] == (16, 32)
    assert {type(value) for axis in ("tile_q", "tile_k") for value in spec.axes[axis]} == {int}
    assert spec.axes["machine.cores"].values() == [1, 4]
    assert type(spec.settings["workload.dtype"]) is str
