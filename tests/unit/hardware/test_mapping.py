"""Addresses to parts of the DRAM: every mapping is a permutation, and mistakes are explained."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine.memory.hbm import places
from accelsim.engine.memory.hbm.places import new_places
from accelsim.hardware.mapping import digits_of, field_sizes
from accelsim.runtime.jit import jit
from tests.strategies.memories import HASHED, MAPPINGS, device_of


@jit
def located(mapping, run):
    return places.located(mapping, run)


@jit
def by_digits(mapping, run):
    return places.by_digits(mapping.digits, run)


@settings(max_examples=60)
@given(
    st.sampled_from(MAPPINGS),
    st.sets(st.sampled_from(HASHED)),
    st.integers(1, 3),
    st.integers(1, 6),
    st.sampled_from([8, 12]),
)
def test_every_address_has_a_place_of_its_own(mapping, hashed, channels, ranks, rows):
    """Any number of channels, ranks and rows: what is there is filled, and nothing else."""
    shape = device_of({"ranks": ranks, "rows": rows}).shape
    sizes = field_sizes(shape, channels)
    found = new_places(digits_of(mapping, sizes), shape, tuple(hashed))
    run_bursts = 1 << found.run_bits
    runs = int(np.prod(list(sizes.values()))) // run_bursts
    places_of_runs = {located(found, run) for run in range(runs)}
    rank_bits = (ranks - 1).bit_length()
    pseudos = range(channels * shape.pseudo_channels)
    ranks_there = {(pseudo << rank_bits) + rank for pseudo in pseudos for rank in range(ranks)}
    runs_of_row = shape.columns // run_bursts
    assert {bank // 4 for bank, _ in places_of_runs} == ranks_there
    assert len({bank for bank, _ in places_of_runs}) == 4 * len(ranks_there)
    assert {row for _, row in places_of_runs} == set(range(shape.rows))
    assert len(places_of_runs) * runs_of_row == runs == found.num_runs


@pytest.mark.parametrize("hashed", [(), ("channel",), HASHED])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_tables_give_what_the_digits_give(mapping, hashed):
    shape = device_of({"ranks": 2, "rows": 2**15}).shape
    found = new_places(digits_of(mapping, field_sizes(shape, 4)), shape, hashed)
    assert len(found.tables) > 2
    for run in np.random.default_rng(0).integers(0, 2**40, 500):
        assert located(found, run) == by_digits(found, run % found.num_runs)


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
