"""The clock that a power cap leaves: power follows from the schedule, and the schedule from it."""

from collections.abc import Callable

from accelsim.energy.model import (
    energy_by_component,
    memory_device_energy_j,
    memory_idle_power_w,
    static_power_w,
)
from accelsim.engine.activity import count_activity
from accelsim.engine.schedule import Schedule
from accelsim.hardware.machine import MachineSpec, PowerSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.program.program import Program

CLOSE = 0.02
"""Share of the cap by which the power of the clock that is found may differ from it."""
_MOST_STEPS = 12

Scheduler = Callable[[Program, MachineSpec], Schedule]


def schedule_under_cap(
    program: Program, machine: MachineSpec, technology: TechnologySpec, schedule: Scheduler
) -> tuple[Schedule, MachineSpec]:
    """Return the schedule at the clock that the cap of the machine leaves, and that machine.

    Dynamic power goes with clock^(1 + e) when the clock bounds the run and with clock^e when the
    memory does, for an energy exponent of e. Stepping as if the clock did never steps too far, so
    the clock falls, step by step, to where the power is the cap, or to the lowest clock.
    """
    run = schedule(program, machine)
    power = machine.power
    if power is None:
        return run, machine
    headroom_w = power.cap - _static_w(machine, power, technology)
    for _ in range(_MOST_STEPS):
        excess_w = _power_w(run, machine, power, technology) - power.cap
        if excess_w <= CLOSE * power.cap or machine.clock <= power.lowest_clock:
            break
        machine = _slowed(machine, power, headroom_w, excess_w)
        run = schedule(program, machine)
    return run, machine


def _slowed(
    machine: MachineSpec, power: PowerSpec, headroom_w: float, excess_w: float
) -> MachineSpec:
    """Return the machine at the clock that would meet the cap if the clock bounded the run."""
    clock = power.lowest_clock
    if headroom_w > 0:
        share = headroom_w / (headroom_w + excess_w)
        clock = max(clock, machine.clock * share ** (1 / (1 + power.energy_exponent)))
    return machine.model_copy(update={"clock": clock})


def _static_w(machine: MachineSpec, power: PowerSpec, technology: TechnologySpec) -> float:
    """Return the static power of what the cap is of."""
    watts = static_power_w(machine, technology)
    if power.rails == "chip":
        watts -= memory_idle_power_w(machine, technology)
    return watts


def _power_w(
    run: Schedule, machine: MachineSpec, power: PowerSpec, technology: TechnologySpec
) -> float:
    """Return the mean power, in a run, of what the cap is of."""
    activity = count_activity(run, machine)
    if activity.seconds == 0:
        return 0.0
    joules = sum(energy_by_component(activity, machine, technology).values())
    if power.rails == "chip":
        joules -= memory_device_energy_j(activity, machine, technology)
    return joules / activity.seconds
