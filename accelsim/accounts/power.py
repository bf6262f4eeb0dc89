"""The clock that a power cap leaves: power follows from the schedule, and the schedule from it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, log1p, sqrt
from typing import Generic, Literal, NamedTuple, TypeVar

from accelsim.accounts.activity import count_activity
from accelsim.accounts.energy import (
    Drawn,
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
R = TypeVar("R")


class Capped(NamedTuple):
    """A run at the clock that was found."""

    schedule: Accounted
    machine: MachineSpec
    """With that clock."""
    power_cap: Literal["none", "met", "not met"]
    """Not met where the lowest clock that is allowed draws more than the cap."""


@dataclass(frozen=True)
class Found(Generic[R]):
    """What ran at a clock."""

    run: R
    clock: float
    excess_w: float
    """Power above the cap."""
    is_met: bool
    """Whether that is close enough, or below."""
    clocked_share: float
    """Share of the time that grows as the clock falls, or more."""


def schedule_under_cap(
    program: AnyProgram, machine: MachineSpec, technology: TechnologySpec, schedule: Scheduler
) -> Capped:
    """Return the schedule at the clock that the cap of the machine leaves."""
    if machine.power is None:
        return Capped(schedule(program, machine), machine, "none")

    def at(clock: float) -> tuple[Accounted, Drawn]:
        slowed = machine.at_clock(clock)
        run = schedule(program, slowed)
        return run, _drawn(run, slowed, technology)

    found = run_under_cap(at, machine, technology)
    slowed = machine.at_clock(found.clock)
    return Capped(found.run, slowed, "met" if found.is_met else "not met")


def run_under_cap(
    run_at: Callable[[float], tuple[R, Drawn]],
    machine: MachineSpec,
    technology: TechnologySpec,
    close_clocks: float = _CLOSE_CLOCKS,
) -> Found[R]:
    """Return what runs at the clock that the cap of a machine leaves, which must have one.

    run_at: what runs at a clock, and what it draws; it may be one kernel or many. close_clocks: the
    share by which two clocks differ that have none between them.

    Dynamic power goes with clock^(s + e), for an energy exponent of e and a share s of the time
    that follows the clock: 1 when the clock bounds the run, 0 when the memory does. Stepping as if
    it were 1, where nothing else is known, never steps too far. Where a step does, the next one
    lies between two clocks, on the line through the logarithms of their powers. Where the memory
    bounds the run the steps can be short: after some of them the range of clocks is halved.
    """
    power = machine.power
    if power is None:
        raise ValueError(f"{machine.name} has no cap")

    def at(clock: float) -> Found[R]:
        run, drawn = run_at(clock)
        slowed = machine.at_clock(clock)
        excess_w = _power_w(drawn, slowed, power, technology) - power.cap
        is_met = excess_w <= CLOSE * power.cap
        return Found(run, clock, excess_w, is_met, drawn.clocked_share)

    headroom_w = power.cap - _static_w(machine, power, technology)
    above, below = at(machine.clock), None
    for _ in range(_MOST_STEPS):
        if above.is_met or above.clock <= power.lowest_clock:
            return above
        clock = _between(below, above, headroom_w) if below else _slower(above, power, headroom_w)
        found = at(clock)
        if not found.is_met:
            above = found
        elif _is_close(found, above, power, close_clocks):
            return found
        else:
            below = found
    return _halved(at, below or at(power.lowest_clock), above, power, close_clocks)


def _between(below: Found[R], above: Found[R], headroom_w: float) -> float:
    """Return the clock that meets the cap if power goes with one exponent between two clocks."""
    if headroom_w + below.excess_w <= 0:
        return sqrt(below.clock * above.clock)
    powers = log((headroom_w + above.excess_w) / (headroom_w + below.excess_w))
    share = log1p(above.excess_w / headroom_w) / powers
    between: float = above.clock * (below.clock / above.clock) ** share
    return between


def _slower(found: Found[R], power: PowerSpec, headroom_w: float) -> float:
    """Return the clock that would meet the cap if it bounded the same share of the time."""
    if headroom_w <= 0:
        return power.lowest_clock
    share = headroom_w / (headroom_w + found.excess_w)
    slower: float = found.clock * share ** (1 / (found.clocked_share + power.energy_exponent))
    return max(power.lowest_clock, slower)


def _halved(
    at: Callable[[float], Found[R]],
    below: Found[R],
    above: Found[R],
    power: PowerSpec,
    close_clocks: float,
) -> Found[R]:
    """Return the run at a clock that meets the cap closely, or `below` if that does not.

    above: a run that does not meet the cap.
    """
    while below.is_met and not _is_close(below, above, power, close_clocks):
        middle = at(sqrt(below.clock * above.clock))
        below, above = (middle, above) if middle.is_met else (below, middle)
    return below


def _is_close(below: Found[R], above: Found[R], power: PowerSpec, close_clocks: float) -> bool:
    """Whether the power is that of the cap, or leaps over it between two clocks."""
    clocks = above.clock / below.clock
    return below.excess_w >= -CLOSE * power.cap or clocks <= 1 + close_clocks


def _static_w(machine: MachineSpec, power: PowerSpec, technology: TechnologySpec) -> float:
    """Return the static power of what the cap is of."""
    watts = static_power_w(machine, technology)
    if power.rails == "chip":
        watts -= memory_idle_power_w(machine, technology)
    return watts


def _drawn(run: Accounted, machine: MachineSpec, technology: TechnologySpec) -> Drawn:
    activity = count_activity(run, machine)
    joules = energy_by_component(activity, machine, technology)
    return Drawn(joules, activity.hbm_read_bytes + activity.hbm_write_bytes, activity.seconds)


def _power_w(
    drawn: Drawn, machine: MachineSpec, power: PowerSpec, technology: TechnologySpec
) -> float:
    """Return the mean power of what the cap is of."""
    if drawn.seconds == 0:
        return 0.0
    joules = sum(drawn.joules.values())
    if power.rails == "chip":
        joules -= memory_device_energy_j(drawn, machine, technology)
    return joules / drawn.seconds
