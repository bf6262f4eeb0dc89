"""Energies of the H200 against units that were measured alone, by hand from the rows."""

import csv
from pathlib import Path

import numpy as np
import pytest

from accelsim.loading import load_machine, load_technology
from accelsim.numerics.formats import Format

UNITS = Path(__file__).parents[2] / "benchmarks" / "h200_energy" / "units.csv"
IDLE_W = 120
SRAM_PJ = 0.2
"""Of a multiply-accumulate of tiles, in the memories around the matrix unit."""


def units(code, data=None, clock_mhz=None):
    with UNITS.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["code"].startswith(code)]
    rows = [row for row in rows if data is None or row["data"] == data]
    return [row for row in rows if clock_mhz is None or float(row["sm_mhz"]) >= clock_mhz]


def watts(row):
    return float(row["watt"]) - IDLE_W


def picojoules(row):
    return 1e6 * watts(row) * float(row["us"]) / int(row["actions"])


def test_a_multiprocessor_that_waits_draws_nothing():
    assert [watts(row) < 3 for row in units("sleep")] == [True, True]


def test_power_goes_with_instructions_and_not_with_multiprocessors_that_run():
    """One warp on each of 132, or four on each of 33; and four on 33, 66 and 132."""
    (one,) = units("spin of one warp")
    by_cores = {int(row["cores"]): watts(row) for row in units("spin") if row["code"] == "spin"}
    assert watts(one) == pytest.approx(by_cores[33], rel=0.1)
    assert by_cores[132] == pytest.approx(4 * by_cores[33], rel=0.15)


@pytest.mark.parametrize("code", ["read the memory", "read the L2"])
def test_a_byte_costs_the_same_from_few_multiprocessors_as_from_all(code):
    found = [picojoules(row) for row in units(code, "random") if row["board"] in "12"]
    assert len(found) >= 3
    assert max(found) < 1.1 * min(found)


def test_a_byte_over_the_network_lies_between_zeros_and_random_bytes():
    network = load_technology("4n").network.energy.value
    zeros = [picojoules(row) for row in units("read the L2", "zeros")]
    random = [picojoules(row) for row in units("read the L2", "random")]
    assert max(zeros) < network < min(random)
    # What nobody shares costs 1.5 times as much (library/hopper/experts.py).
    assert 1.5 * network == pytest.approx(np.mean(random), rel=0.05)


def test_a_byte_of_the_memory_costs_what_is_left_beside_the_network():
    technology = load_technology("4n")
    read = [picojoules(row) for row in units("read the memory", clock_mhz=1900)]
    whole = technology.memory("hbm3e").energy.value + technology.network.energy.value
    assert 62 < min(read) < whole < max(read)


@pytest.mark.parametrize(("name", "fmt"), [("bf16", Format.BF16), ("fp8", Format.FP8_E4M3)])
def test_a_product_of_warp_groups_costs_what_it_did_alone(name, fmt):
    cost = load_technology("4n").cube[fmt]
    found = [picojoules(row) for row in units(f"wgmma {name} 128x256", "random", 1970)]
    modeled = cost.multiply.value + cost.accumulate.value + SRAM_PJ
    assert modeled == pytest.approx(np.mean(found), rel=0.08)


def test_a_vector_instruction_lies_between_those_that_were_measured():
    one = load_technology("4n").cost_of("vector", Format.FP32).add.value
    codes = ("fma.f32", "mad.lo.u32", "ex2.approx", "fma.bf16x2")
    found = [picojoules(row) for code in codes for row in units(code)]
    assert min(found) < one < max(found)


def test_energy_falls_with_the_clock_as_products_under_the_cap_say():
    """The same product on 32 multiprocessors, at 1,980 MHz, and on all under the cap."""
    exponents = []
    for code in ("product fp8 8192", "product bf16 8192", "product fp8 4096"):
        rows = {int(row["cores"]): row for row in units(code)}
        energies = picojoules(rows[132]) / picojoules(rows[32])
        clocks = float(rows[132]["sm_mhz"]) / float(rows[32]["sm_mhz"])
        exponents.append(np.log(energies) / np.log(clocks))
    exponent = load_machine("h200-sxm").power.energy_exponent
    assert min(exponents) < exponent < max(exponents)
    assert exponent == pytest.approx(np.mean(exponents), rel=0.1)
