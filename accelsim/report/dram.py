"""Commands of a banked memory to what the report says about it."""

from collections.abc import Mapping, Sequence

from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.activity import Activity
from accelsim.report.report import DramReport, Report
from accelsim.units import BITS_PER_BYTE, PICO


def dram_report(
    activity: Activity, machine: MachineSpec, energy_j: Mapping[str, float]
) -> DramReport | None:
    """Return what a banked memory did; None where the memory is flat. energy_j: by component."""
    commands, hbm = activity.dram, machine.hbm
    if commands is None or not isinstance(hbm, BankedHbmSpec):
        return None
    timing = hbm.dram.timing
    bursts = commands.read_bursts + commands.write_bursts
    one_refresh = timing.t_rfc if hbm.refresh == "all_bank" else timing.t_rfc_bank
    bits = BITS_PER_BYTE * (activity.hbm_read_bytes + activity.hbm_write_bytes)
    return DramReport(
        activations=commands.activations,
        row_hit_share=commands.row_hits / bursts if bursts else 0.0,
        refresh_share=one_refresh / timing.t_refi,
        energy_pj_per_bit=_hbm_j(energy_j) / PICO / bits if bits else 0.0,
    )


def combined_dram(parts: Sequence[tuple[Report, int]]) -> DramReport | None:
    """Return what a banked memory did in a layer whose parts run that many times each."""
    all_bytes = max(1, sum(count * _moved_bytes(part) for part, count in parts))
    drams = [(part.dram, count * _moved_bytes(part) / all_bytes) for part, count in parts]
    if not all(dram for dram, _ in drams):
        return None
    return DramReport(
        activations=sum(count * part.dram.activations for part, count in parts if part.dram),
        # Every burst has the same size, so bytes weigh as bursts do.
        row_hit_share=sum(share * dram.row_hit_share for dram, share in drams if dram),
        refresh_share=sum(share * dram.refresh_share for dram, share in drams if dram),
        energy_pj_per_bit=sum(share * dram.energy_pj_per_bit for dram, share in drams if dram),
    )


def _moved_bytes(report: Report) -> int:
    return report.hbm_read_bytes + report.hbm_write_bytes


def _hbm_j(energy_j: Mapping[str, float]) -> float:
    return sum(energy_j[name] for name in ("hbm", "hbm_activation", "hbm_refresh"))
