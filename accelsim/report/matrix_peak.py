"""The rate at which a machine's matrix units could do the work of a run."""

from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.units.base import ArithmeticSpec
from accelsim.program.activity import Activity


def peak_macs_per_s(activity: Activity, machine: MachineSpec) -> float:
    """Return the rate of the matrix units at these MACs, formats mixed as they are.

    Units work at the same time; the busiest one decides. Without MACs, the rate of the first unit
    that has one: of the cube at one step a cycle, or else of the integer array at its narrowest
    format.
    """
    units = [spec for spec in machine.units.values() if isinstance(spec, ArithmeticSpec)]
    macs = sum(activity.macs.values()) + sum(activity.int_macs.values())
    if macs:
        per_cycle = macs / max(spec.peak_cycles(activity) for spec in units)
    else:
        idle = (spec.idle_macs_per_cycle for spec in units)
        per_cycle = next((rate for rate in idle if rate), 0.0)
    return per_cycle * machine.cores * machine.clock
