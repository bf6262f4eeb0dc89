"""What a kernel chose is in its report, and asking for it gives the same report."""

from dataclasses import replace

import pytest

from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.recipe import Recipe
from accelsim.simulation import simulate

ATTENTION = """kind: attention
name: small
q_heads: 4
kv_heads: 2
head_dim: 32
{lengths}
kv_len: 160
causal: true
dtype: fp16
tensors: {{source: uniform, seed: 3}}
"""
GEMM = """kind: gemm
name: small
m: 48
n: 96
k: 160
dtype: fp16
tensors: {source: uniform, seed: 3}
"""
EXPERTS = "{kind: grouped_gemm, name: experts, rows: [100, 0, 30], n: 96, k: 128}"
VECTOR = """kind: vector
name: small
function: {function}
rows: 40
cols: {cols}
dtype: fp16
"""
DECODE = ("split_kv", "sift", "topk", "quest", "window")
CHOSEN = {
    "gemm": {"tile_m", "tile_n", "tile_k", "splits", "stages", "swizzle", "output_format"},
    "flash": {"tile_q", "tile_k", "query_tiles", "fold"},
    "dense": {"tile_q", "tile_k", "softmax_rows", "fold"},
    "pasa": {"tile_q", "tile_k", "statistics"},
    "split_kv": {"tile_k", "splits", "stages"},
    "sift": {"tile_k", "warmup"},
    "sparse": {"block"},
    "tender": {"tile_m", "tile_n", "tile_k", "base", "groups", "chunk_rows", "use_bias"}
    | {"rounding", "quantile", "candidates"},
    "grouped_gemm": {"tile_m", "tile_n", "tile_k", "stages"},
    "mx": {"activations", "weights", "tile_m", "tile_n", "tile_k"},
    "vector": {"tile_elements"},
}
"""Parameters that are absent by default and that a report must have."""


def workload_of(kernel, folder):
    kind = get_kernel(kernel).problem_kind
    lengths = "q_len: 1\nsteps: 4" if kernel in DECODE else "q_len: 160"
    texts = {
        "attention": ATTENTION.format(lengths=lengths),
        "gemm": GEMM,
        "grouped_gemm": EXPERTS,
        "vector": VECTOR.format(function="silu_mul", cols=96),
    }
    path = folder / "w.yaml"
    path.write_text(texts[kind])
    return path


SETTINGS = {
    "machine.int_mac": "{rows: 64, cols: 64, pipeline_depth_cycles: 8, index_buffer: 16 KiB}",
    "machine.vector.costs.compact": 1,
    "machine.vector.costs.exchange": 1,
    "machine.vector.costs.histogram": 1,
    "machine.vector.costs.square_root": 1,
}


@pytest.mark.parametrize("kernel", kernel_names())
def test_asking_for_what_was_chosen_gives_the_same_report(kernel, tmp_path):
    workload = workload_of(kernel, tmp_path)
    chosen = simulate("ascend-910b", workload, kernel, SETTINGS)
    assert chosen.parameters.keys() >= CHOSEN.get(kernel, set())
    given = simulate("ascend-910b", workload, Recipe(kernel, **chosen.parameters), SETTINGS)
    assert replace(given, recipe=kernel) == chosen


@pytest.mark.parametrize(("cols", "steps"), [(96, None), (4_000_000, "some")])
def test_rows_that_fit_have_no_steps(cols, steps, tmp_path):
    path = tmp_path / "w.yaml"
    path.write_text(VECTOR.format(function="softmax", cols=cols).replace("rows: 40", "rows: 2"))
    chosen = simulate("ascend-910b", path, "vector")
    assert ("tile_cols" in chosen.parameters) == (steps is not None)
    given = simulate("ascend-910b", path, Recipe("vector", **chosen.parameters))
    assert replace(given, recipe="vector") == chosen


def test_tiles_are_in_the_row_of_a_table_and_below_the_table():
    report = simulate("ascend-910b", "gemm-1024", "gemm(stages=3)")
    row = report.to_row()
    assert row["parameters.stages"] == 3
    assert {name for name in row if name.startswith("parameters.tile_")} >= {
        "parameters.tile_m",
        "parameters.tile_n",
        "parameters.tile_k",
    }
    assert "settings" not in row
    assert f"tile_m={report.parameters['tile_m']}" in report.__rich__().caption
