"""A schedule to the report of a run: what was measured, and what it is of."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from accelsim.accounts.area import area_by_component_mm2
from accelsim.engine.schedule import Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.program.ops import UNIT_NAMES, Unit
from accelsim.report.counting import hbm_utilization, measured_of
from accelsim.report.peaks import Peaks
from accelsim.report.report import PowerCap, Report
from accelsim.report.timeline_builder import build_timeline
from accelsim.version import VERSION
from accelsim.workload.problem import Problem

_BOUND_FROM = 0.5
"""A resource bounds a run when it is busy for at least this share of it; else latency does."""
_ABOUT = ("version", "machine", "workload", "kernel", "settings", "parameters")
"""Fields of a report that a timeline tells of its run."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a run is called: fields of its report that nobody counted."""

    kernel: str
    recipe: str
    library: str
    is_exact: bool
    selection_assumed: bool
    engine: str
    settings: Mapping[str, Any]
    parameters: Mapping[str, Any]
    power_cap: PowerCap


def build_report(
    schedule: Schedule,
    machine: MachineSpec,
    technology: TechnologySpec,
    problem: Problem,
    about: About,
    *,
    with_timeline: bool,
) -> Report:
    """Return the report of one kernel on one problem, its accuracy not judged."""
    shown: dict[str, Any] = {
        "version": VERSION,
        "machine": machine.name,
        "workload": problem.name,
        "kernel": about.kernel,
        "settings": about.settings,
        "parameters": about.parameters,
    }
    return Report(
        **{**vars(about), **shown},
        **vars(measured_of(schedule, machine, technology)),
        **vars(_peaks(schedule)),
        seed=getattr(problem.tensors, "seed", None),
        cores=machine.cores,
        bound_by=_bound_by(schedule, machine),
        peak_hbm_bytes_per_s=machine.hbm.bandwidth,
        area_mm2=sum(area_by_component_mm2(machine, technology).values()),
        statistics=dict(schedule.program.statistics),
        accuracy=None,
        timeline=build_timeline(schedule, machine, shown) if with_timeline else None,
    )


def report_as_one(
    total: Report,
    schedule: Schedule,
    machine: MachineSpec,
    technology: TechnologySpec,
    power_cap: PowerCap,
    with_timeline: bool,
) -> Report:
    """Return the report of a layer as one program; total: that of its parts one after the other."""
    measured = replace(
        measured_of(schedule, machine, technology), inputs_out_of_range=total.inputs_out_of_range
    )
    about = {name: getattr(total, name) for name in _ABOUT}
    return replace(
        total,
        **vars(measured),
        **vars(_peaks(schedule)),
        one_program=True,
        power_cap=power_cap,
        bound_by=_bound_by(schedule, machine),
        timeline=build_timeline(schedule, machine, about) if with_timeline else None,
    )


def _peaks(schedule: Schedule) -> Peaks:
    return Peaks(
        scratchpad_peak_bytes=schedule.program.memory_bytes("scratchpad"),
        scratchpad_held_peak_bytes=schedule.scratchpad_held_peak_bytes,
        accumulator_peak_bytes=schedule.program.memory_bytes("accumulator"),
    )


def _bound_by(schedule: Schedule, machine: MachineSpec) -> str:
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
