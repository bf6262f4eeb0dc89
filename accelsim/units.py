"""The one place of unit factors. Inside accelsim: bytes, cycles, hertz, seconds, picojoules.

Binary prefixes (KiB) are powers of 1024 and decimal ones (kB) powers of 1000.
"""

import math
import re

KIB = 1024
PICO = 1e-12
MICRO = 1e-6
BITS_PER_BYTE = 8

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_SMALL = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}

_BYTES = {f"{prefix}B": factor for prefix, factor in (_DECIMAL | _BINARY).items()}
FACTORS: dict[str, dict[str, float]] = {
    "bytes": _BYTES,
    "hertz": {f"{prefix}Hz": factor for prefix, factor in _DECIMAL.items()},
    "bytes_per_s": {f"{unit}/s": factor for unit, factor in _BYTES.items()},
    "bytes_per_cycle": {f"{unit}/cycle": factor for unit, factor in _BYTES.items()},
    "seconds": {f"{prefix}s": factor for prefix, factor in _SMALL.items()},
    "watts": {f"{prefix}W": factor for prefix, factor in (_DECIMAL | _SMALL).items()},
    "picojoules": {"pJ": 1.0, "fJ": 1e-3, "nJ": 1e3},
    "picojoules_per_byte": {"pJ/B": 1.0, "pJ/byte": 1.0, "pJ/bit": float(BITS_PER_BYTE)},
    "square_millimetres": {"mm2": 1.0, "um2": 1e-6},
}
"""Dimension -> unit -> factor to the unit used inside accelsim (the dimension's name)."""

_QUANTITY = re.compile(
    r"\s*([-+]?[\d_]*\.?\d+(?:[eE][-+]?\d+)?|[-+]?nan|[-+]?inf)\s*(\S*)\s*", re.I
)


def parse_quantity(text: str, dimension: str) -> float:
    """Return the value of `text`, such as `512 KiB`, in the unit named by `dimension`.

    Raises ValueError when the text is no number with a unit of that dimension.
    """
    factors = FACTORS[dimension]
    allowed = ", ".join(factors)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"found '{text}', expected a number with one of the units {allowed}")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"found '{text}', a number without a unit; allowed units: {allowed}")
    if unit not in factors:
        raise ValueError(f"found the unit '{unit}' in '{text}'; allowed units: {allowed}")
    value = float(number.replace("_", "")) * factors[unit]
    if not math.isfinite(value):
        raise ValueError(f"found '{text}', which is not a finite number")
    return value


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient of two positive integers, rounded up."""
    return -(-numerator // denominator)
