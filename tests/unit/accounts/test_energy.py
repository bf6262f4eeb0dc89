"""Joules: each count times its cost, by hand for one run, and the static share."""

from dataclasses import replace

import pytest

from accelsim.accounts.energy import (
    Drawn,
    energy_by_component,
    memory_device_energy_j,
    memory_idle_power_w,
    static_power_w,
)
from accelsim.config.loader import load_spec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.loading import load_machine, load_technology
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity, DramCommands

IDLE = Activity(
    macs={},
    vector_elements={},
    scratchpad_read_bytes=0,
    scratchpad_write_bytes=0,
    operand_buffer_read_bytes=0,
    operand_buffer_write_bytes=0,
    accumulator_read_bytes=0,
    accumulator_write_bytes=0,
    hbm_read_bytes=0,
    hbm_write_bytes=0,
    seconds=0.0,
)
MACHINE = load_spec(MachineSpec, "edge-npu", kind="machine")
TECHNOLOGY = load_spec(TechnologySpec, "28nm", kind="technology")


def energy_j(**counts) -> dict[str, float]:
    """Energy of a run that does nothing but `counts`, without the components that stay at zero."""
    joules = energy_by_component(replace(IDLE, **counts), MACHINE, TECHNOLOGY)
    return {component: energy for component, energy in joules.items() if energy}


def test_an_idle_machine_without_time_uses_nothing():
    joules = energy_by_component(IDLE, MACHINE, TECHNOLOGY)
    assert joules == dict.fromkeys(
        ("cube", "vector", "scratchpad", "operand_buffer", "accumulator", "hbm", "static"), 0.0
    )


@pytest.mark.parametrize(
    ("counts", "component", "picojoules"),
    [
        ({"macs": {Format.FP16: 1000}}, "cube", 1000 * (0.8154 + 0.7224)),
        ({"macs": {Format.INT8: 10, Format.INT4: 10}}, "cube", 1.53 + 0.3826 + 20 * 0.07357),
        ({"vector_elements": {("exp", Format.FP16): 100}}, "vector", 452.8),
        ({"vector_elements": {("add", Format.FP32): 10}}, "vector", 7.224),
        ({"scratchpad_read_bytes": 1000}, "scratchpad", 1335),
        ({"scratchpad_write_bytes": 1000}, "scratchpad", 1484),
        ({"operand_buffer_read_bytes": 1000}, "operand_buffer", 232.6),
        ({"operand_buffer_write_bytes": 1000}, "operand_buffer", 427.5),
        ({"accumulator_read_bytes": 1000}, "accumulator", 530.6),
        ({"accumulator_write_bytes": 1000}, "accumulator", 843.2),
        ({"hbm_read_bytes": 1000}, "hbm", 8 * 3970),
        ({"hbm_write_bytes": 1000}, "hbm", 8 * 3970),
    ],
)
def test_an_action_is_charged_to_its_component_alone(counts, component, picojoules):
    assert energy_j(**counts) == {component: pytest.approx(picojoules * 1e-12)}


def test_static_power_is_leakage_of_all_cores_and_idle_channels():
    leakage_w = (0.02069 + 0.001638 + 0.005466) * 1e-3
    arithmetic_mm2 = 1024 * 0.002255 + 16 * 0.009202
    expected_w = leakage_w + arithmetic_mm2 * 10e-3 + 66e-3
    assert static_power_w(MACHINE, TECHNOLOGY) == pytest.approx(expected_w)
    assert energy_j(seconds=2.0) == {"static": pytest.approx(2 * expected_w)}


def drawn(run, machine, technology):
    joules = energy_by_component(run, machine, technology)
    return Drawn(joules, run.hbm_read_bytes + run.hbm_write_bytes, run.seconds)


