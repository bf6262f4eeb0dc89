"""The one clock of a step: a power cap holds for the mean of milliseconds, not for each kernel.

A step is hundreds of kernels. Some draw more than the cap and some less, and the control of the
power, which is slower than a kernel, sees their mean. So all run at the clock at which the energy
of the step over its time is the cap. What the memory bounds does not take longer at a lower clock.
"""

from collections.abc import Callable, Sequence
from math import ceil, log2

from accelsim.accounts.energy import Drawn
from accelsim.accounts.power import Found, run_under_cap
from accelsim.hardware.machine import MachineSpec
from accelsim.loading import load_technology
from accelsim.report.measured import total_of
from accelsim.report.report import Report

CLOCKS_OF_AN_OCTAVE = 128
"""Clocks that a step can have between one and twice as much, so that many steps have the same: half
a percent lies between two, less than what the search leaves open."""
_ROUNDING = 1e-9
"""Of a logarithm: a clock that can be had stays as it is."""


Runs = Sequence[tuple[int, Report]]
"""Operations of a step, and how often each occurs."""


def clock_of_step(machine: MachineSpec, runs_at: Callable[[float], Runs]) -> float:
    """Return the clock at which all of a step meets the cap of a machine, if it has one.

    runs_at: the operations of the step at a clock. The clock is the lowest that is allowed where no
    other meets the cap.
    """
    if machine.power is None:
        return machine.clock
    machine = machine.model_copy(update={"power": machine.power.in_force})

    def at(clock: float) -> tuple[float, Drawn]:
        clock = near_clock(machine, clock)
        return clock, _drawn(runs_at(clock))

    technology = load_technology(machine.technology)
    found: Found[float] = run_under_cap(at, machine, technology, 1.5 / CLOCKS_OF_AN_OCTAVE)
    return found.run


def near_clock(machine: MachineSpec, clock: float) -> float:
    """Return the next clock that a step can have: at most `clock`, or the lowest allowed."""
    below = CLOCKS_OF_AN_OCTAVE * log2(machine.clock / clock)
    near: float = machine.clock * 2 ** (-ceil(below - _ROUNDING) / CLOCKS_OF_AN_OCTAVE)
    return max(near, machine.power.lowest_clock) if machine.power else near


def _drawn(runs: Runs) -> Drawn:
    time_s = float(total_of("seconds", runs))
    hbm_bytes = total_of("hbm_read_bytes", runs) + total_of("hbm_write_bytes", runs)
    joules = {name: float(energy_j) for name, energy_j in total_of("joules", runs).items()}
    unclocked = ("hbm", "links")
    memory_s = sum(count * report.time_s for count, report in runs if report.bound_by in unclocked)
    return Drawn(joules, hbm_bytes, time_s, 1 - memory_s / time_s if time_s else 1.0)
