"""Gathers of the H200: the shipped rows, and the knee of its memory access."""

import numpy as np
import pytest

from accelsim.engine.memory.hbm.places import new_places
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.mapping import bank_and_row
from accelsim.loading import load_machine
from accelsim.validation import h200_gather
from accelsim.validation.h200_gather import REFERENCE, GatherRow, gathering, useful_bytes_per_s
from accelsim.validation.h200_gather_energy import REFERENCE as ENERGY
from accelsim.validation.h200_gather_replays import REFERENCE as REPLAYS
from accelsim.validation.outcome import validate
from accelsim.validation.table import read_rows

MACHINE = load_machine("h200-sxm-banked")
BANDWIDTH_ERROR_PERCENT, REPLAY_ERROR_PERCENT = 9, 6
ENERGY_ERROR_PERCENT = 11
"""Ten percent too few joules: a byte of the memory is that of another board (decision 0070)."""
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


def test_the_energy_of_the_shipped_gathers_is_within_what_boards_differ():
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


def opened_again(row: GatherRow, machine: MachineSpec) -> float:
    """Return the share of DRAM rows opened that a window of the controller would have spared.

    Each bank opens rows in the order of its bursts. Spared is one for which a burst has come among
    the last `window` of its channel: in the meantime the bank has opened another row, which
    first-ready service would have put off. Times are not asked, so this is the most there can be.
    """
    hbm, sector = machine.hbm, machine.l2.sector
    shape, places = hbm.dram.shape, new_places(hbm.digits, hbm.dram.shape, hbm.hashed)
    tile_rows = max(1, h200_gather._TILE_BYTES // row.row_bytes)
    tiles = 2**23 // (tile_rows * row.row_bytes)
    numbers = h200_gather._row_numbers(row, machine, tiles, tile_rows).astype(np.int64)
    steps = np.arange(max(1, row.row_bytes // sector))
    sectors = ((numbers * row.row_bytes // sector)[:, None] + steps).ravel()
    fetched = sectors[np.append(True, sectors[1:] != sectors[:-1])]
    runs = (fetched * (sector // shape.burst)) >> places.run_bits
    banks, rows = bank_and_row(places.digits, runs % places.num_runs)
    of_channel = banks // shape.bank_places_of_channel
    window = hbm.controller.window // (sector // shape.burst)
    opened = again = 0
    for channel in range(0, hbm.channels, 8):
        open_rows, last = {}, {}
        there = np.flatnonzero(of_channel == channel)
        for number, at in enumerate(zip(banks[there].tolist(), rows[there].tolist(), strict=True)):
            if open_rows.get(at[0]) != at[1]:
                opened += 1
                again += number - last.get(at, -window - 1) <= window
            open_rows[at[0]], last[at] = at[1], number
    return again / opened


def test_row_hits_before_older_conflicts_would_spare_few_rows():
    """2.4 % of the rows opened at most, 1 % in most of the gathers."""
    rows = read_rows(REFERENCE.shipped_file, GatherRow)
    shares = sorted(opened_again(row, MACHINE) for row in rows)
    assert len(shares) == 32
    assert shares[-1] <= 0.025
    assert shares[len(shares) // 2] <= 0.01


def test_the_share_of_rows_opened_again_is_found_where_there_is_one(monkeypatch):
    """Two rows of one bank in turn: all but the first of each would be spared."""
    hbm = MACHINE.hbm
    step = hbm.capacity // hbm.dram.shape.rows // 64
    numbers = np.tile(np.array([0, step], np.int32), 50)
    monkeypatch.setattr(h200_gather, "_row_numbers", lambda *_: numbers)
    plain = MACHINE.model_copy(update={"hbm": hbm.model_copy(update={"hashed": ()})})
    assert opened_again(gather(64, "sorted"), plain) == pytest.approx(98 / 100)
