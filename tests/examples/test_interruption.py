"""Ctrl-C and a full disk: the command ends with one message, and what is finished is kept."""

import contextlib
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import accelsim
from accelsim.simulation import simulate

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(accelsim.__file__).parents[1])}
"""Commands run elsewhere, and this checkout need not be installed."""

PATIENCE_S = 120
"""Only so that a command that never ends does not stop the tests."""

ENDLESS = """
import sys
import accelsim.simulation
original = accelsim.simulation.load_counted_tensors
def announced(*arguments):
    print("started", flush=True)
    return original(*arguments)
accelsim.simulation.load_counted_tensors = announced
from accelsim.cli.main import main
sys.argv[1:] = ["run", "-m", "edge-npu", "-w", "attention-uniform-small", "-k", "flash",
                "--set", "workload.q_len=100000", "--set", "workload.kv_len=100000"]
main()
"""
"""A run of about an hour that says when it begins to compute."""

SWEEP = """
name: long
machine: edge-npu
workloads: [attention-2048]
kernels: [flash]
axes:
  tile_q: {from: 65, to: 128, points: 64, scale: linear}
  tile_k: {from: 65, to: 128, points: 64, scale: linear}
"""
"""More points than run in the time it takes to interrupt them."""


@contextlib.contextmanager
def started(*command, **options):
    """A command in a process group of its own, as a terminal would start it."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
        **options,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupt(process):
    """Do what Ctrl-C does; return what the command still printed on stderr."""
    os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=PATIENCE_S)
    return printed


def test_control_c_is_heard_while_compiled_code_runs():
    with started(sys.executable, "-c", ENDLESS) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(1)  # by now the kernel is being compiled or runs
        printed = interrupt(process)
    assert process.returncode == 130
    assert printed.endswith("\ninterrupted\n")
    assert "Traceback" not in printed


def finished_points(folder):
    try:
        with contextlib.closing(sqlite3.connect(folder / "results.sqlite")) as store:
            return store.execute("SELECT count(*) FROM points").fetchone()[0]
    except sqlite3.OperationalError:  # not there yet
        return 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_sweep_keeps_its_finished_points(tmp_path, workers):
    (tmp_path / "s.yaml").write_text(SWEEP)
    command = (sys.executable, "-m", "accelsim", "sweep", "s.yaml", "--out", "out")
    with started(*command, "--workers", workers, cwd=tmp_path) as process:
        while finished_points(tmp_path / "out") < 3 and process.poll() is None:
            time.sleep(0.1)
        printed = interrupt(process)
    assert process.returncode == 130
    told = re.search(
        r"(?m)^interrupted: (\d+) of 4096 points are finished and kept in out; "
        r"run the same command again to do the rest\n$",
        printed,
    )
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(table) == int(told[1]) >= 3
    assert set(table["status"]) <= {"ok", "infeasible"}


@pytest.fixture
def compiled():
    """Compiled code is on disk already: its files are larger than the limit below."""
    for workload, kernel in (("gemm-1024", "gemm"), ("attention-2048", "flash")):
        simulate("edge-npu", workload, kernel)


def run_on_a_full_disk(folder, limit_bytes, *words, **variables):
    """Run a command that can let no file grow further: to the writer, a disk that is full."""
    limits = (limit_bytes, limit_bytes)
    return subprocess.run(
        [sys.executable, "-m", "accelsim", "-q", *words],
        cwd=folder,
        env=ENVIRONMENT | variables,
        capture_output=True,
        text=True,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits),
        check=False,
    )


def test_a_disk_that_fills_during_a_sweep(tmp_path, compiled):
    (tmp_path / "s.yaml").write_text(SWEEP)
    done = run_on_a_full_disk(tmp_path, 60_000, "sweep", "s.yaml", "--out", "out", "--workers", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "out/results.sqlite: cannot be written (disk I/O error)\n"
    assert finished_points(tmp_path / "out") >= 1


def test_a_disk_that_has_no_room_for_a_trace(tmp_path, compiled):
    words = ("-m", "edge-npu", "-w", "gemm-1024", "-k", "gemm")
    done = run_on_a_full_disk(tmp_path, 20_000, "run", *words, "--trace", "t.json")
    assert done.returncode == 2
    assert done.stderr == "t.json: cannot write the trace: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_has_no_room_for_a_figure(tmp_path, compiled):
    words = ("-m", "edge-npu", "-w", "gemm-1024", "-k", "gemm")
    done = run_on_a_full_disk(tmp_path, 20_000, "compare", *words, "--out", "out")
    assert done.returncode == 2
    assert re.fullmatch(r"out/\w+\.png: cannot write the figure: File too large\n", done.stderr)
    assert (tmp_path / "out" / "compare.csv").is_file()


def test_a_disk_that_has_no_room_for_compiled_code(tmp_path):
    words = ("-m", "edge-npu", "-w", "gemm-1024", "-k", "gemm")
    cache = str(tmp_path / "cache")
    done = run_on_a_full_disk(tmp_path, 1_000, "run", *words, XDG_CACHE_HOME=cache)
    assert done.returncode == 2
    assert re.fullmatch(
        re.escape(cache) + r"/accelsim/jit: cannot keep compiled code: File too large; "
        r"make room, or set XDG_CACHE_HOME to another folder\n",
        done.stderr,
    )
