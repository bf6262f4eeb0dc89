"""A schedule to the report of a run: what was measured, and what it is of."""

from accelsim.accounts.area import area_by_component_mm2
from accelsim.accounts.power import Capped
from accelsim.engine.schedule import Accounted, Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.program.ops import UNIT_NAMES, Unit
from accelsim.report.about import About
from accelsim.report.counting import hbm_utilization, measured_of
from accelsim.report.peaks import Peaks
from accelsim.report.report import Report
from accelsim.report.timeline import Timeline
from accelsim.report.timeline_builder import build_timeline
from accelsim.version import VERSION

_BOUND_FROM = 0.5
"""A resource bounds a run when it is busy for at least this share of it; else latency does."""


def build_report(
    run: Capped,
    technology: TechnologySpec,
    about: About,
    *,
    one_program: bool = False,
    with_timeline: bool,
) -> Report:
    """Return the report of a schedule, its accuracy not judged.

    one_program: whether it is of the programs of a layer, or of steps, that were joined.
    """
    schedule, machine, power_cap = run
    return Report(
        **vars(about),
        **vars(measured_of(schedule, machine, technology)),
        **vars(_peaks(schedule)),
        version=VERSION,
        machine=machine.name,
        cores=machine.cores,
        power_cap=power_cap,
        bound_by=_bound_by(schedule, machine),
        peak_hbm_bytes_per_s=machine.hbm.bandwidth,
        area_mm2=sum(area_by_component_mm2(machine, technology).values()),
        statistics=dict(schedule.program.statistics),
        accuracy=None,
        one_program=one_program,
        timeline=_timeline(run, about) if with_timeline else None,
    )


def _timeline(run: Capped, about: About) -> Timeline:
    shown = {
        "version": VERSION,
        "machine": run.machine.name,
        "workload": about.workload,
        "kernel": about.kernel,
        "settings": about.settings,
        "parameters": about.parameters,
    }
    if not isinstance(run.schedule, Schedule):
        raise TypeError(f"{run.schedule.program.name}: a timeline needs the times of all ops")
    return build_timeline(run.schedule, run.machine, shown)


def _peaks(schedule: Accounted) -> Peaks:
    return Peaks(
        scratchpad_peak_bytes=schedule.program.memory_bytes("scratchpad"),
        scratchpad_held_peak_bytes=schedule.scratchpad_held_peak_bytes,
        accumulator_peak_bytes=schedule.program.memory_bytes("accumulator"),
    )


def _bound_by(schedule: Accounted, machine: MachineSpec) -> str:
    """Return the resource that is busiest, on the core where it is busiest."""
    cycles = schedule.cycles
    shares = {"hbm": hbm_utilization(schedule, machine)}
    if machine.l2:
        traffic = schedule.traffic
        moved = traffic.l2_read_bytes + traffic.l2_write_bytes
        shares["l2"] = moved / (machine.l2.bandwidth / machine.clock * cycles)
    busiest = schedule.busy_by_core.max(axis=0) / cycles
    for unit in Unit:
        if unit < Unit.LOAD:
            shares[UNIT_NAMES[unit]] = float(busiest[unit])
    for queue, unit in ((machine.load, Unit.LOAD), (machine.store, Unit.STORE)):
        moved_bytes = int(schedule.hbm_bytes_by_core[:, unit].max())
        shares[UNIT_NAMES[unit]] = moved_bytes / queue.bandwidth / cycles
    bound = max(shares, key=lambda name: shares[name])
    return bound if shares[bound] >= _BOUND_FROM else "latency"
