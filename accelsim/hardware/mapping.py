"""Which bits of an address choose which part of the DRAM."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from accelsim.hardware.dram import DramShape

FIELDS = ("row", "column", "bank", "bank_group", "rank", "pseudo_channel", "channel")
_PART = re.compile(r"([a-z_]+)(?::(\d{1,4}))?")
_MOST_BITS = 64


class Digit(NamedTuple):
    """One place of an address, a number in mixed radix."""

    field: str
    size: int
    """Values of the digit."""
    weight: int
    """What one step of the digit adds to its field."""


def field_sizes(shape: DramShape, channels: int) -> dict[str, int]:
    """Return how many values each field has in a memory of that many channels."""
    return {
        "row": shape.rows,
        "column": shape.columns,
        "bank": shape.banks,
        "bank_group": shape.bank_groups,
        "rank": shape.ranks,
        "pseudo_channel": shape.pseudo_channels,
        "channel": channels,
    }


def digits_of(mapping: Sequence[str], sizes: Mapping[str, int]) -> list[Digit]:
    """Return the digits of an address in bursts, lowest first, for fields listed from the top.

    `field:n` takes the lowest n bits of the field that are left, `field` all that no such part
    takes. sizes: values of each field. Raises ValueError when a field is not used up exactly.
    """
    parts = [_parsed(part) for part in reversed(mapping)]
    weight = dict.fromkeys(FIELDS, 1)
    digits: list[Digit] = []
    for field, bits in parts:
        size = sizes[field] // _product(parts, field) if bits is None else 1 << bits
        digits.append(Digit(field, size, weight[field]))
        weight[field] *= max(size, 1)
    for field in FIELDS:
        if weight[field] != sizes[field]:
            raise ValueError(
                f"found {', '.join(mapping)}, which has places for {weight[field]} of the "
                f"{sizes[field]} values of {field}; allowed: all of them"
            )
    return [digit for digit in digits if digit.size > 1]


def _parsed(part: str) -> tuple[str, int | None]:
    match = _PART.fullmatch(part)
    if match is None or match[1] not in FIELDS:
        raise ValueError(
            f"found '{part}'; allowed: {', '.join(FIELDS)}, each also with a number of bits such "
            f"as column:2"
        )
    return match[1], None if match[2] is None else min(int(match[2]), _MOST_BITS)


def _product(parts: Sequence[tuple[str, int | None]], wanted: str) -> int:
    """Return the values of a field that its parts with a number of bits take."""
    return 1 << sum(bits or 0 for field, bits in parts if field == wanted)
