import sqlite3
from pathlib import Path

import pytest

from accelsim.errors import OutputError
from accelsim.sweeps.outcome import Outcome
from accelsim.sweeps.resolve import Point
from accelsim.sweeps.store import FILE_NAME, Store

OK = Outcome(status="ok", row={"cycles": 7, "note": "ü", "energy_j": 1.5, "rmse": None})


NOW = {"1.0"}
OLD_LAYOUT = """
CREATE TABLE points (
    id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('ok', 'infeasible', 'failed')),
    reason TEXT NOT NULL,
    row TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE claims (id TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
PRAGMA application_id = 0x61636373;
PRAGMA user_version = 1;
"""


def point(id_: str, version: str = "1.0", label: str = "") -> Point:
    subjects = {"machine": "m", "workload": "w", "kernel": "k"}
    label = label or f"label of {id_}"
    return Point(id=id_, version=version, label=label, **subjects, settings={}, columns={})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a" / "b"


def test_a_recorded_point_is_there_for_the_next_sweep(folder: Path) -> None:
    with Store(folder) as store:
        store.record([(point("b"), 1, Outcome(status="infeasible", reason="too big"))])
        store.record([(point("a"), 0, OK)])
    with Store(folder) as store:
        assert store.finished() == {"a", "b"}
        assert store.rows(NOW, []) == [
            {"point": "a", "status": "ok", "reason": "", **OK.row},
            {"point": "b", "status": "infeasible", "reason": "too big"},
        ]


def test_the_first_result_of_a_point_stays(folder: Path) -> None:
    with Store(folder) as store:
        store.record([(point("a"), 0, OK)])
        store.record([(point("a"), 0, Outcome(status="failed"))])
        assert [row["status"] for row in store.rows(NOW, [])] == ["ok"]


def test_rows_of_other_code_are_kept_but_not_shown(folder: Path) -> None:
    with Store(folder) as store:
        store.record([(point("a"), 0, OK)])
        store.record([(point("b", "1.1"), 1, OK)])
    with Store(folder) as store:
        shown = [
            store.rows(versions, []) for versions in ({"1.0"}, {"1.1"}, {"1.2"}, {"1.0", "1.1"})
        ]
        assert [[row["point"] for row in rows] for rows in shown] == [["a"], ["b"], [], ["a", "b"]]
        assert store.finished() == {"a", "b"}


def test_a_row_of_files_that_have_changed_is_kept_but_not_shown(folder: Path) -> None:
    with Store(folder) as store:
        store.record([(point("old", label="tile 8"), 0, OK)])
        store.record([(point("other", label="tile 16"), 0, OK)])
        assert [row["point"] for row in store.rows(NOW, [])] == ["old", "other"]
        new = point("new", label="tile 8")
        assert [row["point"] for row in store.rows(NOW, [new])] == ["other"]
        store.record([(new, 0, OK)])
        assert [row["point"] for row in store.rows(NOW, [new])] == ["new", "other"]
        assert store.finished() == {"old", "other", "new"}


def test_a_store_of_accelsim_0_1_0_opens_and_keeps_its_rows(folder: Path) -> None:
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.executescript(OLD_LAYOUT)
        connection.execute("INSERT INTO points VALUES ('a', 0, '0.1.0', 'ok', '', '{}')")
    connection.close()
    for _ in range(2):
        with Store(folder) as store:
            assert store.finished() >= {"a"}
            store.record([(point("b"), 1, OK)])
            assert [row["point"] for row in store.rows(NOW, [])] == ["b"]
            assert [row["point"] for row in store.rows({"0.1.0"}, [])] == ["a"]


def test_a_point_is_claimed_by_one_sweep(folder: Path) -> None:
    with Store(folder) as one, Store(folder) as other:
        one.record([(point("done"), 0, OK)])
        assert one.claim(["a", "b", "done"]) == {"a", "b"}
        assert other.claim(["b", "c", "done"]) == {"c"}
        other.free_abandoned_claims()
        assert other.claim(["a", "b"]) == set()


def test_a_claim_that_is_given_back_is_free(folder: Path) -> None:
    with Store(folder) as one, Store(folder) as other:
        one.claim(["a", "b"])
        other.release(["a", "b"])  # They are not its own.
        assert other.claim(["a", "b"]) == set()
        one.release(["b"])
        assert other.claim(["a", "b"]) == {"b"}


def test_closing_gives_claims_back(folder: Path) -> None:
    with Store(folder) as one:
        one.claim(["a"])
    with Store(folder) as other:
        assert other.claim(["a"]) == {"a"}


@pytest.mark.parametrize("has_lock_file", [True, False])
def test_claims_of_a_sweep_that_died_are_freed(folder: Path, has_lock_file: bool) -> None:
    dead = folder / f"{FILE_NAME}.dead.lock"
    with Store(folder) as store:
        store._connection.execute("INSERT INTO claims VALUES ('a', 'dead')")
        if has_lock_file:
            dead.touch()
        assert store.claim(["a"]) == set()
        store.free_abandoned_claims()
        assert store.claim(["a"]) == {"a"}
    assert not dead.exists()


def test_a_closed_store_is_one_file(folder: Path) -> None:
    with Store(folder) as store:
        store.record([(point("a"), 0, OK)])
    assert [path.name for path in folder.iterdir()] == [FILE_NAME]


def test_a_full_disk(folder: Path) -> None:
    with Store(folder) as store:
        store.record([(point("a"), 0, OK)])
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutputError) as caught:
            store.record([(point("b"), 0, Outcome(status="ok", row={"text": "x" * 100_000}))])
        assert str(caught.value) == (
            f"{folder / FILE_NAME}: the disk is full; finished points are kept, make room and run "
            "the sweep again"
        )
        assert store.finished() == {"a"}


def test_a_full_disk_during_a_claim_leaves_no_half_claim(folder: Path) -> None:
    with Store(folder) as store:
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OutputError, match="the disk is full"):
            store.claim([f"{number:0200}" for number in range(1000)])
        assert store._connection.execute("SELECT count(*) FROM claims").fetchone() == (0,)


def test_a_damaged_store(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / FILE_NAME).write_bytes(b"not a database" * 1000)
    with pytest.raises(OutputError) as caught:
        Store(folder)
    assert str(caught.value) == (
        f"{folder / FILE_NAME}: damaged or not a store of accelsim (file is not a database); "
        "choose another output folder"
    )


def test_the_database_of_another_program(folder: Path) -> None:
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.execute("CREATE TABLE points (id)")
    connection.close()
    with pytest.raises(OutputError) as caught:
        Store(folder)
    assert str(caught.value) == (
        f"{folder / FILE_NAME}: a database of another program; choose another output folder"
    )


def test_a_store_of_another_layout(folder: Path) -> None:
    with Store(folder) as store:
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(OutputError) as caught:
        Store(folder)
    assert str(caught.value) == (
        f"{folder / FILE_NAME}: found store version 99, allowed: 1 and 2; choose another output "
        "folder"
    )


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "out"
    with pytest.raises(OutputError) as caught:
        Store(folder)
    assert str(caught.value) == f"{folder / FILE_NAME}: cannot be written (Not a directory)"


def test_a_store_that_cannot_be_opened(folder: Path) -> None:
    (folder / FILE_NAME).mkdir(parents=True)
    with pytest.raises(OutputError) as caught:
        Store(folder)
    assert str(caught.value) == (
        f"{folder / FILE_NAME}: cannot be written (unable to open database file)"
    )
