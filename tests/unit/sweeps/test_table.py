import errno
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from accelsim.errors import OutputError
from accelsim.sweeps import table

ROWS: list[dict[str, Any]] = [
    {"point": "a", "tile_q": 16, "cycles": 2**60 + 1, "energy_j": 0.1, "rmse": None},
    {"point": "b", "tile_q": "auto", "energy_j": 2.0, "reason": "a\nb, c", "rmse": None},
]


def test_both_files_hold_the_table(tmp_path: Path) -> None:
    table.export(ROWS, tmp_path)
    exact = pd.read_parquet(tmp_path / "results.parquet")
    text = pd.read_csv(tmp_path / "results.csv")
    assert list(exact.columns) == list(text.columns)
    assert text["cycles"][0] == exact["cycles"][0] == 2**60 + 1
    assert exact["cycles"].isna().tolist() == [False, True]
    assert exact["tile_q"].tolist() == ["16", "auto"]
    assert text["reason"][1] == exact["reason"][1] == "a\nb, c"
    assert exact["energy_j"].tolist() == [0.1, 2.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.parquet"]


def test_a_table_without_rows(tmp_path: Path) -> None:
    table.export([], tmp_path)
    assert pd.read_parquet(tmp_path / "results.parquet").empty


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "cannot be written (Read-only file system)"),
    ],
)
def test_a_failed_export_keeps_the_old_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, problem: str
) -> None:
    table.export(ROWS, tmp_path)

    def fail(frame: pd.DataFrame, path: Path, **_: Any) -> None:
        path.write_text("half a ta")
        raise OSError(number, "Read-only file system")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OutputError) as caught:
        table.export(ROWS[:1], tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'results.csv'}: {problem}; the results are safe in the store"
    )
    assert len(pd.read_csv(tmp_path / "results.csv")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.parquet"]
