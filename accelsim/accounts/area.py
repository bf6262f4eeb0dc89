"""Die area by component, from the machine's sizes and the technology's unit areas."""

from collections.abc import Mapping

from accelsim.accounts.interface import interface_channels
from accelsim.hardware.costs import sram_capacities
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import SramPoint, TechnologySpec
from accelsim.hardware.units.base import ArithmeticSpec
from accelsim.runtime.kept import once_for_each


@once_for_each
def area_by_component_mm2(machine: MachineSpec, technology: TechnologySpec) -> Mapping[str, float]:
    """Return the mm2 of all cores by component; their sum is the modeled area of the die.

    Network, scalar cores and pads are not modeled. Raises UnknownNameError for a format or memory
    standard without costs, ConfigError for a capacity outside the SRAM table.
    """
    per_core = {
        **arithmetic_area_mm2(machine, technology),
        **{memory: point.area for memory, point in sram_points(machine, technology).items()},
    }
    area = {component: machine.cores * area_mm2 for component, area_mm2 in per_core.items()}
    if machine.l2:
        area["l2"] = machine.l2.slices * l2_slice(machine.l2, technology).area
    channel_mm2 = technology.memory(machine.hbm.technology_key).channel_area.value
    return area | {"hbm": interface_channels(machine.hbm, technology) * channel_mm2}


def arithmetic_area_mm2(machine: MachineSpec, technology: TechnologySpec) -> dict[str, float]:
    """Return the mm2 of the compute units of one core, by unit."""
    return {
        model.key: spec.area_mm2(technology)
        for model, spec in machine.units.items()
        if isinstance(spec, ArithmeticSpec)
    }


@once_for_each
def sram_points(machine: MachineSpec, technology: TechnologySpec) -> Mapping[str, SramPoint]:
    """Return the costs of each on-chip memory of one core, by component."""
    sizes = sram_capacities(machine).items()
    return {memory: technology.sram_of(memory, size) for memory, (_, size) in sizes}


def l2_slice(l2: L2Spec, technology: TechnologySpec) -> SramPoint:
    """Return the costs of one slice of an L2; its tags are not counted."""
    return technology.sram_of("l2 slice", l2.capacity // l2.slices)
