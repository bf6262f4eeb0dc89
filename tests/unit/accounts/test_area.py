"""Area: by hand for the small machine, and per core for the large one."""

import pytest

from accelsim.accounts.area import area_by_component_mm2
from accelsim.config.loader import load_spec
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
