"""The clock of a step: one for all operations, at which their mean power is the cap."""

import pytest

from accelsim.accounts.energy import Drawn
from accelsim.accounts.power import CLOSE, run_under_cap, schedule_under_cap
from accelsim.bench import Bench
from accelsim.engine.looped import schedule
from accelsim.inference.cost import StepModel, sustained
from accelsim.inference.step_clock import CLOCKS_OF_AN_OCTAVE, near_clock
from accelsim.loading import LoadedSystem, load_machine, load_system, load_technology
from accelsim.models.families.registry import read_architecture
from accelsim.models.step import Step
from tests.small_models import SMALL

CONFIG = {
    **SMALL,
    "model_type": "llama",
    "hidden_size": 512,
    "head_dim": 128,
    "intermediate_size": 2048,
    "vocab_size": 1024,
}


def power_w(measured):
    return measured.energy_j / measured.time_s


def model_on(machine):
    return StepModel(read_architecture(CONFIG, ""), LoadedSystem(load_system("h200"), machine))


def h200(cap="700 W", **more):
    settings = {f"power.{key}": value for key, value in more.items()}
    return load_machine("h200-sxm", {"power.cap": cap, **settings})


def test_the_mean_power_of_a_step_is_the_cap_and_not_that_of_each_operation():
    free = model_on(h200()).cost(Step.prefill(4, 512))
    cap_w = 0.9 * power_w(free.measured)
    capped = model_on(h200(f"{cap_w} W")).cost(Step.prefill(4, 512))
    assert power_w(capped.measured) == pytest.approx(cap_w, rel=CLOSE + 0.01)
    powers = [power_w(each.report) for each in capped.operations]
    assert max(powers) > 1.1 * cap_w > 0.9 * cap_w > min(powers)
    assert {each.report.power_cap for each in capped.operations} == {"none"}


def test_all_operations_of_a_step_run_at_one_clock():
    cap_w = 0.85 * power_w(model_on(h200()).cost(Step.prefill(4, 512)).measured)
    cost = model_on(h200(f"{cap_w} W")).cost(Step.prefill(4, 512))
    clocks = {round(each.report.clock_hz) for each in cost.operations}
    assert len(clocks) == 1
    assert clocks.pop() < 1.98e9
    sums = sum(each.count * each.report.seconds for each in cost.operations)
    assert cost.measured.seconds == sums
    joules = sum(each.count * sum(each.report.joules.values()) for each in cost.operations)
    assert sum(cost.measured.joules.values()) == joules


def test_a_step_below_the_cap_keeps_the_clock():
    cost = model_on(h200()).cost(Step.decode(1, 100))
    assert {each.report.clock_hz for each in cost.operations} == {1.98e9}


def test_a_machine_without_a_cap_keeps_its_clock():
    machine = load_machine("ascend-910b-no-l2")
    cost = model_on(machine).cost(Step.prefill(1, 64))
    assert {each.report.clock_hz for each in cost.operations} == {machine.clock}


def test_what_costs_depend_on_is_the_step_and_not_those_before():
    cap_w = 0.9 * power_w(model_on(h200()).cost(Step.prefill(4, 512)).measured)
    machine = h200(f"{cap_w} W")
    known = model_on(machine)
    known.cost(Step.prefill(8, 512))
    again, new = (model.cost(Step.prefill(4, 512)) for model in (known, model_on(machine)))
    assert again.measured == new.measured


def test_one_operation_has_the_clock_that_it_has_alone():
    """The cap of a step and that of a kernel are one search; steps have clocks at some distance."""
    machine = sustained(h200("350 W", lowest_clock="300 MHz"))
    problem = next(
        each.problem
        for each in model_on(machine).cost(Step.prefill(4, 512)).operations
        if each.name == "gate-up"
    )
    recorded = next(Bench(machine).record(problem))
    alone = schedule_under_cap(recorded.program, *recorded.hardware, schedule)
    technology = load_technology(machine.technology)

    def at(clock):
        report = Bench(machine).report_at(recorded, near_clock(machine, clock))
        hbm_bytes = report.hbm_read_bytes + report.hbm_write_bytes
        return report, Drawn(report.energy_by_component_j, hbm_bytes, report.time_s)

    together = run_under_cap(at, machine, technology, 1.5 / CLOCKS_OF_AN_OCTAVE)
    assert alone.machine.clock < 1.98e9
    assert together.run.clock_hz == pytest.approx(alone.machine.clock, rel=0.02)


def test_clocks_of_steps_are_few_and_never_above_what_is_asked():
    machine = h200()
    assert near_clock(machine, machine.clock) == machine.clock
    for clock in (1.97e9, 1.5e9, 1.21e9):
        near = near_clock(machine, clock)
        assert near <= clock < near * 2 ** (1.001 / CLOCKS_OF_AN_OCTAVE)
        assert near_clock(machine, near) == pytest.approx(near)
    assert near_clock(machine, 0.9 * machine.power.lowest_clock) == machine.power.lowest_clock


@pytest.mark.parametrize("told", [1.0, 0.8, 0.3, 0.0])
@pytest.mark.parametrize("true_share", [1.0, 0.5, 0.1])
def test_the_cap_is_met_whatever_is_said_of_the_time(told, true_share):
    """A run whose time follows the clock by a share, of which another share is told."""
    machine = sustained(h200("500 W"))
    technology = load_technology(machine.technology)
    calls, exponent = [], machine.power.energy_exponent

    def at(clock):
        calls.append(clock)
        ratio = machine.clock / clock
        seconds = true_share * ratio + 1 - true_share
        joules = {"cube": 500 * ratio**-exponent, "static": 120 * seconds}
        return clock, Drawn(joules, 0, seconds, told)

    found = run_under_cap(at, machine, technology)
    if found.clock > machine.power.lowest_clock:
        assert abs(found.excess_w) <= CLOSE * 500
    else:
        assert found.excess_w <= 0 or not found.is_met
    assert len(calls) <= 8
