"""Action counts times cost per action: joules by component."""

from accelsim.energy.area import arithmetic_area_mm2, sram_points
from accelsim.hardware.machine import IntMacSpec, MachineSpec
from accelsim.hardware.technology import SramPoint, TechnologySpec
from accelsim.program.activity import Activity
from accelsim.units import PICO


def energy_by_component(
    activity: Activity, machine: MachineSpec, technology: TechnologySpec
) -> dict[str, float]:
    """Return the joules of a run by component; their sum is the energy of the run.

    The energy per byte of an SRAM follows from its capacity in `machine`; both operand buffers
    count as one memory. `static` is what the machine draws without doing anything, for the time of
    the run; all else follows the clock where the machine says how. Raises UnknownNameError for a
    format or memory standard without costs, ConfigError for a capacity outside the SRAM table.
    """
    sram = sram_points(machine, technology)
    dram = technology.memory(machine.hbm.standard)
    hbm_bytes = activity.hbm_read_bytes + activity.hbm_write_bytes
    dynamic_pj = _arithmetic_pj(activity, machine, technology)
    dynamic_pj["scratchpad"] = _sram_pj(
        sram["scratchpad"], activity.scratchpad_read_bytes, activity.scratchpad_write_bytes
    )
    if "operand_buffer" in sram:
        dynamic_pj["operand_buffer"] = _sram_pj(
            sram["operand_buffer"],
            activity.operand_buffer_read_bytes,
            activity.operand_buffer_write_bytes,
        )
    if "index_buffer" in sram:
        dynamic_pj["index_buffer"] = _sram_pj(
            sram["index_buffer"], activity.index_buffer_read_bytes, 0
        )
    dynamic_pj["accumulator"] = _sram_pj(
        sram["accumulator"], activity.accumulator_read_bytes, activity.accumulator_write_bytes
    )
    dynamic_pj["hbm"] = hbm_bytes * dram.energy.value
    pico = PICO * machine.dynamic_energy_factor
    joules = {component: energy_pj * pico for component, energy_pj in dynamic_pj.items()}
    return joules | {"static": static_power_w(machine, technology) * activity.seconds}


def static_power_w(machine: MachineSpec, technology: TechnologySpec) -> float:
    """Return the power of the idle machine, in watts: leakage, and memory channels on standby."""
    sram_w = sum(point.leakage for point in sram_points(machine, technology).values())
    arithmetic_mm2 = sum(arithmetic_area_mm2(machine, technology).values())
    core_w = sram_w + arithmetic_mm2 * technology.logic_static_power_per_mm2.value
    channel_w = technology.memory(machine.hbm.standard).channel_static_power.value
    return machine.cores * core_w + machine.hbm.channels * channel_w


def _arithmetic_pj(
    activity: Activity, machine: MachineSpec, technology: TechnologySpec
) -> dict[str, float]:
    energy_pj = {"cube": _cube_pj(activity, technology)} if machine.cube else {}
    if machine.int_mac:
        energy_pj["int_mac"] = _int_mac_pj(activity, machine.int_mac, technology)
    return energy_pj | {"vector": _vector_pj(activity, technology)}


def _int_mac_pj(activity: Activity, int_mac: IntMacSpec, technology: TechnologySpec) -> float:
    cost = technology.processing_element()
    energy_pj = activity.accumulator_shifts * cost.shift.value
    for (left, right), macs in activity.int_macs.items():
        products = int_mac.block(left.bits) * int_mac.block(right.bits)
        # Partial products of wider operands meet in adders of half the width.
        additions = 1 + (products - 1) / 2
        energy_pj += macs * (products * cost.multiply.value + additions * cost.accumulate.value)
    return energy_pj


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
