"""The reports of the problems of a layer to one report of all."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accelsim.report.dram import combined_dram
from accelsim.report.report import PowerCap, Report, UnitReport
from accelsim.version import VERSION

Pairs = Sequence[tuple[Report, int]]
"""Reports, and how many times each of them counts."""


def combine_reports(
    parts: Sequence[Report],
    counts: Sequence[int],
    workload: str,
    settings: Mapping[str, Any],
) -> Report:
    """Return the report of a layer whose part i runs counts[i] times, one after the other.

    Amounts are sums. Shares of the time and rates are means over the time of all parts, because
    under a power cap the parts have clocks of their own.
    """
    pairs = list(zip(parts, counts, strict=True))
    first, cycles, time_s = parts[0], _total(pairs, "cycles"), _total(pairs, "time_s")
    energy_j = _summed([(part.energy_by_component_j, n) for part, n in pairs])
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
        parameters={},
        cores=first.cores,
        ops=_total(pairs, "ops"),
        cycles=cycles,
        time_s=time_s,
        clock_hz=cycles / time_s,
        power_cap=_power_cap(parts),
        bound_by=max(pairs, key=lambda pair: pair[0].time_s * pair[1])[0].bound_by,
        hbm_read_bytes=_total(pairs, "hbm_read_bytes"),
        hbm_write_bytes=_total(pairs, "hbm_write_bytes"),
        compulsory_bytes=_total(pairs, "compulsory_bytes"),
        l2=_combined_l2(pairs),
        hbm_bytes_by_tensor=_summed([(part.hbm_bytes_by_tensor, n) for part, n in pairs]),
        requested_bytes_by_tensor=_summed(
            [(part.requested_bytes_by_tensor, n) for part, n in pairs]
        ),
        macs=_total(pairs, "macs"),
        peak_macs_per_s=_peak_macs_per_s(pairs),
        peak_hbm_bytes_per_s=first.peak_hbm_bytes_per_s,
        hbm_utilization=_mean(pairs, "hbm_utilization"),
        units={name: _combined_unit(name, pairs, cycles * first.cores) for name in first.units},
        core_balance=_mean(pairs, "core_balance"),
        scratchpad_peak_bytes=max(part.scratchpad_peak_bytes for part in parts),
        scratchpad_held_peak_bytes=max(part.scratchpad_held_peak_bytes for part in parts),
        accumulator_peak_bytes=max(part.accumulator_peak_bytes for part in parts),
        energy_j=_total(pairs, "energy_j"),
        energy_by_component_j=energy_j,
        area_mm2=first.area_mm2,
        is_exact=all(part.is_exact for part in parts),
        selection={},
        selection_assumed=any(part.selection_assumed for part in parts),
        accuracy=None,
        inputs_out_of_range=_total(pairs, "inputs_out_of_range"),
        dram=combined_dram(pairs, energy_j),
        parts=tuple(parts),
    )


def _joined(names: Iterable[str]) -> str:
    """Return the distinct names of the parts."""
    return ", ".join(dict.fromkeys(filter(None, names)))


def _total(pairs: Pairs, name: str) -> Any:
    return sum(count * getattr(part, name) for part, count in pairs)


def _mean(pairs: Pairs, name: str) -> float:
    """Return the mean of a share or a rate over the time of all parts."""
    weighted = sum(count * (part.time_s * getattr(part, name)) for part, count in pairs)
    return float(weighted / _total(pairs, "time_s"))


def _peak_macs_per_s(pairs: Pairs) -> float:
    """Return the rate at which the matrix units could do the MACs of all parts."""
    least_s = sum(n * part.macs / part.peak_macs_per_s for part, n in pairs if part.macs)
    return float(_total(pairs, "macs") / least_s) if least_s else _mean(pairs, "peak_macs_per_s")


def _power_cap(parts: Sequence[Report]) -> PowerCap:
    """Return the worst of what became of the cap: a layer keeps it if all of its parts do."""
    return max((part.power_cap for part in parts), key=("none", "met", "not met").index)


def _summed(weighted: Sequence[tuple[Mapping[str, Any], int]]) -> dict[str, Any]:
    sums: dict[str, Any] = {}
    for mapping, count in weighted:
        for name, value in mapping.items():
            sums[name] = sums.get(name, 0) + count * value
    return sums


def _combined_unit(name: str, pairs: Pairs, core_cycles: int) -> UnitReport:
    busy = sum(count * part.units[name].busy_cycles for part, count in pairs)
    return UnitReport(
        busy_cycles=busy,
        utilization=busy / core_cycles,
        stall_cycles=_summed([(part.units[name].stall_cycles, n) for part, n in pairs]),
    )


def _combined_l2(pairs: Pairs) -> dict[str, float]:
    if not pairs[0][0].l2:
        return {}
    read_bytes = sum(count * part.l2["read_bytes"] for part, count in pairs)
    hits = sum(count * part.l2["hit_fraction"] * part.l2["read_bytes"] for part, count in pairs)
    return {
        "read_bytes": read_bytes,
        "write_bytes": sum(count * part.l2["write_bytes"] for part, count in pairs),
        "hit_fraction": hits / read_bytes if read_bytes else 0.0,
    }
