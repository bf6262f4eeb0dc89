"""`accelsim explore` with points that need no simulator."""

import json
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from accelsim.cli.main import app
from accelsim.exploring import explore as module
from tests.unit.exploring import fakes
from tests.unit.sweeps.fakes import read_fake

FILE = """
name: tiles
machine: big
workloads: [prefill]
kernels: [flash]
axes: {tile_q: [1, 2, 4], tile_k: {from: 10, to: 20, points: 2, scale: linear}}
constraints: [tile_q * tile_k <= 40]
minimize: [time_s]
maximize: [gain]
budget: {points: 24}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = partial(module.explore, run_point=fakes.run_trade, read=read_fake)
    monkeypatch.setattr(module, "explore", run)
    path = tmp_path / "space.yaml"
    path.write_text(FILE)
    return path


def command(file: Path, *words: str) -> tuple[int, str, str]:
    line = ["explore", str(file), "--out", str(file.parent / "out"), "--workers", "1", *words]
    done = CliRunner().invoke(app, line)
    return done.exit_code, done.stdout, done.stderr


def test_the_front_is_a_table(file: Path) -> None:
    code, printed, said = command(file)
    lines = printed.splitlines()
    assert (code, lines[0]) == (
        0,
        "5 of 6 designs: 5 ok (5 run now); 1 excluded by constraints; "
        "no other design is left; 1 on the front",
    )
    (row,) = [line for line in lines if line.startswith("│")]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["4", "10", "500 ms", "4"]
    folder = file.parent / "out"
    assert said.endswith(f"wrote results.csv, front.csv and hypervolume.csv to {folder}\n")


def test_the_front_as_json_is_all_that_is_printed(file: Path) -> None:
    _, printed, _ = command(file, "--format", "json")
    assert [row["tile_q"] for row in json.loads(printed)] == [4]


@pytest.mark.parametrize(
    ("found", "changed", "message"),
    [
        (
            *("points: 24", "points: 0"),
            "10: budget.points: found 0, expected a value greater than or equal to 1\n",
        ),
        ("[1, 2, 4]", "[]", "6:8: axes.tile_q: found a list of 0, expected at least 1\n"),
        ("minimize: [time_s]", "minimize: [time]", "unknown objective 'time', did you mean"),
        (
            "<= 40",
            "<= 4",
            "found no design that meets all constraints, allowed: some; of 6 designs",
        ),
    ],
)
def test_a_mistake_is_one_message(file: Path, found: str, changed: str, message: str) -> None:
    file.write_text(FILE.replace(found, changed))
    code, printed, said = command(file)
    assert (code, printed) == (2, "")
    assert message in said
    assert "Traceback" not in said


def test_an_address_is_for_dask(file: Path) -> None:
    assert command(file, "--address", "tcp://head:8786")[2] == "--address needs --executor dask\n"
