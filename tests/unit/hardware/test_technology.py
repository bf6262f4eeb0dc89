"""Technology: sourced numbers, SRAM costs between the points of a table, and clear refusals."""

from typing import Any

import pytest

from accelsim.config.loader import load_spec, read_document
from accelsim.config.shipped import known_names
from accelsim.errors import ConfigError, UnknownNameError
from accelsim.hardware.technology import SramPoint, SramTable, TechnologySpec
from accelsim.numerics.formats import Format
from accelsim.units import KIB

HOROWITZ_45NM_PJ = {
    ("fp16", "add"): 0.4,
    ("fp16", "multiply"): 1.1,
    ("fp32", "add"): 0.9,
    ("fp32", "multiply"): 3.7,
}


def technology(name: str = "7nm", **overrides: Any) -> TechnologySpec:
    return load_spec(TechnologySpec, name, kind="technology", overrides=overrides)


def unsourced(node: Any, path: str = "") -> list[str]:
    """Key path of every number of a technology file that stands without a source."""
    if isinstance(node, list):
        return [found for item in node for found in unsourced(item, path)]
    if not isinstance(node, dict):
        return [path] if isinstance(node, int | float) or str(node)[:1].isdigit() else []
    if node.get("source"):
        return []
    return [found for key, item in node.items() for found in unsourced(item, f"{path}.{key}")]


@pytest.mark.parametrize("name", known_names("technology"))
def test_every_number_has_a_source(name):
    data = read_document(name, kind="technology").value
    tables = {
        key: data[key] for key in data.keys() - {"name", "description", "node_nm", "references"}
    }
    assert unsourced(tables) == []


def test_a_number_without_a_source_would_be_noticed():
    assert unsourced({"a": {"value": "1 pJ"}, "b": {"value": 2, "source": "x"}}) == [".a.value"]


def test_a_number_without_a_source_is_refused():
    with pytest.raises(ConfigError) as refusal:
        technology(**{"cube.fp16.multiply": "{value: 1 pJ}", "cube.int8.multiply.source": "''"})
    assert str(refusal.value).splitlines() == [
        "--set cube.fp16.multiply.source: missing; expected: Key of `references` with details, "
        "`assumption: ...` or `from memory, unverified: ...`.",
        "--set cube.int8.multiply.source: found ''; string should have at least 1 character",
    ]


def test_memory_devices_that_draw_more_than_all_are_refused():
    with pytest.raises(ConfigError) as refusal:
        technology("4n", **{"dram.hbm3e.device_energy.value": "98 pJ/B"})
    assert str(refusal.value).endswith(
        "dram.hbm3e: found device_energy = 98 pJ/B, which is a part of energy, "
        "allowed: at most 97 pJ/B"
    )


def test_a_source_that_is_no_reference_is_refused():
    with pytest.raises(ConfigError) as refusal:
        technology(**{"references": "{cacti: a tool}", "sram.source": "hearsay"})
    assert str(refusal.value).endswith(
        "7nm.yaml:1:1: the source 'jouppi2021' names none of the references (cacti) and does not "
        "start with 'assumption: ' or 'from memory, unverified: '"
    )


@pytest.mark.parametrize(("number_format", "op"), list(HOROWITZ_45NM_PJ))
def test_28_nm_arithmetic_lies_on_the_power_law_between_45_and_7_nm(number_format, op):
    at_45nm_pj = HOROWITZ_45NM_PJ[number_format, op]
    at_7nm_pj = getattr(technology("7nm").cost_of("vector", Format(number_format)), op).value
    at_28nm_pj = getattr(technology("28nm").cost_of("vector", Format(number_format)), op).value
    # log(28/45) / log(7/45) = 0.255
    assert at_28nm_pj == pytest.approx(at_45nm_pj**0.745 * at_7nm_pj**0.255, rel=2e-3)


def test_the_points_of_the_table_are_returned_exactly():
    table = technology().sram
    for point in table.points:
        found = table.at(point.capacity)
        assert found.read == pytest.approx(point.read, rel=1e-12)
        assert found.leakage == pytest.approx(point.leakage, rel=1e-12)


def test_between_two_points_costs_follow_a_power_law():
    table = SramTable(
        source="assumption: made up",
        points=(
            SramPoint(capacity=1024, read=1.0, write=2.0, area=1.0, leakage=1.0),
            SramPoint(capacity=4096, read=4.0, write=2.0, area=2.0, leakage=16.0),
        ),
    )
    middle = table.at(2048)
    costs = (middle.read, middle.write, middle.area, middle.leakage)
    assert costs == pytest.approx((2.0, 2.0, 2**0.5, 4.0))


@pytest.mark.parametrize("capacity_bytes", [4 * KIB - 1, 192 * KIB * KIB + 1])
def test_outside_the_table_there_is_no_cost(capacity_bytes):
    with pytest.raises(ConfigError) as refusal:
        technology().sram_of("scratchpad", capacity_bytes)
    assert str(refusal.value) == (
        f"technology '7nm' has no scratchpad of {capacity_bytes} bytes: its table goes from "
        "4096 to 201326592 bytes"
    )


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (
            "[{capacity: 8 KiB, read: 1 pJ/B, write: 1 pJ/B, area: 1 mm2, leakage: 1 mW}, "
            "{capacity: 4 KiB, read: 1 pJ/B, write: 1 pJ/B, area: 1 mm2, leakage: 1 mW}]",
            "the capacities of the points must rise from each to the next",
        ),
        (
            "[{capacity: 4 KiB, read: 1 pJ/B, write: 1 pJ/B, area: 1 mm2, leakage: 0 mW}, "
            "{capacity: 8 KiB, read: 1 pJ/B, write: 1 pJ/B, area: 1 mm2, leakage: 1 mW}]",
            "every cost of a point must be greater than 0",
        ),
    ],
)
def test_a_table_that_cannot_be_interpolated_is_refused(points, message):
    with pytest.raises(ConfigError) as refusal:
        technology(**{"sram.points": points})
    assert str(refusal.value).endswith(f": sram: {message}")


@pytest.mark.parametrize(
    ("look_up", "message"),
    [
        (
            lambda t: t.cost_of("cube", Format.INT32),
            "technology '7nm': unknown cube format 'int32', did you mean 'int8'?; "
            "known: bf16, fp16, fp32, fp4_e2m1, fp6_e2m3, fp6_e3m2, fp8_e4m3, fp8_e5m2, int4, int8",
        ),
        (
            lambda t: t.cost_of("vector", Format.INT8),
            "technology '7nm': unknown vector format 'int8'; known: bf16, fp16, fp32",
        ),
        (
            lambda t: t.memory("hbm2x"),
            "technology '7nm': unknown memory standard 'hbm2x', did you mean 'hbm2'?; "
            "known: ddr4, hbm2, hbm2e, hbm3, lpddr5",
        ),
    ],
)
def test_what_the_technology_does_not_cost_is_named(look_up, message):
    with pytest.raises(UnknownNameError) as refusal:
        look_up(technology())
    assert str(refusal.value) == message
