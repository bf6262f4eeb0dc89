"""The clock under a power cap, against what power laws say and on machines without a cap."""

import pytest

from accelsim.accounts.power import CLOSE, schedule_under_cap
from accelsim.engine.compiled import schedule
from accelsim.errors import ConfigError
from accelsim.loading import load_machine, load_technology, load_workload
from accelsim.simulation import record, simulate

CAP = {
    "power": {
        "cap": "1 kW",
        "lowest_clock": "100 MHz",
        "reference_clock": "1.8 GHz",
        "energy_exponent": 1.0,
    }
}


def machine_with(**changes):
    fields = CAP["power"] | changes
    return load_machine(
        "ascend-910b-no-l2", {f"power.{key}": value for key, value in fields.items()}
    )


def power_w(report):
    return report.energy_j / report.time_s


def test_a_run_below_the_cap_keeps_its_clock_and_its_energy():
    free = simulate("ascend-910b-no-l2", "gemm-1024", "gemm")
    capped = simulate(machine_with(), "gemm-1024", "gemm")
    assert (capped.clock_hz, capped.cycles) == (1.8e9, free.cycles)
    assert capped.energy_j == free.energy_j


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5])
def test_the_clock_falls_until_the_power_is_the_cap(share):
    free = simulate("ascend-910b-no-l2", "gemm-1024", "gemm")
    cap_w = share * power_w(free)
    capped = simulate(machine_with(cap=f"{cap_w} W"), "gemm-1024", "gemm")
    assert capped.clock_hz < 1.8e9
    # A step never goes below the cap: what does not follow the clock, static power and the memory,
    # only makes it too short. Cycles of the HBM's latency are rounded, hence the slack below.
    assert cap_w * (1 - 1e-3) <= power_w(capped) <= cap_w * (1 + CLOSE)
    assert capped.time_s > free.time_s


def test_the_lowest_clock_is_kept_whatever_the_cap():
    capped = simulate(machine_with(cap="1 W", lowest_clock="1 GHz"), "gemm-1024", "gemm")
    assert capped.clock_hz == 1e9
    assert power_w(capped) > 1


def test_energy_of_actions_follows_the_clock():
    free = simulate("ascend-910b-no-l2", "gemm-1024", "gemm")
    half = load_machine(
        "ascend-910b-no-l2",
        {f"power.{key}": value for key, value in CAP["power"].items()} | {"clock": "0.9 GHz"},
    )
    slowed = simulate(half, "gemm-1024", "gemm")
    assert slowed.energy_by_component_j["cube"] == free.energy_by_component_j["cube"] / 2


def test_the_chip_of_a_short_run_may_draw_what_bursts_allow():
    power = machine_with(burst="2 kW").power
    assert (power.in_force.cap, power.cap) == (2000, 1000)
    assert (power.in_force.rails, power.rails) == ("chip", "board")
    assert machine_with().power.in_force == machine_with().power


def test_one_of_many_runs_is_under_the_cap_whatever_a_burst_may_draw():
    power = machine_with(burst="2 kW", duty="sustained").power
    assert power.in_force == power


def test_the_duty_of_a_machine_decides_which_limit_its_runs_meet():
    free = simulate("ascend-910b-no-l2", "gemm-1024", "gemm")
    cap_w = 0.5 * power_w(free)
    limits = {"cap": f"{cap_w} W", "burst": f"{2 * power_w(free)} W"}
    single = simulate(machine_with(**limits), "gemm-1024", "gemm")
    sustained = simulate(machine_with(**limits, duty="sustained"), "gemm-1024", "gemm")
    assert single.clock_hz == 1.8e9
    assert sustained == simulate(machine_with(cap=f"{cap_w} W"), "gemm-1024", "gemm")


def test_a_duty_that_nobody_knows():
    with pytest.raises(ConfigError) as found:
        machine_with(duty="sustaned")
    assert str(found.value) == (
        "--set power.duty: found 'sustaned', did you mean 'sustained'?; "
        "allowed: 'single' or 'sustained'"
    )


def test_a_cap_of_the_chip_leaves_out_what_its_memory_draws():
    """By the reports: 31.2 pJ of each byte at any clock, and 24 W of an idle memory."""

    def chip_w(report):
        moved_bytes = report.hbm_read_bytes + report.hbm_write_bytes
        memory_w = 31.2e-12 * moved_bytes / report.time_s + 24
        return power_w(report) - memory_w

    cap_w = 0.9 * chip_w(simulate("h200-sxm", "gemm-1024", "gemm"))
    machine = load_machine("h200-sxm", {"power.burst": f"{cap_w} W"})
    capped = simulate(machine, "gemm-1024", "gemm")
    assert capped.clock_hz < 1.98e9
    assert cap_w * (1 - 1e-3) <= chip_w(capped) <= cap_w * (1 + CLOSE)


def test_a_machine_without_a_limit_is_scheduled_once():
    machine = load_machine("edge-npu")
    program = record(machine, "gemm-1024", "gemm")
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return schedule(*arguments)

    capped = schedule_under_cap(program, machine, load_technology("28nm"), counted)
    assert capped.machine is machine
    assert capped.power_cap == "none"
    assert len(calls) == 1


COPY = {"function": "copy"}


@pytest.mark.parametrize(
    ("exponent", "cap_w"), [(0, 55.7), (0, 46.9), (0, 55), (0.1, 50), (0.2, 50), (1, 50)]
)
def test_the_cap_is_met_where_the_memory_bounds_the_run(exponent, cap_w):
    """Then power hardly follows the clock, and steps that assume it does are short."""
    changes = {"lowest_clock": "1 MHz", "energy_exponent": exponent}
    machine = machine_with(cap=f"{cap_w} W", **changes)
    report = simulate(machine, load_workload("rmsnorm-4096", COPY), "vector")
    assert power_w(report) <= cap_w * (1 + CLOSE)
    assert report.clock_hz < 1.8e9
    assert report.power_cap == "met"


def test_a_report_says_that_the_lowest_clock_does_not_meet_the_cap():
    capped = simulate(machine_with(cap="1 W", lowest_clock="1 GHz"), "gemm-1024", "gemm")
    assert capped.power_cap == "not met"
    assert simulate("ascend-910b", "gemm-1024", "gemm").power_cap == "none"
    layer = "smollm2-135m/decode-4096"
    assert simulate(machine_with(cap="1 W"), layer, "flash").power_cap == "not met"


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_an_ordinary_search_takes_few_runs(share):
    program = record(machine_with(), "gemm-1024", "gemm")
    cap_w = share * power_w(simulate("ascend-910b", "gemm-1024", "gemm"))
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return schedule(*arguments)

    schedule_under_cap(program, machine_with(cap=f"{cap_w} W"), load_technology("7nm"), counted)
    assert len(calls) <= 5


def test_a_cap_needs_a_unit():
    with pytest.raises(ConfigError, match="number without a unit"):
        machine_with(cap="700")
