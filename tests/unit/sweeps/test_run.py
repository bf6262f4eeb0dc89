"""Whole sweeps with fake points: resuming, failing, killing, sharing a folder."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from accelsim.errors import (
    DoesNotFitError,
    LostWorkerError,
    OutputError,
    ShortageError,
    SweepInterruptedError,
    UnknownNameError,
    WorkersError,
)
from accelsim.runtime import workers as workers_module
from accelsim.sweeps import run as run_module
from accelsim.sweeps.outcome import Outcome, unfinished
from accelsim.sweeps.points import expand
from accelsim.sweeps.resolve import Point
from accelsim.sweeps.run import SweepResult, sweep
from accelsim.sweeps.spec import SweepSpec
from accelsim.sweeps.store import FILE_NAME, Store
from tests.unit.sweeps import fakes

RunLog = Callable[[], list[int]]


def run(
    folder: Path, spec: SweepSpec, run_point: Any = fakes.run_quick, **more: Any
) -> SweepResult:
    options = {"workers": 1, "run_point": run_point, "read": fakes.read_fake, **more}
    return sweep(spec, folder, **options)


def test_a_sweep_leaves_one_row_per_point(tmp_path: Path, run_log: RunLog) -> None:
    result = run(tmp_path / "out", fakes.grid_of(4))
    assert run_log() == [1, 2, 3, 4]
    assert result.num_by_status == {"ok": 4}
    assert (result.num_points, result.num_run, result.num_excluded) == (4, 4, 0)
    saved = pd.read_parquet(result.parquet)
    pd.testing.assert_frame_equal(saved, result.to_frame(), check_dtype=False)
    assert saved["cycles"].tolist() == pd.read_csv(result.csv)["cycles"].tolist()
    assert saved[["tile_q", "cycles", "status"]].to_numpy().tolist() == [
        *([1, 1000, "ok"], [2, 500, "ok"], [3, 333, "ok"], [4, 250, "ok"])
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_short_points_are_recorded_together_and_long_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    shares, released = list[list[int]](), list[str]()
    record, release = Store.record, Store.release

    def noted(store: Store, finished: list[tuple[Point, int, Outcome]]) -> None:
        shares.append([point.columns["tile_q"] for point, _, _ in finished])
        record(store, finished)

    def noted_release(store: Store, ids: list[str]) -> None:
        released.extend(ids)
        release(store, ids)

    monkeypatch.setattr(Store, "record", noted)
    monkeypatch.setattr(Store, "release", noted_release)
    result = run(tmp_path, fakes.grid_of(60), fakes.run_uneven, workers=workers)
    assert result.num_run == 60
    assert sorted(tile for share in shares for tile in share) == list(range(1, 61))
    assert sum(len(share) > 1 for share in shares) >= 1
    # A share that meets a long point ends with it, and what is left of it is given back.
    assert all(len([tile for tile in share if tile > 40]) <= 1 for share in shares)
    assert released


def test_a_second_run_does_only_the_rest(tmp_path: Path, run_log: RunLog) -> None:
    run(tmp_path, fakes.grid_of(3))
    result = run(tmp_path, fakes.grid_of(5))
    assert run_log() == [1, 2, 3, 4, 5]
    assert (result.num_points, result.num_run) == (5, 2)
    assert run(tmp_path, fakes.grid_of(5)).num_run == 0


def test_what_fails_is_a_row_with_its_reason(tmp_path: Path, run_log: RunLog) -> None:
    result = run(tmp_path, fakes.grid_of(4), fakes.run_picky)
    frame = result.to_frame()
    assert frame["status"].tolist() == ["ok", "infeasible", "failed", "infeasible"]
    assert frame["reason"][1] == "tile_q = 2 does not fit"
    assert frame["reason"][2].startswith("ZeroDivisionError: a defect (at fakes.py:")
    assert " in run_picky < outcome.py:" in frame["reason"][2]
    assert frame["tile_q"].tolist() == [1, 2, 3, 4]
    assert result.num_by_status == {"ok": 1, "infeasible": 2, "failed": 1}


def test_what_workers_lack_is_told_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ShortageError, match=r"^7 of 9 points are not finished"):
        run(tmp_path, fakes.grid_of(9), fakes.run_short, workers=2)
    assert len(committed(tmp_path)) == 2


def test_what_the_computer_lacked_is_tried_again(tmp_path: Path, run_log: RunLog) -> None:
    folder = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(ShortageError) as caught:
            run(folder, fakes.grid_of(9), fakes.run_short, workers=1)
        first, last = str(caught.value).splitlines()
        assert first.startswith(
            "7 of 9 points are not finished, for what this computer lacks: "
            "MemoryError: Unable to allocate 9 TiB (at fakes.py:"
        )
        assert last == (
            f"the others are kept in {folder}; run the same command again to do the rest"
        )
        assert caught.value.exit_code != 0
        assert pd.read_csv(folder / "results.csv")["tile_q"].tolist() == [1, 9]
        assert len(committed(folder)) == 2
    (tmp_path / "runs.more").touch()
    result = run(folder, fakes.grid_of(9), fakes.run_short, workers=1)
    assert (result.num_run, result.num_by_status) == (7, {"ok": 9})
    assert sorted(run_log()) == list(range(1, 10))


@pytest.mark.parametrize("error", fakes.LACKS.values())
def test_a_lack_is_no_property_of_a_design(error: Exception) -> None:
    (point,) = expand(fakes.grid_of(1), fakes.read_fake, "1.0").points
    assert unfinished(point, error).status == "lacking"
    assert unfinished(point, ZeroDivisionError()).status == "failed"
    assert unfinished(point, DoesNotFitError("no")).status == "infeasible"


def read_of(**changes: Any) -> Any:
    """Documents of which the workload has other contents under its name."""

    def read(kind: str, name: str, settings: Any) -> dict[str, Any]:
        return fakes.read_fake(kind, name, settings) | (changes if kind == "workload" else {})

    return read


def test_results_of_other_code_are_kept_and_not_shown(
    tmp_path: Path, run_log: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = iter(("before", "before", "after", "before"))
    found = []
    for digest in digests:
        monkeypatch.setattr(run_module, "accelsim_digest", lambda digest=digest: digest)
        result = run(tmp_path, fakes.grid_of(2))
        found.append((result.num_run, len(pd.read_csv(result.csv)), result.num_set_aside))
    assert found == [(2, 2, 0), (0, 2, 0), (2, 2, 2), (0, 2, 2)]


def test_results_of_files_that_have_changed_are_kept_and_not_shown(
    tmp_path: Path, run_log: RunLog
) -> None:
    run(tmp_path, fakes.grid_of(3))
    result = run(tmp_path, fakes.grid_of(2), read=read_of(q_len=7))
    # The point of the larger grid is not asked for now, and nothing says that it is out of date.
    assert [row["tile_q"] for row in result.rows] == [1, 2, 3]
    assert (result.num_run, result.num_set_aside) == (2, 2)
    assert len({row["workload_digest"] for row in result.rows}) == 2
    back = run(tmp_path, fakes.grid_of(3))
    assert (back.num_run, back.num_set_aside) == (0, 2)


def test_settings_that_contradict_each_other_are_a_row(tmp_path: Path, run_log: RunLog) -> None:
    spec = SweepSpec.model_validate(
        {
            **fakes.grid_of(1).model_dump(exclude={"axes"}),
            "axes": {"workload.kv_heads": (3, 4)},
        }
    )
    frame = run(tmp_path, spec).to_frame()
    assert frame["status"].tolist() == ["infeasible", "ok"]
    assert frame["reason"][0] == "workload.kv_heads: does not divide q_heads"
    assert len(run_log()) == 1


def test_progress_counts_every_point_and_starts_where_it_was(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run(tmp_path, fakes.grid_of(2))
    run(tmp_path, fakes.grid_of(4), progress=lambda done, total: seen.append((done, total)))
    assert list(dict.fromkeys(seen)) == [(2, 4), (3, 4), (4, 4)]


def test_processes_give_the_same_table(tmp_path: Path, run_log: RunLog) -> None:
    alone = run(tmp_path / "one", fakes.grid_of(12), fakes.run_picky)
    together = run(tmp_path / "two", fakes.grid_of(12), fakes.run_picky, workers=2)
    assert together.csv.read_text() == alone.csv.read_text()
    assert together.num_run == 12


@pytest.mark.slow
@pytest.mark.filterwarnings("default::ResourceWarning")
def test_dask_gives_the_same_table(tmp_path: Path, run_log: RunLog) -> None:
    alone = run(tmp_path / "one", fakes.grid_of(6), fakes.run_picky)
    on_dask = run(tmp_path / "two", fakes.grid_of(6), fakes.run_picky, executor="dask")
    assert on_dask.csv.read_text() == alone.csv.read_text()


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, run_log: RunLog) -> None:
    folder = tmp_path / "out"
    with pytest.raises(SweepInterruptedError) as caught:
        run(folder, fakes.grid_of(4), fakes.run_interrupted)
    assert str(caught.value) == (
        f"interrupted: 2 of 4 points are finished and kept in {folder}; "
        "run the same command again to do the rest"
    )
    assert caught.value.exit_code == 130
    assert len(pd.read_csv(folder / "results.csv")) == 2
    (tmp_path / "runs.again").touch()
    assert run(folder, fakes.grid_of(4), fakes.run_interrupted).num_run == 2
    assert run_log() == [1, 2, 3, 4]


def test_a_lost_worker_is_an_error_that_keeps_the_rest(tmp_path: Path) -> None:
    with pytest.raises(LostWorkerError) as caught:
        run(tmp_path, fakes.grid_of(4), fakes.run_fatal, workers=2)
    assert str(caught.value).startswith("a worker process ended abruptly: for lack of memory, ")
    assert str(caught.value).endswith("; finished points are kept, run the sweep again")
    assert run(tmp_path, fakes.grid_of(4)).num_run == 4


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"executor": "dusk"},
            UnknownNameError,
            "unknown executor 'dusk', did you mean 'dask'?; known: dask, local",
        ),
        ({"workers": 0}, WorkersError, "found 0 workers, allowed: 1 or more"),
        (
            {"address": "tcp://127.0.0.1:1"},
            WorkersError,
            "an address is for the executor 'dask'; 'local' has none",
        ),
    ],
)
def test_workers_that_cannot_be_had(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        run(tmp_path, fakes.grid_of(1), **options)
    assert str(caught.value) == message


@pytest.mark.parametrize("address", ["nowhere", "tcp://nowhere:1", "udp://127.0.0.1:1"])
def test_a_dask_address_of_no_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(workers_module, "_CONNECT_TIMEOUT_S", 0.2)
    with pytest.raises(
        WorkersError, match=rf"^cannot reach a Dask scheduler at '{address}' \(.+\)$"
    ):
        run(tmp_path, fakes.grid_of(1), executor="dask", address=address)


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_a_dask_cluster_without_workers(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(WorkersError) as caught:
            run(tmp_path, fakes.grid_of(1), executor="dask", address=address)
    assert str(caught.value) == f"the Dask scheduler at '{address}' has no workers"


def test_a_folder_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError) as caught:
        run(tmp_path / "out", fakes.grid_of(1))
    assert str(caught.value) == (f"{tmp_path / 'out' / FILE_NAME}: cannot be written (File exists)")


SCRIPT = """
import sys
from accelsim.sweeps.run import sweep
from tests.unit.sweeps import fakes

