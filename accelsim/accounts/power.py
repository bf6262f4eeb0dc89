"""The clock that a power cap leaves: power follows from the schedule, and the schedule from it."""

from collections.abc import Callable
from math import sqrt
from typing import Literal, NamedTuple

from accelsim.accounts.activity import count_activity
from accelsim.accounts.energy import (
    energy_by_component,
    memory_device_energy_j,
    memory_idle_power_w,
    static_power_w,
)
from accelsim.engine.schedule import Accounted
from accelsim.hardware.machine import MachineSpec, PowerSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.program.long import AnyProgram

CLOSE = 0.02
"""Share of the cap by which the power of the clock that is found may differ from it."""
_MOST_STEPS = 12
"""Steps after which the search halves the range of clocks that is left."""
_CLOSE_CLOCKS = 1e-3
"""Share by which two clocks differ between which there is nothing left to search."""

Scheduler = Callable[[AnyProgram, MachineSpec], Accounted]


class Capped(NamedTuple):
    """A run at the clock that was found."""

    schedule: Accounted
    machine: MachineSpec
    """With that clock."""
    power_cap: Literal["none", "met", "not met"]
    """Not met where the lowest clock that is allowed draws more than the cap."""


class _Run(NamedTuple):
    schedule: Accounted
    machine: MachineSpec
    excess_w: float
    """Power above the cap."""
    is_met: bool
    """Whether that is close enough, or below."""


def schedule_under_cap(
    program: AnyProgram, machine: MachineSpec, technology: TechnologySpec, schedule: Scheduler
) -> Capped:
    """Return the schedule at the clock that the cap of the machine leaves.

    Dynamic power goes with clock^(1 + e) when the clock bounds the run and with clock^e when the
    memory does, for an energy exponent of e. Stepping as if the clock did never steps too far, so
    the clock falls, step by step, to where the power is the cap. Where the memory bounds the run
    the steps can be short: after some of them the range down to the lowest clock is halved.
    """
    power = machine.power
    if power is None:
        return Capped(schedule(program, machine), machine, "none")

    def at(clock: float) -> _Run:
        slowed = machine.model_copy(update={"clock": clock})
        run = schedule(program, slowed)
        excess_w = _power_w(run, slowed, power, technology) - power.cap
        return _Run(run, slowed, excess_w, excess_w <= CLOSE * power.cap)

    headroom_w = power.cap - _static_w(machine, power, technology)
    run = at(machine.clock)
    for _ in range(_MOST_STEPS):
        if run.is_met or run.machine.clock <= power.lowest_clock:
            break
        run = at(_slower(run, power, headroom_w))
    else:
        run = run if run.is_met else _halved(at, run, power)
    return Capped(run.schedule, run.machine, "met" if run.is_met else "not met")


def _slower(run: _Run, power: PowerSpec, headroom_w: float) -> float:
    """Return the clock that would meet the cap if the clock bounded the run."""
    if headroom_w <= 0:
        return power.lowest_clock
    share = headroom_w / (headroom_w + run.excess_w)
    slower: float = run.machine.clock * share ** (1 / (1 + power.energy_exponent))
    return max(power.lowest_clock, slower)


def _halved(at: Callable[[float], _Run], above: _Run, power: PowerSpec) -> _Run:
    """Return the run at a clock that meets the cap closely, or at the lowest if that does not.

    above: a run that does not meet the cap.
    """
    below = at(power.lowest_clock)
    while below.is_met and not _is_close(below, above, power):
        middle = at(sqrt(below.machine.clock * above.machine.clock))
        below, above = (middle, above) if middle.is_met else (below, middle)
    return below


def _is_close(below: _Run, above: _Run, power: PowerSpec) -> bool:
    """Whether the power is that of the cap, or leaps over it between two clocks."""
    clocks = above.machine.clock / below.machine.clock
    return below.excess_w >= -CLOSE * power.cap or clocks <= 1 + _CLOSE_CLOCKS


def _static_w(machine: MachineSpec, power: PowerSpec, technology: TechnologySpec) -> float:
    """Return the static power of what the cap is of."""
    watts = static_power_w(machine, technology)
    if power.rails == "chip":
        watts -= memory_idle_power_w(machine, technology)
    return watts


def _power_w(
    run: Accounted, machine: MachineSpec, power: PowerSpec, technology: TechnologySpec
) -> float:
    """Return the mean power, in a run, of what the cap is of."""
    activity = count_activity(run, machine)
    if activity.seconds == 0:
        return 0.0
    joules = sum(energy_by_component(activity, machine, technology).values())
    if power.rails == "chip":
        joules -= memory_device_energy_j(activity, machine, technology)
    return joules / activity.seconds
