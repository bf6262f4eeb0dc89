"""Kernels against the roofline; the shipped bounds against the shapes, by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from accelsim.errors import ConfigError
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.validation.outcome import DisagreementError, validate
from accelsim.validation.registry import get_reference

ROOT = Path(__file__).parents[2]
ROOFLINE = get_reference("roofline")
WIDTH_BYTES = 2
"""All workloads of the file are in FP16 or BF16."""
KEPT = 0.25
"""Share of keys or pages that topk and quest keep unless told otherwise."""
MACHINES = ("ascend-910b-no-l2", "edge-npu", "tpu-like-128")
MODELS = ("ascend-910b-no-l2", "tpu-like-128")
INTEGER_LINEARS = ("tender", "requantized", "quantized", "smoothquant")
CODE_BITS = 8
"""Bits of the codes of integer kernels unless told otherwise."""
OUTLIERS = 0.03
"""Share of channels that outlier_split keeps in FP16 unless told otherwise."""
ARRAY = "machine.int_mac={rows: 64, cols: 64, pipeline_depth_cycles: 2, index_buffer: 64 KiB}"
"""An integer array in each core of a machine that has a cube only."""
HEADER = ["machine", "workload", "kernel", "settings", "macs", "bytes", "macs_per_s", "bytes_per_s"]
DECODE = "llama-2-7b/decode-4096/attention-of-steps"
PREFILL = "llama-3-8b/prefill-4096/attention-of-prompts"
LINEAR = "smollm2-135m/prefill-4096/down"
LARGE_LINEAR = "llama-3-8b/prefill-4096/down"
SHAPES = {
    DECODE: "{kind: attention, dtype: fp16, q_heads: 32, kv_heads: 32, head_dim: 128, "
    "q_len: 1, kv_len: 4096}",
    PREFILL: "{kind: attention, dtype: bf16, q_heads: 32, kv_heads: 8, head_dim: 128, "
    "q_len: 4096, kv_len: 4096, causal: true}",
    LINEAR: "{kind: gemm, dtype: bf16, m: 4096, n: 576, k: 1536}",
    LARGE_LINEAR: "{kind: gemm, dtype: bf16, m: 4096, n: 4096, k: 14336}",
}
"""Operations of models, from the cards of these."""
CASES = [
    *((machine, "gemm-1024", "gemm", "") for machine in MACHINES),
    *((machine, LARGE_LINEAR, "gemm", "") for machine in MODELS),
    *((machine, "experts-small", "grouped_gemm", "") for machine in MACHINES),
    *((machine, "gemm-1024", "weight_only", "") for machine in MODELS),
    *(("tender-asic", "gemm-1024", kernel, "") for kernel in INTEGER_LINEARS),
    *(("tender-asic", LINEAR, kernel, "") for kernel in INTEGER_LINEARS),
    *(("tender-asic", workload, "mx", "") for workload in ("gemm-1024", LINEAR)),
    *(
        (machine, "gemm-1024", "outlier_split", ARRAY)
        for machine in ("ascend-910b-no-l2", "edge-npu")
    ),
    *((machine, "rmsnorm-4096", "vector", "") for machine in MACHINES),
    *((machine, "attention-2048", "dense", "") for machine in MACHINES),
    *((machine, "attention-2048", "flash", "") for machine in MACHINES),
    *((machine, PREFILL, "flash", "") for machine in MODELS),
    *(("tender-asic", workload, "int_flash", "") for workload in ("attention-2048", PREFILL)),
    *((machine, "attention-2048", "sage", "") for machine in ("ascend-910b-no-l2", "edge-npu")),
    *((machine, "attention-2048", "pasa", "") for machine in MODELS),
    *((machine, "attention-2048", "centered", "") for machine in MODELS),
    *((machine, PREFILL, "sparse(mask=sinks_window)", "") for machine in MODELS),
    *((machine, DECODE, "split_kv", "") for machine in MACHINES),
    *((machine, DECODE, "sift(assumed_union=0.25)", "") for machine in MODELS),
    *((machine, DECODE, "topk", "") for machine in MODELS),
    *((machine, DECODE, "quest", "") for machine in MODELS),
    *((machine, DECODE, "window", "") for machine in MODELS),
]


def gemm_work(problem, kernel):
    """A and B read once, C written once.

    B is in 4 bits for weight_only and in codes for integer linears, some of it in FP16 for
    outlier_split; 32 codes of mx, in MXINT8, have 8 bits more.
    """
    m, n, k = problem["m"], problem["n"], problem["k"]
    weight_bytes = WIDTH_BYTES * k
    if kernel == "weight_only":
        weight_bytes = k / 2
    elif kernel == "mx":
        weight_bytes = k + -(-k // 32)
    elif kernel in (*INTEGER_LINEARS, "outlier_split"):
        outliers = int(OUTLIERS * k) if kernel == "outlier_split" else 0
        weight_bytes = WIDTH_BYTES * outliers + CODE_BITS / 8 * (k - outliers)
    return m * n * k, int(WIDTH_BYTES * (m * k + m * n) + weight_bytes * n)


def grouped_work(problem, _kernel):
    """Rows of A and C once each, and the weights of every expert that has rows."""
    rows, n, k = problem["rows"], problem["n"], problem["k"]
    used = sum(each > 0 for each in rows)
    return sum(rows) * n * k, WIDTH_BYTES * (sum(rows) * (n + k) + used * n * k)


def vector_work(problem, _kernel):
    """Every element read once and written once; nothing is multiplied by a matrix."""
    return 0, 2 * WIDTH_BYTES * problem["rows"] * problem["cols"]


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
    if kernel == "sage":
        macs = macs * 3 // 4  # scores of codes of 8 bits at twice the rate of FP16
    return macs, WIDTH_BYTES * ((rows + kv_heads * kept) * d + scores)


def cube_rate(cube, dtype):
    """MACs per cycle of a format."""
    sizes = ("rows", "cols") if cube["kind"] == "systolic" else ("tile_m", "tile_n", "tile_k")
    return np.prod([cube[size] for size in sizes]) * cube["rates"][dtype]


def array_rate(array):
    """MACs per cycle of two codes, each of which takes an element for 4 of its bits."""
    return array["rows"] * array["cols"] / (CODE_BITS / 4) ** 2


def peak_rates(machine, dtype):
    """MACs per second of cube and array together and HBM bytes per second, from the file as it is.

    Without settings a machine has one of the two; outlier_split keeps both busy.
    """
    per_core = cube_rate(machine["cube"], dtype) if "cube" in machine else 0
    per_core += array_rate(machine["int_mac"]) if "int_mac" in machine else 0
    per_cycle = per_core * machine["cores"]
    clock, unit = machine["clock"].split()
    bandwidth, per_s = machine["hbm"]["bandwidth"].split()
    assert unit == "GHz"
    scale = {"GB/s": 1e9, "TB/s": 1e12}[per_s]
    return float(per_cycle) * float(clock) * 1e9, float(bandwidth) * scale


def bound(machine_name, workload, kernel, settings):
    # The file without the L2 says no more than that.
    file = ROOT / f"configs/machines/{machine_name.removesuffix('-no-l2')}.yaml"
    machine = yaml.safe_load(file.read_text())
    problem = yaml.safe_load(
        SHAPES.get(workload) or (ROOT / f"workloads/{workload}.yaml").read_text()
    )
    if settings == ARRAY:
        machine["int_mac"] = yaml.safe_load(ARRAY.partition("=")[2])
    works = {
        "gemm": gemm_work,
        "grouped_gemm": grouped_work,
        "attention": attention_work,
        "vector": vector_work,
    }
    macs, moved = works[problem["kind"]](problem, kernel.partition("(")[0])
    rates = (f"{rate:.6g}" for rate in peak_rates(machine, problem["dtype"]))
    return [machine_name, workload, kernel, settings, str(macs), str(moved), *rates]


def test_the_shipped_bounds_follow_from_the_shapes(request):
    expected = [HEADER, *(bound(*case) for case in CASES)]
    if request.config.getoption("--update-golden"):
        with ROOFLINE.shipped_file.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(expected)
    with ROOFLINE.shipped_file.open(newline="") as file:
        assert list(csv.reader(file)) == expected


def test_every_kernel_has_a_bound():
    """A kernel without a row needs a case above, on a machine that can run it."""
    modules = {name: get_kernel(name).__module__ for name in kernel_names()}
    shipped = {name for name, module in modules.items() if module.startswith("accelsim.")}
    assert {kernel.partition("(")[0] for _, _, kernel, _ in CASES} == shipped


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