def test_memory_devices_draw_their_part_of_a_byte_and_the_idle_power():
    """31.2 of 97 pJ/B and 24 W, of 4n; their clock is not that of the machine, which is halved."""
    machine = load_machine("h200-sxm", {"clock": "990 MHz"})
    technology = load_technology("4n")
    run = replace(IDLE, hbm_read_bytes=3_000, hbm_write_bytes=1_000, seconds=1e-9)
    expected_pj = 4_000 * 31.2 + 24_000
    assert memory_device_energy_j(
        drawn(run, machine, technology), machine, technology
    ) == pytest.approx(1e-12 * expected_pj)
    assert memory_idle_power_w(machine, technology) == 24
    assert static_power_w(machine, technology) > 24


def test_devices_that_the_technology_does_not_tell_apart_draw_idle_power_only():
    run = replace(IDLE, hbm_read_bytes=1_000, seconds=2.0)
    device_j = memory_device_energy_j(drawn(run, MACHINE, TECHNOLOGY), MACHINE, TECHNOLOGY)
    assert device_j == 2 * memory_idle_power_w(MACHINE, TECHNOLOGY)


def test_all_commands_of_a_banked_memory_are_of_its_devices():
    machine = load_machine("ascend-910b-banked")
    technology = load_technology(machine.technology)
    commands = DramCommands(activations=2, read_bursts=3, write_bursts=4, row_hits=5, refreshes=6)
    run = replace(IDLE, dram=commands, seconds=1e-6)
    joules = energy_by_component(run, machine, technology)
    moved_j = sum(energy for component, energy in joules.items() if component.startswith("hbm"))
    idle_j = 1e-6 * memory_idle_power_w(machine, technology)
    assert moved_j > 0
    assert memory_device_energy_j(
        drawn(run, machine, technology), machine, technology
    ) == pytest.approx(moved_j + idle_j)


def test_a_byte_pays_the_network_between_the_l2_and_a_core():
    machine, technology = load_machine("h200-sxm"), load_technology("4n")
    pj_per_byte = technology.network.energy.value
    run = replace(IDLE, l2_read_bytes=3_000, l2_write_bytes=1_000, hbm_read_bytes=500)
    joules = energy_by_component(run, machine, technology)
    assert joules["network"] == pytest.approx(1e-12 * 4_000 * pj_per_byte)
    alone = energy_by_component(replace(IDLE, hbm_read_bytes=500), machine, technology)
    assert joules["hbm"] == alone["hbm"] == pytest.approx(1e-12 * 500 * 97)


def test_without_an_l2_all_bytes_of_the_memory_cross_the_network():
    technology = TECHNOLOGY.model_copy(update={"network": load_technology("4n").network})
    run = replace(IDLE, hbm_read_bytes=300, hbm_write_bytes=100)
    joules = energy_by_component(run, MACHINE, technology)
    assert joules.pop("network") == pytest.approx(1e-12 * 400 * technology.network.energy.value)
    assert joules == energy_by_component(run, MACHINE, TECHNOLOGY)


def test_what_waits_pays_no_network():
    """Blocks that sleep draw what the idle board draws (benchmarks/h200_energy/units.csv)."""
    machine, technology = load_machine("h200-sxm"), load_technology("4n")
    joules = energy_by_component(replace(IDLE, seconds=2.0), machine, technology)
    assert sum(joules.values()) == joules["static"] == 2 * static_power_w(machine, technology)


def test_energy_of_the_die_follows_its_clock_and_that_of_memory_devices_does_not():
    """At 0.5 of the clock with an exponent of 1.3 a byte from the memory costs 31.2 pJ in the
    devices and 0.5^1.3 of 65.8 pJ beside them; over the network it costs 0.5^1.3 of 30 pJ."""
    machine = load_machine("h200-sxm", {"clock": "990 MHz"})
    technology = load_technology("4n")
    run = replace(IDLE, hbm_read_bytes=1_000, l2_read_bytes=1_000)
    joules = energy_by_component(run, machine, technology)
    assert joules["hbm"] == pytest.approx(1e-9 * (31.2 + 65.8 * 0.5**1.3))
    assert joules["network"] == pytest.approx(1e-9 * 30 * 0.5**1.3)