if __name__ == "__main__":
    sweep(fakes.grid_of(int(sys.argv[2])), sys.argv[1], workers=int(sys.argv[3]),
          run_point=fakes.run_slow, read=fakes.read_fake)
"""


def start(folder: Path, points: int, workers: int) -> subprocess.Popen[bytes]:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(points), str(workers)],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen in 30 s")


def committed(folder: Path) -> list[str]:
    """Ids in the store, in no order."""
    connection = sqlite3.connect(f"file:{folder / FILE_NAME}?mode=ro", uri=True)
    try:
        return [id_ for (id_,) in connection.execute("SELECT id FROM points")]
    finally:
        connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_sweep_loses_nothing_and_repeats_nothing(
    tmp_path: Path, run_log: RunLog, workers: int
) -> None:
    folder, points = tmp_path / "out", 60
    for finished in (5, 20):
        process = start(folder, points, workers)
        wait_until(lambda finished=finished: len(run_log()) >= finished)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = committed(folder)
    result = run(folder, fakes.grid_of(points), fakes.run_slow)
    assert set(kept) <= {row["point"] for row in result.rows}
    assert result.num_run == points - len(kept)
    assert result.num_by_status == {"ok": points}
    # Only what was under way at one of the two kills runs again.
    under_way = workers if workers == 1 else 2 * workers
    assert len(run_log()) - points <= 2 * under_way
    assert set(run_log()) == set(range(1, points + 1))


def test_workers_end_with_a_killed_sweep(tmp_path: Path, run_log: RunLog) -> None:
    process = start(tmp_path / "out", 10_000, 2)
    wait_until(lambda: len(run_log()) > 2)
    process.send_signal(signal.SIGKILL)
    process.wait()

    def has_ended() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(has_ended)


def test_ctrl_c_stops_a_sweep_with_processes(tmp_path: Path, run_log: RunLog) -> None:
    process = start(tmp_path / "out", 10_000, 2)
    wait_until(lambda: len(run_log()) > 2 and len(committed(tmp_path / "out")) > 0)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 1
    assert len(pd.read_csv(tmp_path / "out" / "results.csv")) == len(committed(tmp_path / "out"))


def test_two_sweeps_share_a_folder_without_repeating_a_point(
    tmp_path: Path, run_log: RunLog
) -> None:
    folder, points = tmp_path / "out", 60
    processes = [start(folder, points, 1) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert sorted(run_log()) == list(range(1, points + 1))
    assert pd.read_csv(folder / "results.csv")["tile_q"].tolist() == list(range(1, points + 1))


def test_a_sweep_takes_over_from_one_that_is_killed(tmp_path: Path, run_log: RunLog) -> None:
    folder, points = tmp_path / "out", 60
    killed, other = start(folder, points, 1), start(folder, points, 1)
    wait_until(lambda: len(run_log()) > 10)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert other.wait(timeout=60) == 0
    assert len(committed(folder)) == points
    assert len(run_log()) <= points + 1
