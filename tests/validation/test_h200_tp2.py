"""Steps on two H200s, on rows that a run of the tests can afford."""

import pytest

from accelsim.loading import load_machine
from accelsim.validation.h200_tp2 import REFERENCE, ParallelRow, label_of, predict
from accelsim.validation.table import read_rows

STEP_ERROR_PERCENT = 8
ENERGY_ERROR_PERCENT = 12


@pytest.fixture(scope="module")
def rows():
    return REFERENCE.select(read_rows(REFERENCE.shipped_file, ParallelRow))


def test_a_step_of_one_sequence_and_its_joules_are_near(rows):
    machine = load_machine("h200-sxm")
    chosen = [row for row in rows if row.model == "llama3_8b" and row.batch == 1]
    chosen = [row for row in chosen if row.phase == "decode"]
    errors = {
        REFERENCE.kind_of(row): 100 * abs(predict(row, machine) / REFERENCE.value_of(row) - 1)
        for row in chosen
    }
    assert set(errors) == {"decode", "energy"}
    assert errors["decode"] < STEP_ERROR_PERCENT
    assert errors["energy"] < ENERGY_ERROR_PERCENT


def test_kinds_are_phases_and_energy(rows):
    assert [REFERENCE.kind_of(row) for row in rows].count("energy") == 5
    assert {REFERENCE.kind_of(row) for row in rows} == {"decode", "prefill", "energy"}
    assert label_of(rows[0]) == "llama3_8b 1 x 1024 keys, 2 devices"
