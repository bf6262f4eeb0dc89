"""Kernels against the roofline; the shipped bounds against the shapes, by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from accelsim.errors import ConfigError
from accelsim.validation.outcome import DisagreementError, validate
from accelsim.validation.registry import get_reference

ROOT = Path(__file__).parents[2]
ROOFLINE = get_reference("roofline")
WIDTH_BYTES = 2
"""All workloads of the file are in FP16."""
KEPT = 0.25
"""Share of keys or pages that topk and quest keep unless told otherwise."""
MACHINES = ("ascend-910b", "edge-npu", "tpu-like-128")
MODELS = ("ascend-910b", "tpu-like-128")
HEADER = ["machine", "workload", "kernel", "settings", "macs", "bytes", "macs_per_s", "bytes_per_s"]
DECODE = "llama-2-7b-decode-4096-attention"
PREFILL = "llama-3-8b-prefill-4096-attention"
CASES = [
    *((machine, "gemm-1024", "gemm", "") for machine in MACHINES),
    *((machine, "llama-3-8b-prefill-4096-down", "gemm", "") for machine in MODELS),
    *((machine, "gemm-1024", "weight_only", "") for machine in MODELS),
    *((machine, "attention-2048", "dense", "") for machine in MACHINES),
    *((machine, "attention-2048", "flash", "") for machine in MACHINES),
    *((machine, PREFILL, "flash", "") for machine in MODELS),
    *((machine, "attention-2048", "pasa", "") for machine in MODELS),
    *((machine, "attention-2048", "centered", "") for machine in MODELS),
    *((machine, PREFILL, "sparse", "mask=sinks_window") for machine in MODELS),
    *((machine, DECODE, "split_kv", "") for machine in MACHINES),
    *((machine, DECODE, "sift", "assumed_union=0.25") for machine in MODELS),
    *((machine, DECODE, "topk", "") for machine in MODELS),
    *((machine, DECODE, "quest", "") for machine in MODELS),
    *((machine, DECODE, "window", "") for machine in MODELS),
]


def gemm_work(problem, kernel):
    """A and B read once, C written once; weight_only reads B in 4 bits."""
    m, n, k = problem["m"], problem["n"], problem["k"]
    weight_bytes = 0.5 if kernel == "weight_only" else WIDTH_BYTES
    return m * n * k, int(WIDTH_BYTES * (m * k + m * n) + weight_bytes * k * n)


def attention_work(problem, kernel):
    """MACs of the pairs that are not masked; rows of Q, K, V and the output, each moved once.

    Kernels that select are charged only for the rows that they cannot leave out.
    """
    heads, kv_heads, d = problem["q_heads"], problem["kv_heads"], problem["head_dim"]
    queries, keys = problem["q_len"], problem["kv_len"]
    positions = np.arange(queries) + keys - queries + 1 if problem.get("causal") else None
    seen = positions if positions is not None else np.full(queries, keys)
    rows = heads * queries * 2  # of Q and the output
    if kernel == "sparse":
        seen = np.minimum(seen, 256)  # the window of 256 keys, without the sinks
        kept = 2 * keys
    elif kernel == "sift":
        kept = keys + int(KEPT * keys)  # all keys, and the values assumed
    elif kernel == "topk":
        seen, kept = KEPT * seen, keys + int(KEPT * keys)
    elif kernel == "quest":
        seen, kept = KEPT * seen, 2 * int(KEPT * keys) + 2 * keys // 16  # and bounds of each page
    elif kernel == "window":
        seen, kept = np.minimum(seen, 260), 2 * 260  # 256 keys and 4 sinks
    else:
        kept = 2 * keys
    pairs = int(seen.sum())
    # Scores and weights of dense go to HBM and come back: 4 S^2.
    scores = 4 * heads * queries * keys if kernel == "dense" else 0
    macs = (1 if kernel in {"sift", "topk"} else 2) * heads * d * pairs
    return macs, WIDTH_BYTES * ((rows + kv_heads * kept) * d + scores)


def peak_rates(machine):
    """MACs per second at FP16 and HBM bytes per second, from the file as it is."""
    cube = machine["cube"]
    sizes = ("rows", "cols") if cube["kind"] == "systolic" else ("tile_m", "tile_n", "tile_k")
    per_cycle = np.prod([cube[size] for size in sizes]) * cube["rates"]["fp16"] * machine["cores"]
    clock, unit = machine["clock"].split()
    bandwidth, per_s = machine["hbm"]["bandwidth"].split()
    assert unit == "GHz"
    scale = {"GB/s": 1e9, "TB/s": 1e12}[per_s]
    return float(per_cycle) * float(clock) * 1e9, float(bandwidth) * scale


def bound(machine_name, workload, kernel, settings):
    machine = yaml.safe_load((ROOT / f"configs/machines/{machine_name}.yaml").read_text())
    problem = yaml.safe_load((ROOT / f"workloads/{workload}.yaml").read_text())
    is_gemm = problem["kind"] == "gemm"
    macs, moved = gemm_work(problem, kernel) if is_gemm else attention_work(problem, kernel)
    rates = (f"{rate:.6g}" for rate in peak_rates(machine))
    return [machine_name, workload, kernel, settings, str(macs), str(moved), *rates]


def test_the_shipped_bounds_follow_from_the_shapes(request):
    expected = [HEADER, *(bound(*case) for case in CASES)]
    if request.config.getoption("--update-golden"):
        with ROOFLINE.shipped_file.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(expected)
    with ROOFLINE.shipped_file.open(newline="") as file:
        assert list(csv.reader(file)) == expected


def test_no_kernel_beats_the_roofline():
    outcome = validate(ROOFLINE)
    assert outcome.is_lower_bound
    outcome.check(None)


@pytest.mark.parametrize("machine", ["edge-npu", "tpu-like-128"])
def test_a_machine_that_is_faster_than_its_bound_says_is_found(tmp_path, machine):
    """The bound of half the bandwidth is not one: decoding moves its bytes in less time."""
    case = bound(machine, DECODE, "split_kv", "")
    case[-1] = str(float(case[-1]) / 2)
    path = tmp_path / "wrong.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, case])
    with pytest.raises(DisagreementError, match=r"^split_kv, .* below the bound of "):
        validate(ROOFLINE, path).check(None)


def test_settings_in_a_row_are_checked(tmp_path):
    case = bound("edge-npu", DECODE, "window", "")
    case[3] = "window=128; sinks"
    path = tmp_path / "wrong.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, case])
    with pytest.raises(ConfigError) as error:
        validate(ROOFLINE, path)
    assert str(error.value) == (
        f"{path}:2: settings: found ' sinks', expected key=value; key=value"
    )
