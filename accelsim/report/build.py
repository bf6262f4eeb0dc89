"""Schedule, activity and energy to the report of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from accelsim.energy.area import area_by_component_mm2
from accelsim.energy.model import energy_by_component
from accelsim.engine.activity import count_activity
from accelsim.engine.occupancy import scratchpad_held_peak_bytes
from accelsim.engine.schedule import STALL_CAUSES, Schedule
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.numerics.metrics import Accuracy
from accelsim.program.activity import MemoryTraffic
from accelsim.program.ops import UNIT_NAMES, Unit
from accelsim.program.program import Program
from accelsim.report.dram import dram_report
from accelsim.report.peak import peak_macs_per_s
from accelsim.report.report import PowerCap, Report, UnitReport
from accelsim.report.timeline_builder import build_timeline
from accelsim.version import VERSION
from accelsim.workload.problem import Problem

_BOUND_FROM = 0.5
"""A resource bounds a run when it is busy for at least this share of it; else latency does."""


def build_report(
    *,
    schedule: Schedule,
    machine: MachineSpec,
    technology: TechnologySpec,
    problem: Problem,
    kernel: str,
    recipe: str,
    library: str,
    is_exact: bool,
    selection_assumed: bool,
    engine: str,
    settings: Mapping[str, Any],
    parameters: Mapping[str, Any],
    power_cap: PowerCap,
    accuracy: Accuracy | None,
    with_timeline: bool,
) -> Report:
    """Return the report of one kernel on one problem."""
    program, cycles = schedule.program, schedule.cycles
    about = {
        "version": VERSION,
        "machine": machine.name,
        "workload": problem.name,
        "kernel": kernel,
        "settings": dict(settings),
        "parameters": dict(parameters),
    }
    activity = count_activity(schedule, machine)
    energy = energy_by_component(activity, machine, technology)
    macs = sum(activity.macs.values()) + sum(activity.int_macs.values())
    moved_bytes = activity.hbm_read_bytes + activity.hbm_write_bytes
    # A run is at least as long as the first quotient, so the second is at most 1, rounding and all.
    hbm_utilization = moved_bytes / machine.hbm_bytes_per_cycle / cycles
    return Report(
        machine=machine.name,
        workload=problem.name,
        kernel=kernel,
        recipe=recipe,
        library=library,
        version=VERSION,
        seed=getattr(problem.tensors, "seed", None),
        engine=engine,
        settings=dict(settings),
        parameters=dict(parameters),
        cores=machine.cores,
        ops=program.num_ops,
        cycles=cycles,
        time_s=activity.seconds,
        clock_hz=machine.clock,
        power_cap=power_cap,
        bound_by=_bound_by(schedule, machine, hbm_utilization),
        hbm_read_bytes=activity.hbm_read_bytes,
        hbm_write_bytes=activity.hbm_write_bytes,
        compulsory_bytes=sum(
            tensor.size_bytes for tensor in program.tensors if tensor.role != "intermediate"
        ),
        hbm_bytes_by_tensor=_by_tensor(program, activity.hbm_bytes_by_tensor),
        requested_bytes_by_tensor=(
            _by_tensor(program, program.bytes_by_tensor) if machine.l2 else {}
        ),
        l2=_l2(activity) if machine.l2 else {},
        macs=macs,
        peak_macs_per_s=peak_macs_per_s(activity, machine),
        peak_hbm_bytes_per_s=machine.hbm.bandwidth,
        hbm_utilization=hbm_utilization,
        units=_units(schedule, cycles * machine.cores),
        core_balance=_core_balance(schedule),
        scratchpad_peak_bytes=program.memory_bytes("scratchpad"),
        scratchpad_held_peak_bytes=scratchpad_held_peak_bytes(schedule),
        accumulator_peak_bytes=program.memory_bytes("accumulator"),
        energy_j=sum(energy.values()),
        energy_by_component_j=energy,
        area_mm2=sum(area_by_component_mm2(machine, technology).values()),
        is_exact=is_exact,
        selection=dict(program.selection),
        selection_assumed=selection_assumed,
        accuracy=accuracy,
        dram=dram_report(activity, machine, energy),
        timeline=build_timeline(schedule, machine, about) if with_timeline else None,
    )


def _units(schedule: Schedule, core_cycles: int) -> dict[str, UnitReport]:
    busy = schedule.busy_by_core.sum(axis=0)
    return {
        name: UnitReport(
            busy_cycles=int(busy[unit]),
            utilization=float(busy[unit] / core_cycles),
            stall_cycles={
                cause: int(schedule.stalls[unit, index])
                for index, cause in enumerate(STALL_CAUSES)
                if schedule.stalls[unit, index]
            },
        )
        for unit, name in enumerate(UNIT_NAMES)
    }


def _core_balance(schedule: Schedule) -> float:
    """Return the mean over the largest work of a core, on the compute unit with most work."""
    compute = schedule.busy_by_core[:, : Unit.LOAD]
    work = compute[:, compute.sum(axis=0).argmax()]
    return float(work.mean() / work.max()) if work.any() else 1.0


def _l2(traffic: MemoryTraffic) -> dict[str, float]:
    read_bytes = traffic.l2_read_bytes
    return {
        "read_bytes": read_bytes,
        "write_bytes": traffic.l2_write_bytes,
        "hit_fraction": traffic.l2_hit_bytes / read_bytes if read_bytes else 0.0,
    }


def _by_tensor(program: Program, num_bytes: Sequence[int]) -> dict[str, int]:
    return {tensor.name: n for tensor, n in zip(program.tensors, num_bytes, strict=True)}


def _bound_by(schedule: Schedule, machine: MachineSpec, hbm_utilization: float) -> str:
    """Return the resource that is busiest, on the core where it is busiest."""
    cycles = schedule.cycles
    shares = {"hbm": hbm_utilization}
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
