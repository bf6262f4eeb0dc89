"""How a column's number is shown: its unit comes from the last part of the column's name."""

import math
from dataclasses import dataclass

from accelsim.units import KIB

_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
BINARY = ((KIB**3, "Gi"), (KIB**2, "Mi"), (KIB, "Ki"), (1.0, ""))
"""Prefixes of capacities: powers of 1024."""
_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))

_SUFFIXES = {
    "tokens_per_s": ("tokens/s", ((1.0, ""),)),
    "bytes_per_s": ("B/s", _DECIMAL),
    "bytes_per_cycle": ("B/cycle", _DECIMAL),
    "macs_per_s": ("MAC/s", _DECIMAL),
    "bytes": ("B", _DECIMAL),
    "cycles": ("cycles", _DECIMAL),
    "cycle": ("cycles", _DECIMAL),
    "macs": ("MAC", _DECIMAL),
    "hz": ("Hz", _DECIMAL),
    "mm2": ("mm²", ((1.0, ""),)),
    "w": ("W", _SMALL),
    "j": ("J", _SMALL),
    "pj_per_bit": ("pJ/bit", ((1.0, ""),)),
    "s": ("s", _SMALL),
}
_WHOLE = 1e4
"""Rates from here on are shown without fractions, and not as powers of ten."""
_CAPACITIES = ("scratchpad", "accumulator", "capacity", "operand_buffer")
_FIELDS = {
    "clock": "hz",
    "capacity": "bytes",
    "operand_buffer": "bytes",
    "interleave": "bytes",
    "latency": "s",
    "line": "bytes",
    "sector": "bytes",
    "hbm.bandwidth": "bytes_per_s",
    "l2.bandwidth": "bytes_per_s",
    "bandwidth": "bytes_per_cycle",
}
"""Last part of a field of a machine -> suffix that says its unit."""

_GROUPS = {
    "hbm_bytes_by_tensor": ("bytes", "HBM bytes of {}"),
    "requested_bytes_by_tensor": ("bytes", "bytes requested of {}"),
    "energy_by_component_j": ("j", "energy of {}"),
}
_WORDS = {
    "hbm": "HBM",
    "dram": "DRAM",
    "l2": "L2",
    "rmse": "RMSE",
    "int": "integer",
    "macs": "MACs",
    "abs": "absolute",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a column measures."""

    title: str
    """Words for people, without the unit."""
    unit: str
    """Unit without prefix, such as `B`; empty for a plain number."""
    prefixes: tuple[tuple[float, str], ...] = ((1.0, ""),)
    """Factor and prefix of the scaled units, largest first."""

    def scale(self, magnitude: float) -> tuple[float, str]:
        """Return the factor and the scaled unit in which `magnitude` is between 1 and 1000."""
        if magnitude == 0:
            return 1.0, self.unit
        fitting = (pair for pair in self.prefixes if abs(magnitude) >= pair[0])
        factor, prefix = next(fitting, self.prefixes[-1])
        return factor, prefix + self.unit

    def label(self, magnitude: float) -> tuple[float, str]:
        """Return the factor to divide by and the axis label for values up to `magnitude`."""
        factor, unit = self.scale(magnitude)
        return factor, f"{self.title} [{unit}]" if unit else self.title

    def show(self, value: object) -> str:
        """Return `value` with its scaled unit; other things than numbers as text."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "-"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        if not self.unit:
            return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        if self.unit == "cycles" or (self.unit == "tokens/s" and abs(value) >= _WHOLE):
            return f"{value:,.0f} {self.unit}"
        factor, unit = self.scale(value)
        return f"{value / factor:.4g} {unit}"


def quantity_of(column: str) -> Quantity:
    """Return what the (dotted) `column` measures, judged by its name alone."""
    group, _, member = column.partition(".")
    if group == "parameters":
        return Quantity(member, "")
    if group in _GROUPS:
        suffix, title = _GROUPS[group]
        unit, prefixes = _SUFFIXES[suffix]
        shown = ".".join(words(part) for part in member.split("."))
        return Quantity(title.format(shown), unit, prefixes)
    name = column.removeprefix("machine.").removeprefix("workload.").removeprefix("units.")
    suffix = _suffix_of(name) or _suffix_of_field(column)
    title = words(name.removesuffix(suffix).rstrip("_") or name)
    if not suffix:
        return Quantity(title, "")
    unit, prefixes = _SUFFIXES[suffix]
    binary = unit == "B" and any(word in column for word in _CAPACITIES)
    return Quantity(title, unit, BINARY if binary else prefixes)


def _suffix_of(name: str) -> str:
    for suffix in _SUFFIXES:
        if name == suffix or name.endswith((f"_{suffix}", f".{suffix}")):
            return suffix
    return ""


def _suffix_of_field(column: str) -> str:
    if not column.startswith("machine."):
        return ""
    return next((unit for field, unit in _FIELDS.items() if column.endswith(f".{field}")), "")


def words(name: str) -> str:
    """Return a column's name as words for people, such as `HBM read` for `hbm_read`."""
    parts = name.replace("_", " ").replace(".", " ").split()
    return " ".join(_WORDS.get(part, part) for part in parts)
