"""No number that a user gives is without a bound: compiled code has integers of 64 bits."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.config.shipped import known_names
from accelsim.errors import ConfigError
from accelsim.hardware.dram import DramSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.loading import load_machine
from accelsim.sweeps.spec import SweepSpec
from accelsim.workload.problem import Workload

MODELS = {name: get_kernel(name).parameters for name in kernel_names()} | {
    "machine": MachineSpec,
    "memory": DramSpec,
    "technology": TechnologySpec,
    "workload": Workload,
    "sweep": SweepSpec,
}
LARGEST = 2**63 - 1


def numbers(node: Any, kinds: set[str], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the schema of every number below a node of a JSON Schema."""
    if isinstance(node, list):
        for each in node:
            yield from numbers(each, kinds, place)
    elif isinstance(node, dict):
        if node.get("type") in kinds:
            yield place, node
        for key, value in node.items():
            yield from numbers(value, kinds, f"{place}/{key}")


def is_bounded(schema: dict[str, Any]) -> bool:
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    highest = [schema[key] for key in ("maximum", "exclusiveMaximum") if key in schema]
    lowest = [schema[key] for key in ("minimum", "exclusiveMinimum") if key in schema]
    if not values and not (highest and lowest):
        return False
    return all(abs(value) <= LARGEST + 1 for value in (*values, *highest, *lowest))


def without_bound(model: Any, kinds: set[str]) -> list[str]:
    schema = TypeAdapter(model).json_schema()
    return [place for place, found in numbers(schema, kinds) if not is_bounded(found)]


@pytest.mark.parametrize("name", MODELS)
def test_no_integer_is_without_a_bound(name):
    assert without_bound(MODELS[name], {"integer"}) == []


@pytest.mark.parametrize("name", [name for name in MODELS if name != "sweep"])
def test_no_plain_number_of_a_description_is_without_a_bound(name):
    schema = TypeAdapter(MODELS[name]).json_schema()
    found = [
        place
        for place, each in numbers(schema, {"number"})
        if not any(key in each for key in ("maximum", "exclusiveMaximum"))
    ]
    assert found == []


def test_an_integer_without_a_bound_would_be_noticed():
    assert without_bound(list[int], {"integer"}) == ["/items"]


def refusal(model: Any, settings: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as refused:
        validate(model, Document({}, {(): "--set "}).with_overrides(settings, "--set "))
    return str(refused.value)


def test_the_message_says_the_largest_value():
    assert refusal(MODELS["gemm"], {"swizzle": "9223372036854775808"}) == (
        "--set swizzle: found 9223372036854775808, expected a value less than 2147483648"
    )


@pytest.mark.parametrize("value", [".inf", ".nan", "-.inf", "1e39", "1e999"])
def test_a_number_of_a_kernel_is_finite_in_fp32(value):
    assert refusal(MODELS["sift"], {"threshold_factor": value}).startswith(
        "--set threshold_factor: found "
    )


@pytest.mark.parametrize(
    ("key", "value", "bound"),
    [
        ("clock", "0.5 Hz", "greater than or equal to 1"),
        ("clock", "1e16 Hz", "less than or equal to 1000000000000000"),
        ("hbm.bandwidth", "0.5 B/s", "greater than or equal to 1"),
        ("hbm.bandwidth", "1e300 B/s", "less than or equal to 1000000000000000000"),
        ("load.bandwidth", "1e-300 B/cycle", "greater than or equal to 0.000001"),
        ("load.bandwidth", "1e300 B/cycle", "less than or equal to 1000000000000"),
        ("launch", "1e300 s", "less than or equal to 1000000"),
        ("vector.costs.exp", "1e300", "less than or equal to 1000000"),
        ("vector.costs.exp", "1e-300", "greater than or equal to 0.000001"),
    ],
)
def test_a_quantity_of_a_machine_has_bounds(key, value, bound):
    with pytest.raises(ConfigError) as refused:
        load_machine("edge-npu", {key: value})
    assert str(refused.value).startswith(f"--set {key}: found ")
    assert str(refused.value).endswith(f", expected a value {bound}")


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e999"])
def test_a_quantity_is_finite(value):
    with pytest.raises(ConfigError) as refused:
        load_machine("edge-npu", {"clock": f"{value} Hz"})
    assert str(refused.value) == (f"--set clock: found '{value} Hz', which is not a finite number")


def test_every_shipped_machine_is_within_the_bounds():
    assert {load_machine(name).name for name in known_names("machine")} == set(
        known_names("machine")
    )
