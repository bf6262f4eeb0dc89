"""What was counted in a run, or in any number of runs: only what adds, and what follows from it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cache
from math import lcm
from operator import index
from typing import Any, Literal, SupportsIndex

from accelsim.report.exact import ratio
from accelsim.units import BITS_PER_BYTE, PICO

_HBM = ("hbm", "hbm_activation", "hbm_refresh")
"""Components of the energy that a banked memory takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReport:
    """What one kind of unit did, on all cores together."""

    busy_cycles: int
    """Cycles with work, summed over cores."""
    utilization: float
    """Share of the cycles of all cores with work."""
    stall_cycles: Mapping[str, int]
    """Cycles a compute unit was free while its next op waited, by what it waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DramReport:
    """What a banked memory did."""

    activations: int
    """Rows opened."""
    bursts: int
    """Bursts read and written."""
    row_hit_share: float
    """Share of the bursts whose row had been opened for an earlier one."""
    refresh_share: float
    """Share of the time in which a bank was being refreshed."""
    energy_pj_per_bit: float
    """Energy of all commands, in picojoules for each bit that the queues asked for."""


UNSEEN_TRAFFIC = (
    "HBM bytes, L2 hits, energy and power are not estimated: traffic behind an L2 is biased by "
    "what the sample does not see"
)
"""Of a sampled run on a machine with an L2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingReport:
    """What is estimated of runs of which a sample of the ops was scheduled: 95 % intervals."""

    scheduled_share: float
    """Ops that were scheduled over those of the programs."""
    time_low_s: float
    time_high_s: float
    hbm_low_bytes: float | None
    hbm_high_bytes: float | None
    """Bytes read from and written to the HBM; None, as the energy, where `note` says why."""
    energy_low_j: float | None
    energy_high_j: float | None
    note: str
    """What of the report is not to be relied on; empty if all of it has an interval."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Amounts of runs that follow one another. Every field adds: `a + b`, `n * a`, `sum`.

    Sums are exact, in any order, and `n * a` is n times `a` added up: what is no whole number is
    kept as a fraction (`accelsim.report.exact`). Figures are properties, rounded once; shares are 0
    where nothing ran. Properties, and fields that the repr shows, are columns of every table, the
    last part of their name being the unit; figures follow from the other fields.
    """

    ops: int = 0
    """Ops of the tile program."""
    cycles: int = 0
    hbm_read_bytes: int = 0
    hbm_write_bytes: int = 0
    compulsory_bytes: int = 0
    """Every input read once and every output written once, in the formats the kernel stores."""
    hbm_bytes_by_tensor: Mapping[str, int] = field(default_factory=dict)
    """Bytes read from and written to the HBM; of what an L2 holds at the end, what is dirty."""
    requested_bytes_by_tensor: Mapping[str, int] = field(default_factory=dict)
    """Bytes that the cores asked the L2 to read and write; empty without an L2."""
    macs: int = 0
    inputs_out_of_range: int = 0
    """Values of the tensors beyond the largest number of their format, which saturate in FP8 and
    become infinite in others. The oracle has the inputs as they are stored."""
    seconds: Fraction = field(default_factory=Fraction, repr=False)
    joules: Mapping[str, Fraction] = field(default_factory=dict, repr=False)
    """Energy by component."""
    core_cycles: int = field(default=0, repr=False)
    """Cycles of all cores together."""
    busy_cycles: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Cycles with work by unit, summed over cores."""
    stall_cycles: Mapping[str, Mapping[str, int]] = field(default_factory=dict, repr=False)
    """Cycles a compute unit was free while its next op waited, by unit and what it waited for."""
    l2_bytes: Mapping[str, int] = field(default_factory=dict, repr=False)
    """`read`, `write` and those of the reads that `hit`; empty without an L2."""
    dram_commands: Mapping[str, int] = field(default_factory=dict, repr=False)
    """`activations`, `bursts` and `row_hits` of a banked memory; empty where it is flat."""
    matrix_seconds: Fraction = field(default_factory=Fraction, repr=False)
    """Time the matrix units need for the MACs at their peak rate."""
    over_time: Mapping[str, Fraction] = field(default_factory=dict, repr=False)
    """Shares and rates times the seconds that they held for: `hbm_utilization`, `core_balance`,
    `refresh_share` of a banked memory and, where there were no MACs, `peak_macs_per_s`."""

    sampled: Mapping[str, Fraction] = field(default_factory=dict, repr=False)
    """Of runs of which a sample was scheduled: `left_out_ops`, and half of the 95 % intervals of
    the `seconds`, the `joules` and the `hbm_bytes`, added as if all were off the same way. Behind
    an L2 not the latter two, but how many runs have `unseen_traffic`. Empty where all ops were
    scheduled."""

    def __add__(self, other: "Measured") -> "Measured":
        """Return the amounts of both, one after the other; of reports, without their names."""
        if not isinstance(other, Measured):
            return NotImplemented
        return Measured(
            **{
                each.name: _added(getattr(self, each.name), getattr(other, each.name))
                for each in fields(Measured)
            }
        )

    def __radd__(self, other: Literal[0]) -> "Measured":
        """Return the amounts: `sum` begins with 0."""
        return self + Measured() if other == 0 else NotImplemented

    def __mul__(self, count: SupportsIndex) -> "Measured":
        """Return the amounts of so many equal runs; raises ValueError for less than none."""
        if not hasattr(count, "__index__"):
            return NotImplemented
        times = index(count)
        if times < 0:
            raise ValueError(f"found {times} runs, allowed: 0 or more")
        return Measured(**_amounts(self, times)) if times else Measured()

    __rmul__ = __mul__

    @classmethod
    def total(cls, runs: "Iterable[tuple[int, Measured]]") -> "Measured":
        """Return the sum of `count * amounts` over runs, each with its count; the same, sooner.

        Fractions are brought to one denominator once. Raises ValueError for less than no run.
        """
        counted = list(runs)
        if any(count < 0 for count, _ in counted):
            raise ValueError(f"found {min(n for n, _ in counted)} runs, allowed: 0 or more")
        counted = [(count, each) for count, each in counted if count]
        return Measured(**{name: total_of(name, counted) for name in _names() if counted})

    @property
    def time_s(self) -> float:
        """Duration of all runs together."""
        return float(self.seconds)

    @property
    def sampling(self) -> SamplingReport | None:
        """Intervals of what a sample says; None where all ops were scheduled."""
        if not self.sampled:
            return None
        time_s, energy_j = self.time_s, self.energy_j
        hbm_bytes = float(self.hbm_read_bytes + self.hbm_write_bytes)
        off_s = float(self.sampled["seconds"])
        bounds: list[float | None] = [None] * 4
        is_known = not has_unseen_traffic(self)
        if is_known:
            off_bytes, off_j = float(self.sampled["hbm_bytes"]), float(self.sampled["joules"])
            bounds = [max(0.0, hbm_bytes - off_bytes), hbm_bytes + off_bytes]
            bounds += [max(0.0, energy_j - off_j), energy_j + off_j]
        return SamplingReport(
            scheduled_share=1 - ratio(self.sampled["left_out_ops"], self.ops),
            time_low_s=max(0.0, time_s - off_s),
            time_high_s=time_s + off_s,
            hbm_low_bytes=bounds[0],
            hbm_high_bytes=bounds[1],
            energy_low_j=bounds[2],
            energy_high_j=bounds[3],
            note="" if is_known else UNSEEN_TRAFFIC,
        )

    @property
    def clock_hz(self) -> float:
        """Mean clock of the run, lower than the machine's where a power cap binds."""
        return ratio(self.cycles, self.seconds)

    @property
    def l2(self) -> dict[str, float]:
        """`read_bytes`, `write_bytes` and `hit_fraction` of the reads; empty without an L2."""
        if not self.l2_bytes:
            return {}
        read_bytes = self.l2_bytes["read"]
        return {
            "read_bytes": read_bytes,
            "write_bytes": self.l2_bytes["write"],
            "hit_fraction": ratio(self.l2_bytes["hit"], read_bytes),
        }

    @property
    def peak_macs_per_s(self) -> float:
        """Rate of the matrix units for the formats of the MACs; without any, of idle units."""
        return ratio(self.macs, self.matrix_seconds) if self.macs else self._mean("peak_macs_per_s")

    @property
    def hbm_utilization(self) -> float:
        """Share of the HBM's peak bandwidth that was used, at most 1."""
        return self._mean("hbm_utilization")

    @property
    def core_balance(self) -> float:
        """Work of the mean core over that of the busiest, on the compute unit with most work."""
        return self._mean("core_balance")

    @property
    def units(self) -> dict[str, UnitReport]:
        """What each kind of unit did."""
        return {
            name: UnitReport(
                busy_cycles=busy,
                utilization=ratio(busy, self.core_cycles),
                stall_cycles=self.stall_cycles[name],
            )
            for name, busy in self.busy_cycles.items()
        }

    @property
    def energy_j(self) -> float:
        """Energy of all components."""
        return sum(self.energy_by_component_j.values())

    @property
    def energy_by_component_j(self) -> dict[str, float]:
        """Energy by component."""
        return {name: float(joules) for name, joules in self.joules.items()}

    @property
    def dram(self) -> DramReport | None:
        """Rows, refreshes and energy per bit of a banked memory; None where the memory is flat."""
        if not self.dram_commands:
            return None
        bursts = self.dram_commands["bursts"]
        return DramReport(
            activations=self.dram_commands["activations"],
            bursts=bursts,
            row_hit_share=ratio(self.dram_commands["row_hits"], bursts),
            refresh_share=self._mean("refresh_share"),
            energy_pj_per_bit=self._hbm_pj_per_bit(),
        )

    def _mean(self, name: str) -> float:
        """Return the mean of a share or a rate over the time."""
        return ratio(self.over_time.get(name, 0), self.seconds)

    def _hbm_pj_per_bit(self) -> float:
        bits = BITS_PER_BYTE * (self.hbm_read_bytes + self.hbm_write_bytes)
        joules = sum(self.energy_by_component_j[name] for name in _HBM)
        return joules / PICO / bits if bits else 0.0


