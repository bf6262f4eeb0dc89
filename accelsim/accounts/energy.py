"""Action counts times cost per action: joules by component."""

from collections.abc import Mapping
from typing import NamedTuple

from accelsim.accounts.area import arithmetic_area_mm2, l2_slice, sram_points
from accelsim.accounts.interface import interface_channels
from accelsim.hardware.hbm import BankedHbmSpec, HbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import SramPoint, TechnologySpec
from accelsim.hardware.units.base import ArithmeticSpec
from accelsim.program.activity import Activity, MemoryTraffic
from accelsim.runtime.kept import once_for_each
from accelsim.units import PICO

_COMMANDS = ("hbm", "hbm_activation", "hbm_refresh")
"""Components of the commands of a banked memory."""


class Drawn(NamedTuple):
    """What one run drew, or many together."""

    joules: Mapping[str, float]
    """By component."""
    hbm_bytes: int
    """Read and written."""
    seconds: float
    clocked_share: float = 1.0
    """Share of the time that grows as the clock falls, or more; the memory has the rest."""


def energy_by_component(
    activity: Activity, machine: MachineSpec, technology: TechnologySpec
) -> dict[str, float]:
    """Return the joules of a run by component; their sum is the energy of the run.

    The energy per byte of an SRAM follows from its capacity in `machine`; both operand buffers
    count as one memory. `static` is what the machine draws without doing anything, for the time of
    the run. All else follows the clock where the machine says how, but for what the memory devices
    draw, whose clock is their own. Raises UnknownNameError for a format or memory standard without
    costs, ConfigError for a capacity outside the SRAM table.
    """
    sram = sram_points(machine, technology)
    dynamic_pj = {
        model.key: spec.energy_pj(activity, technology)
        for model, spec in machine.units.items()
        if isinstance(spec, ArithmeticSpec)
    }
    for memory, point in sram.items():
        read_bytes = getattr(activity, f"{memory}_read_bytes")
        # An order of channels is written by loads, which count as bytes of the scratchpad.
        written_bytes = getattr(activity, f"{memory}_write_bytes", 0)
        dynamic_pj[memory] = _sram_pj(point, read_bytes, written_bytes)
    if machine.l2:
        dynamic_pj["l2"] = _l2_pj(l2_slice(machine.l2, technology), activity)
    if technology.network:
        dynamic_pj["network"] = technology.network.energy.value * _network_bytes(activity, machine)
    follows_clock = machine.dynamic_energy_factor
    pico = PICO * follows_clock
    joules = {name: energy_pj * pico for name, energy_pj in dynamic_pj.items()}
    hbm_pj = _hbm_pj(activity, machine.hbm, technology, follows_clock)
    joules |= {name: energy_pj * PICO for name, energy_pj in hbm_pj.items()}
    return joules | {"static": static_power_w(machine, technology) * activity.seconds}


@once_for_each
def static_power_w(machine: MachineSpec, technology: TechnologySpec) -> float:
    """Return the power of the idle machine, in watts: leakage, and memory channels on standby."""
    sram_w = sum(point.leakage for point in sram_points(machine, technology).values())
    arithmetic_mm2 = sum(arithmetic_area_mm2(machine, technology).values())
    core_w = sram_w + arithmetic_mm2 * technology.logic_static_power_per_mm2.value
    l2_w = machine.l2.slices * l2_slice(machine.l2, technology).leakage if machine.l2 else 0.0
    return machine.cores * core_w + l2_w + memory_idle_power_w(machine, technology)


def memory_idle_power_w(machine: MachineSpec, technology: TechnologySpec) -> float:
    """Return the part of the static power that memory channels on standby draw, in watts."""
    hbm = machine.hbm
    if isinstance(hbm, BankedHbmSpec):
        return hbm.channels * hbm.dram.energy.standby
    channel_w = technology.memory(hbm.standard).channel_static_power.value
    return interface_channels(hbm, technology) * channel_w


def memory_device_energy_j(drawn: Drawn, machine: MachineSpec, technology: TechnologySpec) -> float:
    """Return the joules of runs in the memory devices, a part of those of all components.

    Of a flat memory that is what the technology says of a byte, of a banked one all its commands;
    both with the power of idle channels.
    """
    idle_j = memory_idle_power_w(machine, technology) * drawn.seconds
    if isinstance(machine.hbm, BankedHbmSpec):
        return idle_j + sum(drawn.joules.get(name, 0.0) for name in _COMMANDS)
    cost = technology.memory(machine.hbm.standard).device_energy
    return idle_j + (drawn.hbm_bytes * cost.value * PICO if cost else 0.0)


def _network_bytes(traffic: MemoryTraffic, machine: MachineSpec) -> int:
    """Return the bytes between the cores and what they share: the L2, or the memory itself."""
    if machine.l2:
        return traffic.l2_read_bytes + traffic.l2_write_bytes
    return traffic.hbm_read_bytes + traffic.hbm_write_bytes


def _hbm_pj(
    activity: Activity, hbm: HbmSpec, technology: TechnologySpec, follows_clock: float
) -> dict[str, float]:
    """Energy of streams by their bytes, or of a banked memory by its commands.

    What a technology counts of a byte beside the devices is the way on the die, of any memory.
    follows_clock: factor of what has the clock of the die; that of the devices is their own.
    """
    cost = technology.memory(hbm.technology_key)
    hbm_bytes = activity.hbm_read_bytes + activity.hbm_write_bytes
    device_pj = cost.device_energy.value if cost.device_energy else 0.0
    on_die_pj = hbm_bytes * (cost.energy.value - device_pj) * follows_clock
    if activity.dram is None or not isinstance(hbm, BankedHbmSpec):
        return {"hbm": hbm_bytes * device_pj + on_die_pj}
    commands = _device_pj(activity, hbm)
    return commands | {"hbm_interface": on_die_pj} if cost.device_energy else commands


def _device_pj(activity: Activity, hbm: BankedHbmSpec) -> dict[str, float]:
    """Energy of the commands of a banked memory, by kind; none in a run without the memory."""
    commands, cost, burst_bytes = activity.dram, hbm.dram.energy, hbm.dram.shape.burst
    if commands is None:
        return {}
    per_burst = commands.read_bursts * cost.read + commands.write_bursts * cost.write
    return {
        "hbm": burst_bytes * per_burst,
        "hbm_activation": commands.activations * cost.activate,
        "hbm_refresh": commands.refreshes * cost.refresh,
    }


def _l2_pj(point: SramPoint, traffic: MemoryTraffic) -> float:
    """Return the energy of the slices: what is fetched is written, what is written back is read."""
    read_bytes = traffic.l2_read_bytes + traffic.hbm_write_bytes
    return _sram_pj(point, read_bytes, traffic.l2_write_bytes + traffic.hbm_read_bytes)


def _sram_pj(point: SramPoint, read_bytes: int, write_bytes: int) -> float:
    return read_bytes * point.read + write_bytes * point.write
