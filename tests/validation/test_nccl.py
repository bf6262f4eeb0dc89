"""Collectives of NCCL on H200s: mean errors of each operation, of rows that chose and of others."""

import pytest

from accelsim.validation.nccl import REFERENCE
from accelsim.validation.outcome import validate
from accelsim.validation.table import read_rows

HELD_OUT = 4
"""Devices of the rows that no constant was found on."""


@pytest.fixture(scope="module")
def outcome():
    return validate(REFERENCE)


def test_collectives_are_near_what_was_measured(outcome):
    assert {kind: each.mape for kind, each in outcome.kinds.items()} == {
        "all_gather": pytest.approx(6.2, abs=0.1),
        "all_reduce": pytest.approx(5.6, abs=0.1),
        "alltoall": pytest.approx(7.6, abs=0.1),
        "reduce_scatter": pytest.approx(6.0, abs=0.1),
    }


def test_rows_that_no_constant_was_found_on_are_as_near(outcome):
    rows = {row.line: row for row in read_rows(REFERENCE.shipped_file, REFERENCE.row)}
    errors = {}
    for each in outcome.rows:
        if rows[each.line].num_gpus == HELD_OUT:
            errors.setdefault(each.kind, []).append(abs(each.error_percent))
    means = {kind: sum(of_kind) / len(of_kind) for kind, of_kind in errors.items()}
    assert means == {
        "all_gather": pytest.approx(5.1, abs=0.1),
        "all_reduce": pytest.approx(5.1, abs=0.1),
        "alltoall": pytest.approx(11.1, abs=0.1),
        "reduce_scatter": pytest.approx(5.1, abs=0.1),
    }


def test_other_numbers_of_devices_have_a_time():
    (row, *_) = read_rows(REFERENCE.shipped_file, REFERENCE.row)
    times = [
        REFERENCE.predict(row.model_copy(update={"num_gpus": count})) for count in (2, 3, 5, 6, 7)
    ]
    assert times == sorted(times)
