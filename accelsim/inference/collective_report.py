"""The report of a collective on one device, beside those of what the device computes."""

from fractions import Fraction

from accelsim.accounts.energy import static_power_w
from accelsim.collectives.cost import collective_cost
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.system import SystemSpec
from accelsim.loading import load_technology
from accelsim.report.report import Report
from accelsim.units import PICO
from accelsim.version import VERSION
from accelsim.workload.collective import Collective

BOUND = "links"
"""What bounds a collective."""


def collective_report(
    collective: Collective, system: SystemSpec, machine: MachineSpec, clock: float
) -> Report:
    """Return what a collective costs one device at a clock; the clock does not change its time.

    Before it are its launch and the time in which devices wait for each other. The links take their
    joules, half of them at either end. The memory moves what is sent, received and added up; cores
    that wait draw the static power (docs/assumptions.md). Raises WorkloadError for a collective
    that the links cannot do.
    """
    cost, machine = collective_cost(collective, system), machine.model_copy(update={"clock": clock})
    technology = load_technology(machine.technology)
    meetings = (each.meeting.value for each in system.links.values() if each.meeting)
    before_s = machine.launch + max(meetings, default=0.0)
    time_s = cost.time_s + before_s if collective.devices > 1 else 0.0
    moved_bytes = cost.read_bytes + cost.written_bytes
    byte_j = technology.memory(machine.hbm.technology_key).energy.value * PICO
    joules = {
        "hbm": moved_bytes * byte_j * machine.dynamic_energy_factor,
        "static": static_power_w(machine, technology) * time_s,
        BOUND: cost.energy_j / collective.devices,
    }
    cycles = round(time_s * clock)
    return Report(
        cycles=cycles,
        core_cycles=cycles * machine.cores,
        hbm_read_bytes=cost.read_bytes,
        hbm_write_bytes=cost.written_bytes,
        seconds=Fraction(time_s),
        joules={name: Fraction(value) for name, value in joules.items()},
        machine=machine.name,
        workload=collective.name,
        kernel=cost.algorithm,
        recipe=cost.recipe,
        library="",
        version=VERSION,
        seed=None,
        engine="links",
        settings={},
        parameters={},
        cores=machine.cores,
        power_cap="none",
        bound_by=BOUND,
        peak_hbm_bytes_per_s=machine.hbm.bandwidth,
        area_mm2=0.0,
        is_exact=True,
        statistics={},
        selection_assumed=False,
        accuracy=None,
    )
