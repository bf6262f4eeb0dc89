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
    return DramReport(
        activations=commands.activations,
        bursts=bursts,
        row_hit_share=commands.row_hits / bursts if bursts else 0.0,
        refresh_share=one_refresh / timing.t_refi,
        energy_pj_per_bit=_pj_per_bit(energy_j, activity.hbm_read_bytes + activity.hbm_write_bytes),
    )


def combined_dram(
    parts: Sequence[tuple[Report, int]], energy_j: Mapping[str, float]
) -> DramReport | None:
    """Return what a banked memory did in a layer whose parts run that many times each.

    energy_j: of the layer, by component.
    """
    drams = [(part.dram, count) for part, count in parts if part.dram]
    if len(drams) < len(parts):
        return None
    bursts = sum(count * dram.bursts for dram, count in drams)
    hits = sum(count * dram.bursts * dram.row_hit_share for dram, count in drams)
    moved_bytes = sum(n * (part.hbm_read_bytes + part.hbm_write_bytes) for part, n in parts)
    return DramReport(
        activations=sum(count * dram.activations for dram, count in drams),
        bursts=bursts,
        row_hit_share=hits / bursts if bursts else 0.0,
        refresh_share=drams[0][0].refresh_share,
        energy_pj_per_bit=_pj_per_bit(energy_j, moved_bytes),
    )


def _pj_per_bit(energy_j: Mapping[str, float], moved_bytes: int) -> float:
    bits = BITS_PER_BYTE * moved_bytes
    return _hbm_j(energy_j) / PICO / bits if bits else 0.0


def _hbm_j(energy_j: Mapping[str, float]) -> float:
    return sum(energy_j[name] for name in ("hbm", "hbm_activation", "hbm_refresh"))
