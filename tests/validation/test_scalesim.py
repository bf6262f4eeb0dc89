"""Systolic arrays against the cycles that SCALE-Sim prints: exact, row by row."""

from accelsim.validation.outcome import validate
from accelsim.validation.registry import get_reference


def test_every_row_is_exact():
    outcome = validate(get_reference("scalesim"))
    assert [row for row in outcome.rows if row.predicted != row.reference] == []
    assert {kind: each.count for kind, each in outcome.kinds.items()} == {
        "is": 24,
        "os": 21,
        "ws": 13,
    }
