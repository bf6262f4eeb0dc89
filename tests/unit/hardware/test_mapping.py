"""Addresses to parts of the DRAM: every mapping is a permutation, and mistakes are explained."""

import numpy as np
import pytest

from accelsim.engine.banked import hbm
from accelsim.engine.banked.hbm import digit_table
from accelsim.hardware.mapping import digits_of, field_sizes
from accelsim.jit import jit
from tests.strategies.memories import HASHED, MAPPINGS, device_of


@jit
def located(digits, place):
    return hbm.located(digits, place)


@pytest.mark.parametrize("hashed", [(), ("channel",), HASHED])
@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_address_has_a_place_of_its_own(mapping, channels, hashed):
    shape = device_of({"ranks": 2}).shape
    sizes = field_sizes(shape, channels)
    table, run_bursts = digit_table(digits_of(mapping, sizes), shape, hashed)
    runs = int(np.prod(list(sizes.values()))) // run_bursts
    places = {located(table, run) for run in range(runs)}
    banks = channels * 2 * 2 * 2 * 2
    runs_of_row = shape.columns // run_bursts
    assert {bank for bank, _ in places} == set(range(banks))
    assert {row for _, row in places} == set(range(shape.rows))
    assert len(places) * runs_of_row == runs


def test_digits_come_from_the_bottom():
    digits = digits_of(MAPPINGS[2], field_sizes(device_of().shape, 3))
    assert [(digit.field, digit.size, digit.weight) for digit in digits] == [
        ("column", 2, 1),
        ("pseudo_channel", 2, 1),
        ("channel", 3, 1),
        ("row", 4, 1),
        ("bank_group", 2, 1),
        ("column", 2, 2),
        ("bank", 2, 1),
        ("row", 2, 4),
    ]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (("row", "bankgroup"), "found 'bankgroup'; allowed: row, column, bank, bank_group, rank"),
        (("row", "column:x"), "found 'column:x'; allowed: row"),
        (("row", "column:3"), "which has places for 8 of the 4 values of column; allowed: all"),
        (("row", "column", "bank"), "has places for 1 of the 2 values of bank_group"),
        (("row:2", "column", "bank", "bank_group", "channel"), "for 4 of the 8 values of row"),
        (("row", "row", "column", "bank", "bank_group", "channel"), "for 64 of the 8 values of"),
        (("row", "column:99", "column", "bank"), "of the 4 values of column"),
    ],
)
def test_a_mapping_that_does_not_fit_is_explained(mapping, message):
    shape = device_of({"pseudo_channels": 1}).shape
    with pytest.raises(ValueError, match=message):
        digits_of(mapping, field_sizes(shape, 2))
