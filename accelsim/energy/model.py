"""Action counts times cost per action: joules by component."""

from accelsim.energy.area import cube_area_mm2, sram_points, vector_area_mm2
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import SramPoint, TechnologySpec
from accelsim.program.activity import Activity
from accelsim.units import PICO


def energy_by_component(
    activity: Activity, machine: MachineSpec, technology: TechnologySpec
) -> dict[str, float]:
    """Return the joules of a run by component; their sum is the energy of the run.

    The energy per byte of an SRAM follows from its capacity in `machine`; both operand buffers
    count as one memory. `static` is what the machine draws without doing anything, for the time of
    the run. Raises UnknownNameError for a format or memory standard without costs, ConfigError for
    a capacity outside the SRAM table.
    """
    sram = sram_points(machine, technology)
    dram = technology.memory(machine.hbm.standard)
    hbm_bytes = activity.hbm_read_bytes + activity.hbm_write_bytes
    dynamic_pj = {
        "cube": _cube_pj(activity, technology),
        "vector": _vector_pj(activity, technology),
        "scratchpad": _sram_pj(
            sram["scratchpad"], activity.scratchpad_read_bytes, activity.scratchpad_write_bytes
        ),
        "operand_buffer": _sram_pj(
            sram["operand_buffer"],
            activity.operand_buffer_read_bytes,
            activity.operand_buffer_write_bytes,
        ),
        "accumulator": _sram_pj(
            sram["accumulator"], activity.accumulator_read_bytes, activity.accumulator_write_bytes
        ),
        "hbm": hbm_bytes * dram.energy.value,
    }
    joules = {component: energy_pj * PICO for component, energy_pj in dynamic_pj.items()}
    return joules | {"static": static_power_w(machine, technology) * activity.seconds}


def static_power_w(machine: MachineSpec, technology: TechnologySpec) -> float:
    """Return the power of the idle machine, in watts: leakage, and memory channels on standby."""
    sram_w = sum(point.leakage for point in sram_points(machine, technology).values())
    arithmetic_mm2 = cube_area_mm2(machine, technology) + vector_area_mm2(machine, technology)
    core_w = sram_w + arithmetic_mm2 * technology.logic_static_power_per_mm2.value
    channel_w = technology.memory(machine.hbm.standard).channel_static_power.value
    return machine.cores * core_w + machine.hbm.channels * channel_w


def _cube_pj(activity: Activity, technology: TechnologySpec) -> float:
    energy_pj = 0.0
    for operand, macs in activity.macs.items():
        cost = technology.mac(operand)
        energy_pj += macs * (cost.multiply.value + cost.accumulate.value)
    return energy_pj


def _vector_pj(activity: Activity, technology: TechnologySpec) -> float:
    energy_pj = 0.0
    for (op, number_format), elements in activity.vector_elements.items():
        energy_pj += elements * getattr(technology.vector_lane(number_format), op).value
    return energy_pj


def _sram_pj(point: SramPoint, read_bytes: int, write_bytes: int) -> float:
    return read_bytes * point.read + write_bytes * point.write
