"""Every command once, from its words to its files."""

import json
import sqlite3
import subprocess
import sys

import pandas as pd
import pytest

from accelsim.version import VERSION

RUN = ("run", "--machine", "edge-npu", "--workload", "attention-uniform-small")
SWEEP = """
name: tiles
machine: edge-npu
workloads: [attention-2048]
kernels: [flash, dense]
axes:
  tile_q: [16, 32, 64, 128, 256]
  tile_k: [16, 32]
"""


def cells(table):
    """First two columns of a printed table."""
    lines = [line.split("│")[1:3] for line in table.splitlines() if line.startswith("│")]
    return {first.strip(): second.strip() for first, second in lines}


def test_run_prints_the_numbers_that_json_has(accelsim_command):
    table = cells(accelsim_command(*RUN, "--kernel", "flash").stdout)
    report = json.loads(accelsim_command(*RUN, "--kernel", "flash", "--format", "json").stdout)
    assert table["cycles"] == f"{report['cycles']:,} cycles"
    assert table["bound by"] == report["bound_by"]
    assert table["HBM bytes of q"] == f"{report['hbm_bytes_by_tensor']['q'] / 1000:.4g} kB"
    # 4 heads of 256 rows of 64 elements of 2 bytes.
    assert report["hbm_bytes_by_tensor"]["q"] == 4 * 256 * 64 * 2
    assert 0 < report["accuracy"]["relative_rmse"] < 2**-10


def test_a_run_without_a_kernel_says_what_was_picked(accelsim_command):
    picked = accelsim_command(*RUN)
    assert cells(picked.stdout)["recipe"] == "flash (picked by library npu)"
    report = json.loads(accelsim_command(*RUN, "--format", "json").stdout)
    assert (report["kernel"], report["recipe"], report["library"]) == ("flash", "flash", "npu")
    named = json.loads(accelsim_command(*RUN, "-k", "flash", "--format", "json").stdout)
    assert named == report | {"library": ""}


LAYER = """
kind: layer
name: two-projections
problems:
  - {kind: gemm, name: up, m: 1, n: 64, k: 32, count: 2}
  - {kind: gemm, name: down, m: 1, n: 32, k: 64}
"""


def test_a_layer_has_a_trace_and_a_program(accelsim_command, tmp_path):
    (tmp_path / "layer.yaml").write_text(LAYER)
    words = ("--machine", "edge-npu", "--workload", "layer.yaml")
    table = cells(accelsim_command("run", *words, "--trace", "t.json").stdout)
    assert table["run as"] == "one program"
    assert "run as" not in cells(accelsim_command("run", *words).stdout)
    assert cells(accelsim_command("run", *words, "--as-one").stdout) == table
    trace = json.loads((tmp_path / "t.json").read_text())
    ops = [event["name"] for event in trace["traceEvents"] if event["ph"] == "X"]
    assert ops.count("store 0.up[0].c") == ops.count("store 0.up[1].c") > 0
    assert {"load 0.up.b", "matmul 0.up.acc", "load 1.down.b", "store 1.down.c"} <= set(ops)
    program = accelsim_command("program", *words).stdout.splitlines()
    assert program[0] == "program two-projections"
    assert "  tensor 0.up[1].c output 1x64 x 16 bit at 12288" in program
    assert "item 2 phase 2" in program


def test_run_writes_a_trace_for_perfetto(accelsim_command, tmp_path):
    done = accelsim_command(*RUN, "--kernel", "flash", "--trace", "t.json")
    assert done.stderr == "wrote t.json; open it with Perfetto\n"
    trace = json.loads((tmp_path / "t.json").read_text())
    assert {event["ph"] for event in trace["traceEvents"]} == {"X", "C", "M"}


def test_compare_leaves_a_table_and_figures(accelsim_command, tmp_path):
    words = ("--kernels", "dense,flash(tile_q=64)", "--out", "out", "--timeline")
    done = accelsim_command("compare", *RUN[1:], *words)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.endswith("wrote compare.csv and 10 figures to out\n")
    table = pd.read_csv(tmp_path / "out" / "compare.csv", index_col="kernel")
    assert table.index.tolist() == ["dense", "flash(tile_q=64)"]
    assert table["recipe"].tolist() == table.index.tolist()
    assert table.loc["dense", "hbm_read_bytes"] > table.loc["flash(tile_q=64)", "hbm_read_bytes"]
    figures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert figures == {
        "traffic.png",
        "energy.png",
        "roofline.png",
        "timeline-dense.png",
        "timeline-flash(tile_q=64).png",
    }


