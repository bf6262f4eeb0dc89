"""Titles that say what was changed."""

import pytest

from accelsim.report.subject import listed, subject_of


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "w on m"),
        ({"tile_q": 64}, "w on m"),
        ({"workload.q_len": 8192, "workload.kv_len": 8192}, "w (q_len=8192, kv_len=8192) on m"),
        ({"machine.hbm.channels": "4", "tile_q": 64}, "w on m (hbm.channels=4)"),
        ({"machine.l2": "{capacity: 192 MiB, line: 512 B}"}, "w on m (l2=...)"),
    ],
)
def test_a_changed_specification_is_named_with_its_changes(settings, title):
    assert subject_of("m", "w", settings) == title


def test_values_are_listed_in_their_order():
    assert listed({"tile_q": 128, "precision": "fp16"}) == "tile_q=128, precision=fp16"
