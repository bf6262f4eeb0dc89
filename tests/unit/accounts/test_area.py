"""Area: by hand for the small machine, and per core for the large one."""

import pytest

from accelsim.accounts.area import area_by_component_mm2
from accelsim.accounts.interface import interface_channels
from accelsim.config.loader import load_spec
from accelsim.config.shipped import known_names
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec


def area_mm2(name: str, **overrides: str) -> dict[str, float]:
    machine = load_spec(MachineSpec, name, kind="machine", overrides=overrides)
    technology = load_spec(TechnologySpec, machine.technology, kind="technology")
    return area_by_component_mm2(machine, technology)


def test_the_area_of_the_small_machine():
    assert area_mm2("edge-npu") == {
        "cube": pytest.approx(1024 * 0.002255),
        "vector": pytest.approx(16 * 0.009202),
        "scratchpad": pytest.approx(0.4136),
        "operand_buffer": pytest.approx(0.0285),
        "accumulator": pytest.approx(0.08862),
        "hbm": pytest.approx(1.306),
    }


def test_twice_the_cores_take_twice_the_area_but_not_twice_the_memory_interface():
    once, twice = area_mm2("ascend-910b-no-l2"), area_mm2("ascend-910b-no-l2", cores="48")
    assert twice.pop("hbm") == once.pop("hbm")
    assert twice == {component: pytest.approx(2 * area) for component, area in once.items()}


def test_the_widest_format_decides_the_size_of_the_cube():
    fp16 = area_mm2("edge-npu", **{"cube.rates": "{fp16: 1, int8: 1}"})
    fast_fp32 = area_mm2("edge-npu", **{"cube.rates": "{fp16: 1, fp32: 1}"})
    assert fp16["cube"] == pytest.approx(1024 * 0.002255)
    assert fast_fp32["cube"] == pytest.approx(1024 * 0.004601)


def test_a_systolic_array_has_one_multiplier_an_element():
    array = "{kind: systolic, rows: 64, cols: 32, dataflow: output_stationary, rates: {fp16: 1}, "
    array += "pipeline_depth_cycles: 0, operand_buffer: 16 KiB}"
    assert area_mm2("edge-npu", cube=array)["cube"] == pytest.approx(64 * 32 * 0.002255)


@pytest.mark.parametrize(
    ("bandwidth", "channels"),
    [("1 GB/s", 1), ("38.4 GB/s", 1), ("38.5 GB/s", 2), ("0.384 TB/s", 10), ("3.84 TB/s", 100)],
)
def test_a_rate_beyond_the_pins_of_a_channel_takes_more_of_them(bandwidth, channels):
    """A channel of HBM2 has 128 pins of at most 2.4 Gb/s."""
    area = area_mm2("edge-npu", **{"hbm.bandwidth": bandwidth})
    assert area["hbm"] == pytest.approx(channels * 1.306)


def test_channels_that_are_there_are_paid_at_any_rate():
    slow = area_mm2("edge-npu", **{"hbm.bandwidth": "38.4 GB/s", "hbm.channels": "8"})
    assert slow["hbm"] == pytest.approx(8 * 1.306)


def test_stacks_of_a_banked_memory_have_their_channels():
    one, four = (area_mm2("ascend-910b-banked", **{"hbm.stacks": stacks}) for stacks in "14")
    assert four["hbm"] == pytest.approx(4 * one["hbm"]) == pytest.approx(32 * 1.306)


@pytest.mark.parametrize("name", known_names("machine"))
def test_the_interface_of_a_shipped_machine_is_the_channels_of_its_file(name):
    machine = load_spec(MachineSpec, name, kind="machine")
    technology = load_spec(TechnologySpec, machine.technology, kind="technology")
    assert technology.memory(machine.hbm.technology_key).channel_bandwidth is not None
    assert interface_channels(machine.hbm, technology) == machine.hbm.channels


def test_a_technology_that_does_not_say_the_rate_of_a_channel_has_no_area_for_it():
    machine = load_spec(
        MachineSpec, "edge-npu", kind="machine", overrides={"hbm.bandwidth": "9 TB/s"}
    )
    overrides = {"dram.hbm2.channel_bandwidth": "null"}
    technology = load_spec(TechnologySpec, "28nm", kind="technology", overrides=overrides)
    assert interface_channels(machine.hbm, technology) == 1
