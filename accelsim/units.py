"""The one place of unit factors. Inside accelsim: bytes, cycles, hertz, seconds, picojoules.

Binary prefixes (KiB) are powers of 1024 and decimal ones (kB) powers of 1000.
"""

import math
import re

from accelsim.errors import did_you_mean

KIB = 1024
GIB = 1024**3
PICO = 1e-12
MILLI = 1e-3
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

_PLAIN_LETTERS = str.maketrans({"\u00b5": "u", "\u03bc": "u", "²": "2"})
"""Both signs for micro and the small two, as reports print them."""
_OTHER_SPELLINGS = (
    (r"bps$", "b/s"),
    (r"(seconds?|secs?)$", "s"),
    (r"bytes?|(?<!/)bits?", "b"),
    (r"/bits$", "/bit"),
    (r"(cycles|cyc|clock|clk)$", "cycle"),
    (r"hertz$", "hz"),
    (r"watts?$", "w"),
    (r"\^", ""),
)
"""Pattern in a unit, in small letters -> how the units here spell it."""
_BITS = "; b is for bits, B for bytes of 8 bits"


def parse_quantity(text: str, dimension: str) -> float:
    """Return the value of `text`, such as `512 KiB`, in the unit named by `dimension`.

    Raises ValueError when the text is no number with a unit of that dimension.
    """
    factors = FACTORS[dimension]
    allowed = ", ".join(factors)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"found '{text}', expected a number with one of the units {allowed}")
    number, found = match.groups()
    unit = found.translate(_PLAIN_LETTERS)
    if not unit:
        raise ValueError(f"found '{text}', a number without a unit; allowed units: {allowed}")
    if unit not in factors:
        hint = _unit_hint(unit, dimension)
        raise ValueError(f"found the unit '{found}' in '{text}'{hint}; allowed units: {allowed}")
    value = float(number.replace("_", "")) * factors[unit]
    if not math.isfinite(value):
        raise ValueError(f"found '{text}', which is not a finite number")
    return value


def _unit_hint(unit: str, dimension: str) -> str:
    """Return which units of the dimension may be meant by another spelling of one."""
    factors = FACTORS[dimension]
    spellings = {_folded(unit)} | ({_folded(unit[0] + "i" + unit[1:])} if unit[0] == "K" else set())
    meant = [known for known in factors if _folded(known) in spellings]
    if not meant:
        return did_you_mean(unit, factors)
    is_in_bits = "byte" in dimension and "b" in re.sub("bytes?|/bit", "", unit)
    return f", did you mean {' or '.join(map(repr, meant))}?{_BITS if is_in_bits else ''}"


def _folded(unit: str) -> str:
    """Return `unit` in the one way that all its spellings share."""
    folded = unit.lower()
    for pattern, spelling in _OTHER_SPELLINGS:
        folded = re.sub(pattern, spelling, folded)
    return folded


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the quotient of two positive integers, rounded up."""
    return -(-numerator // denominator)
