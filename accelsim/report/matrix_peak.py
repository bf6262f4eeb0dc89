"""The rate at which a machine's matrix units could do the work of a run."""

from accelsim.hardware.machine import IntMacSpec, MachineSpec
from accelsim.hardware.matrix import Cube
from accelsim.program.activity import Activity


def peak_macs_per_s(activity: Activity, machine: MachineSpec) -> float:
    """Return the rate of the matrix units at these MACs, formats mixed as they are.

    The cube and the integer array work at the same time; the busier one decides. Without MACs, the
    rate of the cube at one step a cycle, or else of the integer array at its narrowest format.
    """
    cycles = [0.0]
    if machine.cube:
        cycles.append(_cube_cycles(activity, machine.cube))
    if machine.int_mac:
        cycles.append(_int_mac_cycles(activity, machine.int_mac))
    macs = sum(activity.macs.values()) + sum(activity.int_macs.values())
    per_cycle = macs / max(cycles) if macs else _idle_macs_per_cycle(machine)
    return per_cycle * machine.cores * machine.clock


def _cube_cycles(activity: Activity, cube: Cube) -> float:
    steps = sum(macs / cube.rates[operand] for operand, macs in activity.macs.items())
    return steps / cube.macs_per_step


def _int_mac_cycles(activity: Activity, int_mac: IntMacSpec) -> float:
    elements = sum(
        macs * int_mac.block(left.bits) * int_mac.block(right.bits)
        for (left, right), macs in activity.int_macs.items()
    )
    return elements / (int_mac.rows * int_mac.cols)


def _idle_macs_per_cycle(machine: MachineSpec) -> float:
    if machine.cube:
        return machine.cube.macs_per_step
    if machine.int_mac:
        block = machine.int_mac.block(min(fmt.bits for fmt in machine.int_mac.formats))
        return machine.int_mac.rows * machine.int_mac.cols / block**2
    return 0.0
