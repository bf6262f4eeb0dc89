"""Predictions by one process and by several: the same in everything but time."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from accelsim.errors import ConfigError, LostWorkerError, WorkersError
from accelsim.loading import load_machine
from accelsim.validation import predictions as module
from accelsim.validation.outcome import validate
from accelsim.validation.predictions import predictions
from accelsim.validation.registry import get_reference
from accelsim.validation.table import read_rows
from tests.unit.validation.said import FILE, reference

PATIENCE_S = 120
"""Only so that what never happens does not stop the tests."""


@pytest.fixture
def workers_at_once(monkeypatch):
    """No row is predicted before workers start."""
    monkeypatch.setattr(module, "_START_S", 0)


@pytest.fixture
def scalesim():
    return get_reference("scalesim")


def test_more_workers_say_the_same(scalesim, workers_at_once):
    told = []
    alone = validate(scalesim, workers=1)
    together = validate(scalesim, workers=2, progress=lambda *pair: told.append(pair))
    assert together.to_dict(num_worst=3) == alone.to_dict(num_worst=3)
    assert told[0] == (0, len(alone.rows))
    assert told[-1] == (len(alone.rows), len(alone.rows))
    assert told == sorted(told)


def test_a_machine_goes_with_the_rows(workers_at_once, tmp_path):
    gathers = get_reference("h200-gather")
    lines = gathers.shipped_file.read_text().splitlines()
    file = tmp_path / "gathers.csv"
    file.write_text("\n".join(lines[:3]) + "\n")
    machine = load_machine("h200-sxm", {"l2.capacity": "30 MiB"})
    outcomes = [validate(gathers, file, machine, workers=workers) for workers in (1, 2)]
    assert outcomes[0] == outcomes[1]


def test_what_is_short_starts_no_workers(scalesim, monkeypatch):
    asked = []

    def noted(workers):
        asked.append(workers)
        return local_workers(workers)

    local_workers = module.local_workers
    monkeypatch.setattr(module, "local_workers", noted)
    monkeypatch.setattr(module, "_START_S", PATIENCE_S)
    validate(scalesim, workers=2)
    assert asked == [1]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_bad_row_of_the_file_is_the_one_that_is_told(workers, workers_at_once, tmp_path):
    dram = get_reference("dram")
    header, *_, good = dram.shipped_file.read_text().splitlines()
    # Bad rows take no time, and the one in line 5 is begun before that in line 3 either way.
    bad = good.replace(",interleaved,", ",unknown,").replace(",robaracoch,", ",unknown,")
    slower, faster = (bad.split(",") for _ in range(2))
    value = header.split(",").index("achieved_GBps")
    slower[value], faster[value] = ("1", "9") if workers == 1 else ("9", "1")
    file = tmp_path / "dram.csv"
    lines = [header, good, ",".join(faster), good, ",".join(slower), good]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError) as caught:
        validate(dram, file, workers=workers)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert str(caught.value).count("found mapping 'unknown'") == 1


def test_workers_find_registered_references_only(tmp_path):
    file = tmp_path / "said.csv"
    file.write_text(FILE)
    known = get_reference("scalesim")
    own = reference(name=known.name)
    with pytest.raises(WorkersError) as caught:
        validate(own, file, workers=2)
    assert str(caught.value) == (
        "found 2 workers for a reference scalesim of your own, which only this process knows, "
        "allowed: 1"
    )


def test_fewer_workers_than_one_are_a_mistake(scalesim):
    with pytest.raises(WorkersError, match=r"^found 0 workers, allowed: 1 or more$"):
        validate(scalesim, workers=0)


def end_abruptly(name, row):
    os._exit(1)


def test_a_lost_worker_is_an_error(scalesim, workers_at_once, monkeypatch):
    monkeypatch.setattr(module, "_predict", end_abruptly)
    rows = read_rows(scalesim.shipped_file, scalesim.row)
    with pytest.raises(LostWorkerError, match=r"^a worker process ended abruptly: "):
        predictions(scalesim, rows, (), 2, lambda done, total: None)


ENDLESS = """
import sys
from pathlib import Path
from accelsim.validation import predictions
from accelsim.validation.outcome import validate
from accelsim.validation.registry import get_reference

if __name__ == "__main__":
    predictions._START_S = 0
    validate(get_reference("dram"), sys.argv[1], workers=2,
             progress=lambda done, total: print(done, flush=True))
"""


def test_control_c_leaves_no_process(tmp_path):
    shipped = get_reference("dram").shipped_file.read_text().splitlines()
    file, script = tmp_path / "dram.csv", tmp_path / "script.py"
    file.write_text("\n".join([shipped[0], *shipped[1:] * 1000]) + "\n")
    script.write_text(ENDLESS)
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(script), str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )
    try:
        before, after = (int(process.stdout.readline()) for _ in range(2))
        assert before == 0 < after
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode != 0
        assert has_ended(process.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def has_ended(group):
    """Whether no process of a group is left, after some time for those that are ending."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
