"""Schedule, activity and energy to a report."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

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
from accelsim.report.dram import combined_dram, dram_report
from accelsim.report.peak import peak_macs_per_s
from accelsim.report.report import Report, UnitReport
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
    engine: str,
    settings: Mapping[str, Any],
    accuracy: Accuracy | None,
    with_timeline: bool,
) -> Report:
    """Return the report of one kernel on one problem."""
    program, cycles = schedule.program, schedule.cycles
    activity = count_activity(schedule, machine)
    energy = energy_by_component(activity, machine, technology)
    macs = sum(activity.macs.values()) + sum(activity.int_macs.values())
    moved_bytes = activity.hbm_read_bytes + activity.hbm_write_bytes
    hbm_utilization = moved_bytes / (machine.hbm_bytes_per_cycle * cycles)
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
        cores=machine.cores,
        ops=program.num_ops,
        cycles=cycles,
        time_s=activity.seconds,
        clock_hz=machine.clock,
        bound_by=_bound_by(schedule, machine, hbm_utilization),
        hbm_read_bytes=activity.hbm_read_bytes,
        hbm_write_bytes=activity.hbm_write_bytes,
        compulsory_bytes=sum(
            tensor.size_bytes for tensor in program.tensors if tensor.role != "intermediate"
        ),
        hbm_bytes_by_tensor=_bytes_by_tensor(schedule),
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
        accuracy=accuracy,
        dram=dram_report(activity, machine, energy),
        timeline=build_timeline(schedule, machine.clock) if with_timeline else None,
    )


def combine_reports(
    parts: Sequence[Report],
    counts: Sequence[int],
    machine: MachineSpec,
    workload: str,
    settings: Mapping[str, Any],
) -> Report:
    """Return the report of a layer whose part i runs counts[i] times, one after the other."""
    pairs = list(zip(parts, counts, strict=True))

    def total(name: str) -> Any:
        return sum(count * getattr(part, name) for part, count in pairs)

    cycles, macs = total("cycles"), total("macs")
    moved_bytes = total("hbm_read_bytes") + total("hbm_write_bytes")
    longest = max(pairs, key=lambda pair: pair[0].cycles * pair[1])[0]
    compute_s = sum(count * part.macs / part.peak_macs_per_s for part, count in pairs)
    first = parts[0]
    return Report(
        machine=first.machine,
        workload=workload,
        kernel=_joined(part.kernel for part in parts),
        recipe=_joined(part.recipe for part in parts),
        library=_joined(part.library for part in parts),
        version=VERSION,
        seed=None,
        engine=first.engine,
        settings=dict(settings),
        cores=first.cores,
        ops=total("ops"),
        cycles=cycles,
        time_s=total("time_s"),
        clock_hz=cycles / total("time_s"),
        bound_by=longest.bound_by,
        hbm_read_bytes=total("hbm_read_bytes"),
        hbm_write_bytes=total("hbm_write_bytes"),
        compulsory_bytes=total("compulsory_bytes"),
        l2=_combined_l2(pairs),
        hbm_bytes_by_tensor=_summed([(part.hbm_bytes_by_tensor, n) for part, n in pairs]),
        macs=macs,
        peak_macs_per_s=macs / compute_s if macs else first.peak_macs_per_s,
        peak_hbm_bytes_per_s=first.peak_hbm_bytes_per_s,
        hbm_utilization=moved_bytes / (machine.hbm_bytes_per_cycle * cycles),
        units={name: _combined_unit(name, pairs, cycles * first.cores) for name in first.units},
        core_balance=sum(n * part.cycles * part.core_balance for part, n in pairs) / cycles,
        scratchpad_peak_bytes=max(part.scratchpad_peak_bytes for part in parts),
        scratchpad_held_peak_bytes=max(part.scratchpad_held_peak_bytes for part in parts),
        accumulator_peak_bytes=max(part.accumulator_peak_bytes for part in parts),
        energy_j=total("energy_j"),
        energy_by_component_j=_summed([(part.energy_by_component_j, n) for part, n in pairs]),
        area_mm2=first.area_mm2,
        is_exact=all(part.is_exact for part in parts),
        selection={},
        accuracy=None,
        dram=combined_dram(pairs),
        parts=tuple(parts),
    )


def _joined(names: Iterable[str]) -> str:
    """Return the distinct names of the parts."""
    return ", ".join(dict.fromkeys(filter(None, names)))


def _summed(weighted: Sequence[tuple[Mapping[str, Any], int]]) -> dict[str, Any]:
    sums: dict[str, Any] = {}
    for mapping, count in weighted:
        for name, value in mapping.items():
            sums[name] = sums.get(name, 0) + count * value
    return sums


def _combined_unit(name: str, pairs: Sequence[tuple[Report, int]], core_cycles: int) -> UnitReport:
    busy = sum(count * part.units[name].busy_cycles for part, count in pairs)
    return UnitReport(
        busy_cycles=busy,
        utilization=busy / core_cycles,
        stall_cycles=_summed([(part.units[name].stall_cycles, n) for part, n in pairs]),
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


def _combined_l2(pairs: Sequence[tuple[Report, int]]) -> dict[str, float]:
    if not pairs[0][0].l2:
        return {}
    read_bytes = sum(count * part.l2["read_bytes"] for part, count in pairs)
    hits = sum(count * part.l2["hit_fraction"] * part.l2["read_bytes"] for part, count in pairs)
    return {
        "read_bytes": read_bytes,
        "write_bytes": sum(count * part.l2["write_bytes"] for part, count in pairs),
        "hit_fraction": hits / read_bytes if read_bytes else 0.0,
    }


def _bytes_by_tensor(schedule: Schedule) -> dict[str, int]:
    program = schedule.program
    moved = np.zeros(len(program.tensors), np.int64)
    np.add.at(moved, program.tensor_indices, program.hbm_bytes)
    return {tensor.name: int(moved[i]) for i, tensor in enumerate(program.tensors)}


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