@cache
def _names() -> tuple[str, ...]:
    """Return the names of all fields, which add."""
    return tuple(each.name for each in fields(Measured))


def has_unseen_traffic(runs: Measured) -> bool:
    """Whether bytes, energy and power are those of a sample that does not estimate them."""
    return "unseen_traffic" in runs.sampled


def total_of(name: str, runs: "Iterable[tuple[int, Measured]]") -> Any:
    """Return one field of the sum of `count * amounts` over runs, one or more."""
    return _total([(count, getattr(each, name)) for count, each in runs])


def _total(amounts: Sequence[tuple[int, Any]]) -> Any:
    """Return the sum of count times amount; of mappings, by name in the order of appearance."""
    first = amounts[0][1]
    if isinstance(first, Fraction):
        common = lcm(*[amount.denominator for _, amount in amounts])
        parts_of_one = [n * each.numerator * (common // each.denominator) for n, each in amounts]
        return Fraction(sum(parts_of_one), common)
    if not isinstance(first, Mapping):
        return sum([count * amount for count, amount in amounts])
    parts: dict[str, list[tuple[int, Any]]] = {}
    for count, named in amounts:
        for name, amount in named.items():
            parts.setdefault(name, []).append((count, amount))
    return {name: _total(each) for name, each in parts.items()}


def _amounts(measured: Measured, count: int) -> dict[str, Any]:
    """Return every field so many times."""
    return {each.name: _times(count, getattr(measured, each.name)) for each in fields(Measured)}


def _added(left: Any, right: Any) -> Any:
    if not isinstance(left, Mapping):
        return left + right
    both = dict(left)
    for name, amount in right.items():
        both[name] = _added(both[name], amount) if name in both else amount
    return both


def _times(count: int, amount: Any) -> Any:
    if isinstance(amount, Mapping):
        return {name: _times(count, each) for name, each in amount.items()}
    return count * amount
