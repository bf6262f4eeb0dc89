"""The rate at which a machine's matrix units could do the work of a run."""

from accelsim.hardware.machine import CubeSpec, IntMacSpec, MachineSpec
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


def _cube_cycles(activity: Activity, cube: CubeSpec) -> float:
    steps = sum(macs / cube.rates[operand] for operand, macs in activity.macs.items())
    return steps / (cube.tile_m * cube.tile_n * cube.tile_k)


def _int_mac_cycles(activity: Activity, int_mac: IntMacSpec) -> float:
    elements = sum(
        macs * int_mac.block(left.bits) * int_mac.block(right.bits)
        for (left, right), macs in activity.int_macs.items()
    )
    return elements / (int_mac.rows * int_mac.cols)


def _idle_macs_per_cycle(machine: MachineSpec) -> float:
    if machine.cube:
        return machine.cube.tile_m * machine.cube.tile_n * machine.cube.tile_k
    if machine.int_mac:
        narrowest = int_mac_block = min(fmt.bits for fmt in machine.int_mac.formats)
        int_mac_block = machine.int_mac.block(narrowest)
        return machine.int_mac.rows * machine.int_mac.cols / int_mac_block**2
    return 0.0
