"""Which bits of an address choose which part of the DRAM."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.dram import DramShape

FIELDS = ("row", "column", "bank", "bank_group", "rank", "pseudo_channel", "channel")
DIGIT_COLUMNS = 5
"""Of a table of digits."""
DIGIT_SIZE, DIGIT_BITS, _BANK_STEP, _ROW_STEP, _IS_HASHED = range(DIGIT_COLUMNS)
NO_POWER = -1
"""Bits of a digit whose size is no power of two."""
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


def digit_table(
    digits: Sequence[Digit], shape: DramShape, hashed: Collection[str]
) -> npt.NDArray[np.int64]:
    """Return what `bank_and_row` reads, a row a digit, lowest first.

    Banks are counted through bank groups, ranks, pseudo-channels and channels. Ranks have
    `rank_places`, so that bits of the number of a bank tell its pseudo-channel and its channel.
    """
    bank_step = {"bank": 1, "bank_group": shape.banks}
    bank_step["rank"] = bank_step["bank_group"] * shape.bank_groups
    bank_step["pseudo_channel"] = bank_step["rank"] * shape.rank_places
    bank_step["channel"] = bank_step["pseudo_channel"] * shape.pseudo_channels
    rows = [
        (
            size,
            NO_POWER if size & (size - 1) else size.bit_length() - 1,
            weight * bank_step.get(field, 0),
            weight if field == "row" else 0,
            field in hashed,
        )
        for field, size, weight in digits
    ]
    return np.array(rows, np.int64).reshape(-1, DIGIT_COLUMNS)


def bank_and_row(digits: npt.NDArray[np.int64], address: Any) -> tuple[Any, Any]:
    """Return bank and row of an address, which counts in steps of the lowest of the digits.

    A hashed digit is combined with the address above it: by exclusive or of bits some places apart,
    as in permutation-based interleaving (Zhang, Zhu and Zhang, MICRO 2000), or by a sum where the
    digit is no power of two. Either way it stays a permutation. The address may be an array.
    """
    bank = row = 0
    for i in range(len(digits)):
        size, bits = digits[i, DIGIT_SIZE], digits[i, DIGIT_BITS]
        above = address >> bits if bits >= 0 else address // size
        digit = address - above * size
        if digits[i, _IS_HASHED]:
            mixed = above ^ (above >> 4) ^ (above >> 9) ^ (above >> 15)
            digit = (digit ^ mixed) & (size - 1) if bits >= 0 else (digit + mixed) % size
        bank += digit * digits[i, _BANK_STEP]
        row += digit * digits[i, _ROW_STEP]
        address = above
    return bank, row


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
