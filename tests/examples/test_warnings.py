"""What may go wrong in a run that goes on: one line on stderr, and nothing on stdout."""

import json

import numpy as np

from accelsim.workload.model.release import model_path
from tests.tiny_model import TEXT, installed, tiny

__all__ = ["installed", "tiny"]

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
    assert json.loads(result.stdout)["statistics"]["accumulator_overflows"] > 0
    lines = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
    assert len(lines) == 1
    assert lines[0].startswith(WARNING)


FP8 = """
kind: gemm
name: clipped
m: 2
n: 3
k: 64
dtype: fp8_e4m3
tensors: { source: file, path: clipped.npz }
"""
FP8_WARNING = (
    "warning: workload 'clipped': values beyond 448, the largest number of fp8_e4m3, saturate: "
    "2 of 128 in a"
)


def test_inputs_beyond_their_format_are_one_line_and_a_row(accelsim_command, file, tmp_path):
    a = np.zeros((2, 64))
    a[:, 0] = 1e6
    np.savez(tmp_path / "clipped.npz", a=a, b=np.full((64, 3), 0.5))
    file("clipped.yaml", FP8)
    run = ("run", "-m", "h200-sxm", "-w", "clipped.yaml", "-k", "gemm")
    result = accelsim_command(*run, "--format", "json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["inputs_out_of_range"] == 2
    # The oracle has the inputs as they are stored: 448 / 2 = 224, which BF16 holds.
    assert report["accuracy"]["rmse"] == 0
    assert report["accuracy"]["nonfinite_fraction"] == 0
    assert [line for line in result.stderr.splitlines() if "warning" in line] == [FP8_WARNING]
    shown = accelsim_command(*run).stdout
    assert ["inputs out of range", "2"] in [
        [cell.strip() for cell in line.split("│")[1:3]] for line in shown.splitlines()
    ]


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
    assert "statistics.accumulator_overflows" in header
    assert len(rows) == 2


NONFINITE = ("quality", "-k", "flash", "--tokens", "4", "--window", "4", "--text", "t.txt")


def test_outputs_in_a_model_that_are_not_finite_are_one_line(
    accelsim_command, file, tmp_path, installed, tiny
):
    tiny.tensors["blk.1.attn_k.weight"] *= 1e6
    tiny.types["blk.1.attn_k.weight"] = "F32"
    tiny.write(tmp_path / "t.gguf").replace(model_path("smollm2"))
    file("t.txt", TEXT)
    result = accelsim_command(*NONFINITE)
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "warning" in line.lower()]
    assert line.startswith("warning: flash: 256 outputs of the attention are infinite or NaN, ")
    assert "first in layer 1, where a query times a key reaches " in line
    assert "no finite loss, so no perplexity: 4 of 4 tokens of text t.txt; try scale_at" in line
    assert "nan" not in result.stdout.lower()
    assert ["perplexity", "-"] in [
        [cell.strip() for cell in line.split("│")[1:3]] for line in result.stdout.splitlines()
    ]
