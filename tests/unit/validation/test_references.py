"""The shipped references: complete, sourced, readable."""

from collections import Counter

import pytest

from accelsim.errors import UnknownNameError
from accelsim.validation.reference import DATA
from accelsim.validation.registry import REFERENCE_NAMES, get_reference
from accelsim.validation.table import read_rows

MEASURED_TWICE = {"nccl": 2}
"""References whose values are rounded so that two measurements may agree."""
names = pytest.mark.parametrize("name", REFERENCE_NAMES)


@names
def test_every_reference_reads_its_shipped_file(name):
    reference = get_reference(name)
    assert reference.name == name
    rows = reference.select(read_rows(reference.shipped_file, reference.row))
    assert rows
    assert all(reference.value_of(row) > 0 for row in rows)
    # What was measured twice has the same label and another value, if it is not rounded to it.
    found = Counter(
        (reference.kind_of(row), reference.label_of(row), reference.value_of(row)) for row in rows
    )
    assert max(found.values()) <= MEASURED_TWICE.get(name, 1)


@names
def test_every_shipped_file_has_its_origin_told(name):
    assert get_reference(name).file in (DATA / "NOTICE").read_text()


def test_every_file_belongs_to_a_reference():
    files = {path.name for path in DATA.iterdir()} - {"NOTICE"}
    assert files == {get_reference(name).file for name in REFERENCE_NAMES}


def test_a_misspelt_name_names_the_nearest():
    with pytest.raises(
        UnknownNameError, match="unknown reference 'scalsim', did you mean 'scalesim'"
    ):
        get_reference("scalsim")
