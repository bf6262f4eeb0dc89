"""Schedule, activity and energy to what was measured in a run."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from accelsim.accounts.activity import count_activity
from accelsim.accounts.energy import energy_by_component
from accelsim.engine.sampling.schedule import SampledSchedule
from accelsim.engine.schedule import STALL_CAUSES, Accounted, Cycles
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.program.activity import DramCommands, MemoryTraffic
from accelsim.program.ops import UNIT_NAMES, Unit
from accelsim.program.program import Declared
from accelsim.report.exact import quotient
from accelsim.report.matrix_peak import peak_macs_per_s
from accelsim.report.measured import Measured


def measured_of(schedule: Accounted, machine: MachineSpec, technology: TechnologySpec) -> Measured:
    """Return the amounts of one run on a machine with the clock that was run."""
    found = _measured(schedule, machine, technology)
    if not isinstance(schedule, SampledSchedule):
        return found
    most = _measured(schedule.at_most, machine, technology)
    sampled = {
        "left_out_ops": Fraction(schedule.num_ops - schedule.scheduled_ops),
        "seconds": most.seconds - found.seconds,
    }
    if schedule.hbm_bytes_margin is None:
        sampled["unseen_traffic"] = Fraction(1)
    else:
        more_j = sum(most.joules.values(), Fraction()) - sum(found.joules.values(), Fraction())
        sampled |= {"joules": more_j, "hbm_bytes": Fraction(schedule.hbm_bytes_margin)}
    return replace(found, sampled=sampled)


def _measured(schedule: Accounted, machine: MachineSpec, technology: TechnologySpec) -> Measured:
    program, activity = schedule.program, count_activity(schedule, machine)
    joules = energy_by_component(activity, machine, technology)
    seconds = quotient(schedule.cycles, machine.clock)
    macs = sum(activity.macs.values()) + sum(activity.int_macs.values())
    peak = peak_macs_per_s(activity, machine)
    means = _means(schedule, machine) | ({} if macs else {"peak_macs_per_s": peak})
    return Measured(
        ops=schedule.num_ops,
        cycles=schedule.cycles,
        hbm_read_bytes=activity.hbm_read_bytes,
        hbm_write_bytes=activity.hbm_write_bytes,
        compulsory_bytes=sum(
            tensor.needed_bytes for tensor in program.tensors if tensor.role != "intermediate"
        ),
        hbm_bytes_by_tensor=_by_tensor(program, activity.hbm_bytes_by_tensor),
        requested_bytes_by_tensor=(
            _by_tensor(program, schedule.requested.bytes_by_tensor) if machine.l2 else {}
        ),
        macs=macs,
        seconds=seconds,
        joules={name: Fraction(energy_j) for name, energy_j in joules.items()},
        core_cycles=schedule.cycles * machine.cores,
        busy_cycles=_by_name(UNIT_NAMES, schedule.busy_by_core.sum(axis=0)),
        stall_cycles=_stall_cycles(schedule),
        l2_bytes=_l2_bytes(activity) if machine.l2 else {},
        dram_commands=_dram_commands(activity.dram) if activity.dram else {},
        matrix_seconds=quotient(macs, peak) if macs else Fraction(),
        over_time={name: Fraction(share) * seconds for name, share in means.items()},
    )


def hbm_utilization(schedule: Accounted, machine: MachineSpec) -> float:
    """Return the share of the HBM's peak bandwidth that a run used.

    A run is at least as long as the first quotient, so the second is at most 1, rounding and all.
    """
    traffic = schedule.traffic
    moved_bytes = traffic.hbm_read_bytes + traffic.hbm_write_bytes
    return moved_bytes / machine.hbm_bytes_per_cycle / schedule.cycles


def _means(schedule: Accounted, machine: MachineSpec) -> dict[str, float]:
    """Return the shares that are means over the time."""
    shares = {
        "hbm_utilization": hbm_utilization(schedule, machine),
        "core_balance": _core_balance(schedule),
    }
    hbm = machine.hbm
    if not isinstance(hbm, BankedHbmSpec):
        return shares
    timing = hbm.dram.timing
    one_refresh = timing.t_rfc if hbm.refresh == "all_bank" else timing.t_rfc_bank
    return shares | {"refresh_share": one_refresh / timing.t_refi}


def _core_balance(schedule: Accounted) -> float:
    """Return the mean over the largest work of a core, on the compute unit with most work."""
    compute = schedule.busy_by_core[:, : Unit.LOAD]
    work = compute[:, compute.sum(axis=0).argmax()]
    return float(work.mean() / work.max()) if work.any() else 1.0


def _stall_cycles(schedule: Accounted) -> dict[str, dict[str, int]]:
    """Return the cycles by unit and cause, without causes of no stall."""
    by_unit = zip(UNIT_NAMES, schedule.stalls, strict=True)
    stalls = {unit: _by_name(STALL_CAUSES, cycles) for unit, cycles in by_unit}
    return {unit: {cause: n for cause, n in each.items() if n} for unit, each in stalls.items()}


def _l2_bytes(traffic: MemoryTraffic) -> dict[str, int]:
    return {
        "read": traffic.l2_read_bytes,
        "write": traffic.l2_write_bytes,
        "hit": traffic.l2_hit_bytes,
    }


def _dram_commands(commands: DramCommands) -> dict[str, int]:
    return {
        "activations": commands.activations,
        "bursts": commands.read_bursts + commands.write_bursts,
        "row_hits": commands.row_hits,
    }


def _by_tensor(program: Declared, num_bytes: Sequence[int]) -> dict[str, int]:
    return {tensor.name: n for tensor, n in zip(program.tensors, num_bytes, strict=True)}


def _by_name(names: Sequence[str], amounts: Cycles) -> dict[str, int]:
    return {name: int(amount) for name, amount in zip(names, amounts, strict=True)}
