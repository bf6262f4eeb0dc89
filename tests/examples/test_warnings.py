"""What may go wrong in a run that goes on: one line on stderr, and nothing on stdout."""

import json

import numpy as np

WORKLOAD = """
kind: gemm
name: large
m: 2
n: 3
k: 64
tensors: { source: file, path: large.npz }
"""
TENDER = ("-m", "tender-asic", "-w", "large.yaml", "-k")
WARNING = "warning: tender on large: sums of int8 x int8 products can reach 2^"


def written(file, tmp_path):
    a = np.full((2, 64), 1.0)
    a[:, 0] = 1e-3
    np.savez(tmp_path / "large.npz", a=a, b=np.ones((64, 3)))
    file("large.yaml", WORKLOAD)


def test_an_accumulator_that_may_overflow_is_one_line(accelsim_command, file, tmp_path):
    written(file, tmp_path)
    result = accelsim_command(
        "run", *TENDER, "tender(groups=16, use_bias=false)", "--format", "json"
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["selection"]["accumulator_overflows"] > 0
    lines = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
    assert len(lines) == 1
    assert lines[0].startswith(WARNING)


SWEEP = """
name: bits
machine: tender-asic
workloads: [large.yaml]
kernels: ["tender(use_bias=false, groups=16)"]
axes: { weight_bits: [4, 8] }
"""


def test_a_sweep_has_it_in_its_columns(accelsim_command, file, tmp_path):
    written(file, tmp_path)
    file("sweep.yaml", SWEEP)
    result = accelsim_command("sweep", "sweep.yaml", "-o", "found")
    assert result.exit_code == 0, result.stderr
    assert "warning" not in result.stderr.lower()
    header, *rows = (tmp_path / "found/results.csv").read_text().splitlines()
    assert "selection.accumulator_overflows" in header
    assert len(rows) == 2
