"""Where a run of bursts lies: the bank and the row that a mapping gives it."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.dram import DramShape
from accelsim.hardware.mapping import (
    DIGIT_BITS,
    DIGIT_SIZE,
    NO_POWER,
    Digit,
    bank_and_row,
    digit_table,
)
from accelsim.runtime.jit import borrow, jit, jit_inline

_TABLE_BITS = 6
_ROW_SHIFT = 32
"""A table holds a row above a bank."""

Words = npt.NDArray[np.int64]


class Places(NamedTuple):
    """A mapping, for runs of bursts that follow each other in one row."""

    run_bits: int
    """Of the number of bursts of a run."""
    num_runs: int
    """In all channels; addresses beyond wrap around."""
    digits: Words
    """A table of digits, without those below a run."""
    tables: Words
    """[i, value of bits i of the number of a run], parts of its row and bank, of which the
    exclusive or is their value; empty where the size of a digit is no power of two."""


def new_places(digits: Sequence[Digit], shape: DramShape, hashed: Collection[str]) -> Places:
    """Return the mapping of an address given by its digits, some of which are hashed."""
    run_bits = 0
    above = list(digits)
    while above and above[0].field == "column":
        run_bits += above.pop(0).size.bit_length() - 1
    table = digit_table(above, shape, hashed)
    num_runs = int(np.prod(table[:, DIGIT_SIZE]))
    return Places(run_bits, num_runs, table, _tables(table, num_runs))


def _tables(digits: Words, num_runs: int) -> Words:
    """Return the tables of `Places`.

    Digits of bits are shifted, masked and combined by exclusive or, so that the place of a number
    is the exclusive or of the places of its parts.
    """
    if (digits[:, DIGIT_BITS] == NO_POWER).any():
        return _no_tables(0)
    tables = _no_tables(-(-(num_runs.bit_length() - 1) // _TABLE_BITS))
    _fill(digits, num_runs, tables)
    return tables


def _no_tables(parts: int) -> Words:
    return np.zeros((parts, 1 << _TABLE_BITS), np.int64)


by_digits = jit_inline(bank_and_row)


@jit_inline
def borrowed_places(places):
    """Return the same mapping, its tables as borrowed views."""
    return Places(places.run_bits, places.num_runs, borrow(places.digits), borrow(places.tables))


@jit_inline
def located(places, run):
    """Return bank, counted through all channels, and row of a run of bursts."""
    parts = len(places.tables)
    if parts == 0:
        return by_digits(places.digits, run % places.num_runs)
    place, left = 0, run & (places.num_runs - 1)
    for part in range(parts):
        place ^= places.tables[part, left & ((1 << _TABLE_BITS) - 1)]
        left >>= _TABLE_BITS
    return place & ((1 << _ROW_SHIFT) - 1), place >> _ROW_SHIFT


@jit
def _fill(digits, num_runs, tables):
    """Fill the tables of `Places`."""
    digits, tables = borrow(digits), borrow(tables)
    for part in range(len(tables)):
        for value in range(1 << _TABLE_BITS):
            bank, row = by_digits(digits, (value << (part * _TABLE_BITS)) & (num_runs - 1))
            tables[part, value] = (row << _ROW_SHIFT) | bank