def test_a_sweep_runs_its_points_once(accelsim_command, file, tmp_path):
    file("sweep.yaml", SWEEP)
    first = accelsim_command("-q", "sweep", "sweep.yaml", "--out", "out", "--workers", 2)
    again = accelsim_command("-q", "sweep", "sweep.yaml", "--out", "out", "--workers", 2)
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout == "20 points: 12 ok, 8 infeasible (20 run now)\n"
    assert again.stdout == "20 points: 12 ok, 8 infeasible (0 run now)\n"
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert len(table) == table["point"].nunique() == 20
    # Dense keeps whole rows of 2048 scores: on this machine they fit beside small tiles only.
    assert set(table.loc[table["status"] == "infeasible", "tile_q"]) <= {128, 256}
    assert table.loc[table["status"] == "infeasible", "reason"].str.contains("does not fit").all()
    assert len(pd.read_parquet(tmp_path / "out" / "results.parquet")) == 20
    with sqlite3.connect(tmp_path / "out" / "results.sqlite") as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


RECIPES = """
name: recipes
machine: edge-npu
workloads: [attention-2048]
kernels: ["flash(tile_q=16)", "flash( tile_q = 16 )", "flash(tile_q=64)", flash]
"""


def test_a_sweep_takes_recipes(accelsim_command, file, tmp_path):
    file("sweep.yaml", RECIPES)
    done = accelsim_command("-q", "sweep", "sweep.yaml", "--out", "out", "--workers", 1)
    assert done.stdout == "3 points: 3 ok (3 run now)\n"
    table = pd.read_csv(tmp_path / "out" / "results.csv", index_col="kernel")
    assert table.index.tolist() == ["flash(tile_q=16)", "flash(tile_q=64)", "flash"]
    assert table["recipe"].tolist() == table.index.tolist()
    assert table["hbm_read_bytes"].iloc[0] > table["hbm_read_bytes"].iloc[1]


def test_a_sweep_without_kernels_runs_what_the_library_picks(accelsim_command, file, tmp_path):
    text = RECIPES.replace("[attention-2048]", "[attention-2048, gemm-1024]").partition("kernels")[
        0
    ]
    file("sweep.yaml", text)
    accelsim_command("-q", "sweep", "sweep.yaml", "--out", "out", "--workers", 1)
    table = pd.read_csv(tmp_path / "out" / "results.csv")
    assert table["kernel"].tolist() == ["library", "library"]
    assert table["recipe"].tolist() == ["flash", "gemm"]
    assert table["library"].tolist() == ["npu", "npu"]


def test_plot_draws_a_saved_sweep(accelsim_command, file, tmp_path):
    file("sweep.yaml", SWEEP)
    accelsim_command("-q", "sweep", "sweep.yaml", "--out", "out", "--workers", 1)
    words = ("--x", "scratchpad_peak_bytes", "--y", "time_s", "--pareto")
    done = accelsim_command("plot", "out", *words)
    stem = "out/pareto-time_s-scratchpad_peak_bytes"
    assert done.stderr == f"wrote {stem}.png\nwrote {stem}.svg\n"
    assert (tmp_path / f"{stem}.png").read_bytes().startswith(b"\x89PNG")


def test_program_prints_tensors_buffers_and_ops(accelsim_command):
    words = ("-m", "edge-npu", "-w", "gemm-1024", "-k", "gemm", "--limit", 2)
    done = accelsim_command("program", *words)
    lines = done.stdout.splitlines()
    assert lines[0] == "program gemm on gemm-1024"
    assert lines[1] == "  tensor a input 1024x1024 x 16 bit at 0"
    assert sum("load" in line for line in lines) == 2


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("kernels", ["gemm", "dense", "flash", "tile_q", "precision"]),
        ("machines", ["ascend-910b", "edge-npu", "tpu-like-128"]),
        ("workloads", ["attention-2048", "MODEL/prefill-4096", "smollm2-real"]),
    ],
)
def test_lists_name_what_there_is(accelsim_command, command, names):
    done = accelsim_command(command)
    assert done.exit_code == 0
    assert [name for name in names if name not in done.stdout] == []


@pytest.mark.parametrize("kind", ["machine", "workload", "sweep"])
def test_schema_is_json(accelsim_command, kind):
    schema = json.loads(accelsim_command("schema", kind).stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_installed_module_is_a_program():
    command = [sys.executable, "-m", "accelsim", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"accelsim {VERSION}\n", "")
