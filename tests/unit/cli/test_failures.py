"""How the command line ends when something is wrong: one message, a code, no traceback."""

import subprocess
import sys

import pytest

from accelsim.errors import (
    ConfigError,
    DoesNotFitError,
    ShortageError,
    SweepInterruptedError,
    WorkloadError,
)

ONE = ("--machine", "edge-npu", "--workload", "w", "--kernel", "flash")
SEVERAL = ("--machine", "edge-npu", "--workload", "w", "--kernels")


def test_a_mistake_of_the_user_is_one_message(accelsim_command, simulator):
    simulator.failure = DoesNotFitError("the tiles do not fit")
    done = accelsim_command("run", *ONE)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "the tiles do not fit\n")


def test_a_model_that_is_missing_is_one_message(accelsim_command, simulator):
    simulator.failure = WorkloadError("`accelsim model fetch smollm2` gets it")
    done = accelsim_command("-q", "quality", "--kernel", "flash")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "`accelsim model fetch smollm2` gets it\n"


def test_a_defect_keeps_its_traceback(accelsim_command, simulator):
    simulator.failure = ZeroDivisionError("defect")
    assert accelsim_command("run", *ONE).exception is simulator.failure


def test_control_c_is_one_line(accelsim_command, simulator):
    simulator.failure = KeyboardInterrupt()
    done = accelsim_command("run", *ONE)
    assert (done.exit_code, done.stderr) == (130, "\ninterrupted\n")


def test_an_interrupted_sweep_says_how_to_go_on(accelsim_command, simulator, tmp_path):
    simulator.failure = SweepInterruptedError("interrupted: run it again")
    done = accelsim_command("-q", "sweep", tmp_path / "s.yaml", "--out", tmp_path)
    assert (done.exit_code, done.stderr) == (130, "interrupted: run it again\n")


def test_a_sweep_for_which_the_computer_is_too_small_fails(accelsim_command, simulator, tmp_path):
    simulator.failure = ShortageError("1 of 4 points are not finished")
    done = accelsim_command("-q", "sweep", tmp_path / "s.yaml", "--out", tmp_path)
    assert (done.exit_code, done.stderr) == (2, "1 of 4 points are not finished\n")


@pytest.mark.parametrize(
    "words", [("sweep", "s.yaml", "--out", "out"), ("quality", "--kernel", "flash")]
)
def test_a_mistake_leaves_no_bar_behind(accelsim_command, simulator, words):
    simulator.failure = ConfigError(["s.yaml:1:1: axes: unknown key"])
    done = accelsim_command(*words)
    assert (done.exit_code, done.stderr) == (2, "s.yaml:1:1: axes: unknown key\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("run", *ONE, "--set", "tile_q"),
            "--set tile_q: found no key=value; allowed: --set workload.q_len=4096",
        ),
        (
            ("run", *ONE, "--set", "=128"),
            "--set =128: found no key=value; allowed: --set workload.q_len=4096",
        ),
        (
            ("run", *ONE, "--set", "tile_q=1", "--set", "tile_q=2"),
            "--set tile_q: given twice; allowed: once",
        ),
        (
            ("compare", *SEVERAL, "dense,,flash", "--out", "out"),
            "--kernels dense,,flash: found an empty or repeated kernel; "
            "allowed: --kernels dense,flash",
        ),
        (
            ("compare", *SEVERAL, "flash,flash", "--out", "out"),
            "--kernels flash,flash: found an empty or repeated kernel; "
            "allowed: --kernels dense,flash",
        ),
        (
            ("compare", *SEVERAL, "flash(tile_q=64),flash( tile_q = 64 )", "--out", "out"),
            "--kernels flash(tile_q=64),flash( tile_q = 64 ): found an empty or repeated kernel; "
            "allowed: --kernels dense,flash",
        ),
        (
            ("compare", *SEVERAL, "dense,flash(tile_q=64", "--out", "out"),
            "recipe 'flash(tile_q=64': found no closing bracket; allowed: a kernel, such as "
            "flash(tile_q=128); in a YAML list, put quotes around what has brackets",
        ),
        (
            ("compare", *SEVERAL, "dense,flash(tile_q=x)", "--out", "out"),
            "flash: tile_q: found 'x', expected a valid integer",
        ),
        (
            ("compare", *SEVERAL, "dense,flsh", "--out", "out"),
            "unknown kernel 'flsh', did you mean 'flash'?; known: dense, flash",
        ),
        (
            ("sweep", "s.yaml", "--out", "out", "--address", "tcp://head:8786"),
            "--address needs --executor dask",
        ),
        (("plot", "out", "--x", "time_s"), "--x needs --y as well"),
        (("plot", "out", "--y", "time_s"), "--y needs --x as well"),
        (
            ("plot", "absent"),
            "absent: no table to plot; expected a folder with compare.csv, results.csv or "
            "infer.csv",
        ),
        (
            ("model", "tensors", "smollm2", "--layers", "0,x", "--out", "t.npz"),
            "--layers 0,x: found no list of numbers; allowed: 0,11",
        ),
        (
            ("run", *ONE, "--trace", "absent/t.json"),
            "absent/t.json: cannot write the trace: No such file or directory",
        ),
    ],
)
def test_messages(accelsim_command, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    done = accelsim_command(*words)
    assert (done.exit_code, done.stderr) == (2, f"{message}\n")


def test_plot_without_parameters_needs_them_both_only_for_columns(accelsim_command, results_table):
    done = accelsim_command("plot", results_table, "--x", "tile", "--y", "time_s")
    assert done.stderr == (
        "unknown column 'tile', did you mean 'tile_q'?; known: energy_j, hbm_read_bytes, "
        "hbm_write_bytes, kernel, machine, machine.scratchpad.capacity, macs, "
        "peak_hbm_bytes_per_s, peak_macs_per_s, tile_q, time_s, workload\n"
    )


def test_an_output_folder_below_a_file(accelsim_command, tmp_path):
    (tmp_path / "file").write_text("")
    done = accelsim_command("compare", *SEVERAL, "flash", "--out", tmp_path / "file" / "out")
    assert done.stderr == f"{tmp_path}/file/out: cannot write to the folder: Not a directory\n"


def test_a_table_that_cannot_be_replaced(accelsim_command, tmp_path):
    (tmp_path / "compare.csv").mkdir()
    done = accelsim_command("-q", "compare", *SEVERAL, "flash", "--out", tmp_path)
    assert done.stderr == f"{tmp_path}/compare.csv: cannot write the file: Is a directory\n"


@pytest.mark.parametrize("words", ["--version", "schema machine", "machines"])
def test_a_closed_pipe_ends_quietly(words):
    command = f"set -o pipefail; {sys.executable} -m accelsim {words} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
