"""`accelsim validate` as a user has it."""

import csv
import json

import pytest

HEADER = "dataflow,array_rows,array_cols,M,N,K,cycles\n"
OFF = HEADER + "os,4,4,8,8,8,50\nws,4,4,4,4,4,13\n"
"""2 x 2 folds of 4 + 4 + 8 - 2 cycles, the last one numbered 55, not 50; 8 + 4 + 4 - 2, exact."""
MISSED = "os: found a mean error of 10 %, allowed by --max-error: 5 %\n"


def test_the_shipped_file_is_met_exactly(accelsim_command):
    done = accelsim_command("-q", "validate", "--against", "scalesim", "--max-error", "0")
    assert done.exit_code == 0
    assert "cycles against scalesim" in done.stdout


def test_json_is_nothing_but_json(accelsim_command, file):
    name = file("mine.csv", OFF)
    done = accelsim_command(
        "validate", "--against", "scalesim", "--reference", name, "--format", "json"
    )
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert {kind: (each["count"], each["mape"]) for kind, each in result["kinds"].items()} == {
        "os": (1, pytest.approx(10)),
        "ws": (1, 0),
    }


def test_too_large_an_error_prints_the_table_and_fails(accelsim_command, file):
    command = ("validate", "--against", "scalesim", "--reference", file("mine.csv", OFF))
    done = accelsim_command(*command, "--max-error", "5")
    assert done.exit_code == 1
    assert "mine.csv" in done.stdout
    assert done.stderr.endswith(MISSED)
    assert accelsim_command(*command, "--max-error", "11").exit_code == 0


def test_a_folder_gets_rows_summary_and_figure(accelsim_command, file, tmp_path):
    name = file("mine.csv", OFF)
    command = ("validate", "--against", "scalesim", "--reference", name, "--out", "o")
    assert accelsim_command(*command).exit_code == 0
    found = {path.name for path in (tmp_path / "o").iterdir()}
    assert found == {"rows.csv", "summary.json", "agreement.png", "agreement.svg"}
    with (tmp_path / "o" / "rows.csv").open() as rows:
        assert [row["line"] for row in csv.DictReader(rows)] == ["2", "3"]
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["kinds"]["ws"]["mape"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--against", "scalsim"),
            "unknown reference 'scalsim', did you mean 'scalesim'?; known: ",
        ),
        (
            ("--against", "scalesim", "--machine", "edge-npu"),
            "--machine edge-npu: each row of the reference scalesim describes its own hardware",
        ),
        (("--against", "scalesim", "--reference", "none.csv"), "none.csv: no such file"),
        (
            ("--against", "scalesim", "--reference", "bad.csv"),
            "bad.csv:2: K: found 'eight', expected a valid integer",
        ),
    ],
)
def test_mistakes(accelsim_command, file, words, message):
    file("bad.csv", HEADER + "os,4,4,8,8,eight,55\n")
    done = accelsim_command("-q", "validate", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
