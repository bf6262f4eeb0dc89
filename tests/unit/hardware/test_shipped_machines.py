"""The shipped machines: valid, sourced down to every number, and what their names promise."""

import pytest

from accelsim.accounts.area import arithmetic_area_mm2
from accelsim.config.loader import load_spec, read_document
from accelsim.config.shipped import known_names
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.numerics.formats import Format
from accelsim.units import KIB
from tests.sourced import is_covered, numbers

MACHINES = known_names("machine")


@pytest.mark.parametrize("name", MACHINES)
def test_every_number_of_a_machine_has_a_source(name):
    machine = read_document(name, kind="machine").value
    assert [path for path in numbers(machine) if not is_covered(path, machine["sources"])] == []


@pytest.mark.parametrize("name", MACHINES)
def test_every_source_of_a_machine_belongs_to_a_number(name):
    machine = read_document(name, kind="machine").value
    paths = list(numbers(machine))
    stale = [key for key in machine["sources"] if not any(is_covered(p, {key: ""}) for p in paths)]
    assert stale == []
    assert all(len(source) > len("assumption: ") for source in machine["sources"].values())


def test_a_number_without_a_source_would_be_noticed():
    paths = list(numbers({"name": "x", "clock": "1 GHz", "cube": {"rates": {"fp16": 1}}}))
    assert [path for path in paths if not is_covered(path, {"cube": "a book"})] == ["clock"]


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_runs_the_formats_of_the_kernels_and_its_technology_costs_them(name):
    machine = load_spec(MachineSpec, name, kind="machine")
    technology = load_spec(TechnologySpec, machine.technology, kind="technology")
    needed = {Format.FP32, Format.FP16, Format.BF16}
    assert machine.cube or machine.int_mac
    if machine.cube:
        assert needed <= set(machine.cube.rates) <= set(technology.cube)
    if machine.int_mac:
        assert technology.int_mac
    assert needed <= set(machine.vector.lanes)
    assert set(machine.vector.lanes) <= set(technology.vector)
    assert machine.hbm.standard in technology.dram
    assert machine.name == name


def test_the_ascend_has_its_public_figures():
    machine = load_spec(MachineSpec, "ascend-910b-no-l2", kind="machine")
    cube = machine.cube
    peak_flops = 2 * machine.cores * cube.tile_m * cube.tile_n * cube.tile_k * machine.clock
    assert peak_flops == pytest.approx(354e12, rel=0.01)
    assert machine.scratchpad.capacity == (512 + 192) * KIB
    assert machine.accumulator.capacity == 128 * KIB
    assert machine.hbm_bytes_per_cycle == pytest.approx(1.6e12 / 1.8e9)
    assert machine.hbm_latency_cycles == 630


def test_the_h100_is_the_die_of_the_h200_with_less_memory():
    own, base = (load_spec(MachineSpec, name, kind="machine") for name in ("h100-sxm", "h200-sxm"))
    peak_flops = 2 * own.cores * own.cube.macs_per_step * own.clock
    assert peak_flops == pytest.approx(989e12, rel=0.1)
    assert own.hbm.bandwidth / 3.35e12 == pytest.approx(base.hbm.bandwidth / 4.8e12, rel=0.002)
    assert own.hbm.capacity / (5 * 16 * 2**30) == pytest.approx(1, abs=0.01)
    assert base.hbm.capacity / (6 * 24 * 2**30) == pytest.approx(1, abs=0.03)
    same = {"l2", "hbm", "name", "description", "sources"}
    assert own.model_dump(exclude=same) == base.model_dump(exclude=same)


def test_the_tpu_like_machine_has_the_public_figures_of_the_chip():
    machine = load_spec(MachineSpec, "tpu-like-128", kind="machine")
    peak_flops = 2 * machine.cores * machine.cube.macs_per_step * machine.clock
    assert peak_flops == pytest.approx(275e12, rel=0.01)
    assert machine.cores * machine.scratchpad.capacity == 2 * 16 * KIB * KIB
    assert machine.hbm.bandwidth == pytest.approx(1.2e12)


def test_a_latency_below_one_cycle_is_refused():
    with pytest.raises(Exception, match="latency") as refusal:
        load_spec(MachineSpec, "edge-npu", kind="machine", overrides={"hbm.latency": "0.1 ns"})
    assert str(refusal.value).endswith(
        "edge-npu.yaml:1:1: found hbm.latency = 1e-10 s with clock = 1e+09 Hz, "
        "allowed: a latency of at least one cycle of the clock"
    )


@pytest.mark.parametrize("name", ["mx-asic", "mxint-asic"])
def test_arrays_for_shared_scales_have_the_area_of_the_one_they_replace(name):
    technology = load_spec(TechnologySpec, "28nm", kind="technology")
    machines = [load_spec(MachineSpec, each, kind="machine") for each in (name, "tender-asic")]
    own, replaced = (sum(arithmetic_area_mm2(each, technology).values()) for each in machines)
    assert own == pytest.approx(replaced, rel=0.006)


def test_the_mx_machine_has_the_ratios_of_its_formats():
    rates = load_spec(MachineSpec, "mx-npu", kind="machine").cube.rates
    assert rates[Format.FP4_E2M1] == 2 * rates[Format.FP8_E4M3] == 4 * rates[Format.BF16]
    assert rates[Format.FP6_E2M3] == rates[Format.FP8_E4M3]
