"""Die area by component, from the machine's sizes and the technology's unit areas."""

from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import SramPoint, TechnologySpec


def area_by_component_mm2(machine: MachineSpec, technology: TechnologySpec) -> dict[str, float]:
    """Return the mm2 of all cores by component; their sum is the modeled area of the die.

    Network, scalar cores and pads are not modeled. Raises UnknownNameError for a format or memory
    standard without costs, ConfigError for a capacity outside the SRAM table.
    """
    per_core = {
        "cube": cube_area_mm2(machine, technology),
        "vector": vector_area_mm2(machine, technology),
        **{memory: point.area for memory, point in sram_points(machine, technology).items()},
    }
    area = {component: machine.cores * area_mm2 for component, area_mm2 in per_core.items()}
    channel_mm2 = technology.memory(machine.hbm.standard).channel_area.value
    return area | {"hbm": machine.hbm.channels * channel_mm2}


def cube_area_mm2(machine: MachineSpec, technology: TechnologySpec) -> float:
    """Return the area of one cube: its formats share one array, so the widest one decides."""
    cube = machine.cube
    return cube.macs_per_step * max(
        rate * technology.mac(f).area.value for f, rate in cube.rates.items()
    )


def vector_area_mm2(machine: MachineSpec, technology: TechnologySpec) -> float:
    """Return the area of one vector unit: its formats share the lanes, the widest one decides."""
    lanes = machine.vector.lanes
    return max(count * technology.vector_lane(f).area.value for f, count in lanes.items())


def sram_points(machine: MachineSpec, technology: TechnologySpec) -> dict[str, SramPoint]:
    """Return the costs of each on-chip memory of one core, by component."""
    capacities = {
        "scratchpad": machine.scratchpad.capacity,
        "operand_buffer": machine.cube.operand_buffer,
        "accumulator": machine.accumulator.capacity,
    }
    return {memory: technology.sram_of(memory, size) for memory, size in capacities.items()}
