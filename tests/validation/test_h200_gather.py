"""Gathers of the H200: the shipped rows, and the knee of its memory access."""

import pytest

from accelsim.loading import load_machine
from accelsim.validation.h200_gather import REFERENCE, GatherRow, gathering, useful_bytes_per_s
from accelsim.validation.h200_gather_energy import REFERENCE as ENERGY
from accelsim.validation.h200_gather_replays import REFERENCE as REPLAYS
from accelsim.validation.outcome import validate

MACHINE = load_machine("h200-sxm-banked")
BANDWIDTH_ERROR_PERCENT, ENERGY_ERROR_PERCENT, REPLAY_ERROR_PERCENT = 9, 7, 6
"""The mean errors found, 8.1, 6.9 and 5.9 %, rounded up: a change for the worse is seen."""
WORST_PERCENT = 25
"""What no row may be off; one of the first file took 80 us, which replayed takes 42."""


def gather(row_bytes: int, order: str, kept: float = 0.25) -> GatherRow:
    """A gather of 512 MiB of rows."""
    rows = 2**29 // row_bytes
    return GatherRow(line=1, row_bytes=row_bytes, kept=kept, order=order, rows=rows, time_us=1)


def test_the_shipped_gathers_are_predicted_as_well_as_they_were():
    outcome = validate(REFERENCE)
    errors = [abs(row.error_percent) for row in outcome.rows]
    assert len(errors) == 32
    assert sum(errors) / len(errors) <= BANDWIDTH_ERROR_PERCENT
    assert [row.label for row in outcome.rows if abs(row.error_percent) > WORST_PERCENT] == [
        "4096 B, 0.02 kept"
    ]


def test_the_replayed_gathers_are_predicted_as_well_as_they_were():
    errors = [abs(row.error_percent) for row in validate(REPLAYS).rows]
    assert len(errors) == 48
    assert sum(errors) / len(errors) <= REPLAY_ERROR_PERCENT
    assert max(errors) <= WORST_PERCENT


def test_the_energy_of_the_shipped_gathers_is_predicted_as_well_as_it_was():
    outcome = validate(ENERGY)
    errors = [abs(row.error_percent) for row in outcome.rows]
    assert len(errors) == 32
    assert sum(errors) / len(errors) <= ENERGY_ERROR_PERCENT


def test_a_gather_moves_whole_accesses_row_numbers_and_sums():
    run = gathering(gather(32, "random", kept=0.05), MACHINE)
    rows = 2**29 // 32
    # Of rows drawn from twenty times as many, hardly any meet another one in the L2.
    assert run.useful_bytes == 2**29
    assert run.moved_bytes == pytest.approx(64 * rows + 8 * rows, rel=0.01)


def test_half_an_access_brings_half_the_bandwidth_of_a_whole_one():
    half, whole = (useful_bytes_per_s(gather(size, "random"), MACHINE) for size in (32, 64))
    assert half / whole == pytest.approx(0.5, rel=0.1)  # row numbers and sums weigh more on it


def test_sorted_rows_share_accesses_that_random_ones_do_not():
    in_order, scattered = (
        useful_bytes_per_s(gather(32, order, kept=1.0), MACHINE) for order in ("sorted", "random")
    )
    assert in_order > 2 * scattered
