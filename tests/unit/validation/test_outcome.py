"""Predictions beside references: statistics, bounds, machines, and what a failure says."""

import pytest
from rich.console import Console

from accelsim.errors import ConfigError, DoesNotFitError
from accelsim.loading import load_machine
from accelsim.validation.display import outcome_tables
from accelsim.validation.outcome import DisagreementError, validate
from tests.unit.validation.said import FILE, reference


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "said.csv"
    path.write_text(FILE)
    return path


def test_errors_are_shares_of_the_reference_by_kind(file):
    kinds = validate(reference(), file).to_dict(num_worst=1)["kinds"]
    assert list(kinds) == ["a", "b"]
    # |+10 %| and |-25 %|: the 90th percentile is nine tenths of the way between the two.
    assert kinds["a"]["count"] == 2
    assert kinds["a"]["mape"] == pytest.approx(17.5)
    assert kinds["a"]["median"] == pytest.approx(17.5)
    assert kinds["a"]["p90"] == pytest.approx(10 + 0.9 * 15)
    assert kinds["a"]["bias"] == pytest.approx(-7.5)
    assert [row["line"] for row in kinds["a"]["worst"]] == [3]
    assert kinds["b"] == dict.fromkeys(("mape", "median", "p90", "bias"), 0) | {
        "quantity": "time_s",
        "count": 2,
        "worst": [],
    }


def test_all_rows_are_told_with_their_lines(file):
    outcome = validate(reference(), file).to_dict(num_worst=0)
    assert outcome["file"] == "said.csv"
    assert outcome["all"]["count"] == len(outcome["rows"]) == 4
    assert outcome["rows"][1] == {
        "line": 3,
        "kind": "a",
        "label": "row of a",
        "predicted": 3,
        "reference": 4,
        "unknown": "",
        "error_percent": -25,
    }


def test_a_mean_error_above_the_one_allowed_is_an_error_of_its_kind(file):
    outcome = validate(reference(), file)
    outcome.check(None)
    outcome.check(17.51)
    with pytest.raises(DisagreementError) as error:
        outcome.check(17.49)
    assert str(error.value) == "a: found a mean error of 17.5 %, allowed by --max-error: 17.49 %"
    assert error.value.exit_code == 1
    with pytest.raises(DisagreementError):
        outcome.check(float("nan"))


def test_a_prediction_below_a_lower_bound_is_an_error(file):
    with pytest.raises(DisagreementError) as error:
        validate(reference(is_lower_bound=True), file).check(None)
    assert str(error.value) == "a, row of a: found 3, below the bound of 4 (line 3 of said.csv)"


def test_a_reference_chooses_the_rows_that_count(file):
    outcome = validate(reference(select=lambda rows: rows[2:]), file)
    assert [row.line for row in outcome.rows] == [4, 5]


def test_progress_is_told(file):
    told = []
    validate(reference(), file, progress=lambda *pair: told.append(pair))
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("machine", [None, "ascend-910b-no-l2", load_machine("ascend-910b-no-l2")])
def test_a_machine_replaces_the_one_of_the_reference(file, machine):
    measured = reference(machine="edge-npu", predict=lambda row, machine: machine.cores)
    outcome = validate(measured, file, machine)
    expected = ("edge-npu", 1) if machine is None else ("ascend-910b-no-l2", 24)
    assert (outcome.machine, outcome.rows[0].predicted) == expected


def test_a_machine_where_every_row_has_its_own_is_a_mistake(file):
    with pytest.raises(ConfigError) as error:
        validate(reference(), file, "edge-npu")
    assert str(error.value) == (
        "--machine edge-npu: each row of the reference said describes its own hardware, so none "
        "can be chosen"
    )


def test_a_row_that_the_model_cannot_do_names_its_line(file):
    def refuse(row):
        raise DoesNotFitError("too large")

    with pytest.raises(ConfigError) as error:
        validate(reference(predict=refuse), file)
    assert str(error.value) == f"{file}:2: row of a: too large"


@pytest.mark.parametrize("said", [float("nan"), float("inf")])
def test_a_prediction_that_is_not_finite_is_an_error(file, said):
    """Neither a mean nor a bound says anything of it."""
    with pytest.raises(ConfigError) as error:
        validate(reference(predict=lambda row: said), file)
    assert str(error.value) == (
        f"{file}:2: row of a: the model says {said}, expected a finite number"
    )


def test_the_tables_show_errors_and_the_worst_rows(file):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(outcome_tables(validate(reference(), file), num_worst=1))
    shown = [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]
    assert shown[0] == "time against said"
    assert "a 2 17.50 % 17.50 % 23.50 % -7.50 %" in shown
    assert "b 2 0 % 0 % 0 % 0 %" in shown
    assert "a 3 row of a 3 s 4 s -25.00 %" in shown
    assert not any("row of b" in line for line in shown)


def test_a_kind_of_another_quantity_is_told_in_its_unit(file):
    outcome = validate(reference(quantities={"a": "energy_j"}), file)
    console = Console(width=200, record=True)
    console.print(outcome_tables(outcome, num_worst=2))
    text = console.export_text()
    assert "3 J" in text
    kinds = outcome.to_dict(num_worst=0)["kinds"]
    assert (kinds["a"]["quantity"], kinds["b"]["quantity"]) == ("energy_j", "time_s")


def test_what_is_not_known_is_told_once_for_all_lines(file):
    known = {"a": "clock; host", "b": ""}
    outcome = validate(reference(unknown_of=lambda row: known[row.name]), file)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(outcome_tables(outcome, num_worst=0))
    shown = [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]
    assert shown.count("2-3 clock; host") == 1
    assert not any(line.startswith("4-5") for line in shown)
    assert [row["unknown"] for row in outcome.to_dict(num_worst=0)["rows"]] == [
        *("clock; host", "clock; host"),
        *("", ""),
    ]
