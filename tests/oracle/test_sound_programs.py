"""Every kernel that ships records sound programs, which is why they are not verified at each run.

Shapes are odd, so that tiles are ragged; settings are those that change what is recorded.
"""

import pytest

from accelsim.kernels.registry import get_kernel, is_shipped, kernel_names
from accelsim.kernels.vector.coded import CODED
from accelsim.loading import load_machine
from accelsim.workload.problem import (
    AttentionProblem,
    GemmProblem,
    GroupedGemmProblem,
    VectorProblem,
)
from accelsim.workload.tensors import load_tensors
from tests.oracle.recorded import run

ARRAY = "{rows: 64, cols: 64, pipeline_depth_cycles: 2, index_buffer: 64 KiB}"
MACHINE = load_machine("ascend-910b-no-l2", {"int_mac": ARRAY, "cube.rates.fp8_e4m3": 2})
RANDOM = {"source": "uniform", "amplitude": 2, "seed": 5}
TILES = {"tile_q": 5, "tile_k": 7}
CODES = {"codes": "int8", "code_groups": 3}
GROUPED = {"groups": 3, "chunk_rows": 5, "tile_n": 6, "tile_k": 7}
RUNS = {
    "gemm": [{}, {"tile_m": 5, "tile_n": 4, "tile_k": 7}, {"b_layout": "nk", "tile_k": 6}],
    "grouped_gemm": [{}, {"tile_m": 5, "tile_n": 4, "tile_k": 7}, {"b_layout": "nk"}],
    "tender": [
        GROUPED,
        {**GROUPED, "input": "quantized"},
        {**GROUPED, "base": "static", "use_bias": True},
        {**GROUPED, "candidates": 3},
        {**GROUPED, "candidates": 3, "rotation": "hadamard"},
        {**GROUPED, "input": "quantized", "input_run": 1},
    ],
    "requantized": [GROUPED, {**GROUPED, "input": "quantized"}],
    "quantized": [{}, {"tile_n": 6, "tile_k": 7}],
    "smoothquant": [{"tile_n": 6, "tile_k": 7}],
    "outlier_split": [{"tile_m": 5, "tile_n": 6, "outlier_share": 0.2}],
    "weight_only": [{"tile_m": 5, "tile_n": 6, "tile_k": 7, "group_rows": 3}],
    "mx": [
        {},
        {"tile_m": 5, "tile_n": 4, "weights": "fp8_block128"},
        {"activations": "mxint8", "tile_m": 5, "tile_n": 6},
        {"input": "quantized", "tile_m": 5},
    ],
    "vector": [
        {},
        {"tile_rows": 3},
        {"tile_cols": 7},
        {**CODES, "tile_rows": 3},
        {**CODES, "codes": "int4", "code_candidates": 3},
    ],
    "dense": [{}, TILES],
    "flash": [
        {},
        TILES,
        {**TILES, "precision": "fp16", "scale_at": "query"},
        *({**TILES, **CODES, "query_tiles": count, "fold": True} for count in (1, 2)),
    ],
    "int_flash": [TILES, {**TILES, "groups": 3}, {**TILES, **CODES}],
    "sage": [TILES, {**TILES, "granularity": "thread", "pv": "fp8"}],
    "pasa": [TILES],
    "centered": [TILES],
    "sparse": [
        *({"mask": mask, "block": 5} for mask in ("window", "sinks_window", "dilated", "pooled")),
        {"mask": "antidiagonal", "block": 5, "stride": 5},
        {"mask": "indexer", "block": 5, "index_dim": 8},
    ],
    "split_kv": [{}, {"tile_k": 7, "splits": 3}],
    "sift": [{"tile_k": 7, "warmup": 1, "fit_from": 1}, {"rule": "given", "c": 1.0}],
    "topk": [{"tile_k": 7, "k": 5, "ranking": name} for name in ("radix", "bitonic", "merge")],
    "quest": [{"tile_k": 7, "page": 4, "kept": 0.3}],
    "window": [{"tile_k": 7, "window": 9, "sinks": 2}],
}
DECODE = {"split_kv", "sift", "topk", "quest", "window"}
FUNCTIONS = {
    "copy": {},
    "softmax": {},
    "rmsnorm": {},
    "layernorm": {},
    "gelu": {},
    "silu": {},
    "silu_mul": {},
    "gelu_mul": {},
    "relu": {},
    "relu_squared": {},
    "softcap": {"softcap": 2.0},
    "add_rmsnorm": {},
    "add_layernorm": {},
    "join_heads": {"cols": 18, "head_dim": 6, "y_cols": 5},
    "argmax": {},
    "rotary": {"cols": 18, "head_dim": 6, "table_rows": 7},
    "norm_rotary": {"cols": 18, "head_dim": 6, "table_rows": 7},
    "embedding": {"table_rows": 7},
    "kv_write": {"table_rows": 29, "page": 4},
    "router": {"top_k": 3},
    "permute": {"top_k": 3},
    "combine": {"top_k": 3},
}
"""Function -> keys of its own."""


def attention(*, causal, **lengths):
    sizes = {"q_heads": 6, "kv_heads": 2, "head_dim": 10, "kv_len": 23, **lengths}
    return AttentionProblem(kind="attention", name="odd", causal=causal, tensors=RANDOM, **sizes)


def problems_of(kernel):
    """Return problems whose sizes no tile divides."""
    kind = get_kernel(kernel).problem_kind
    if kind == "gemm":
        return [GemmProblem(kind="gemm", name="odd", m=13, n=10, k=17, tensors=RANDOM)]
    if kind == "vector":
        keys = {"kind": "vector", "name": "odd", "rows": 11, "cols": 19, "tensors": RANDOM}
        return [VectorProblem(**keys | {"function": f} | own) for f, own in FUNCTIONS.items()]
    if kind == "grouped_gemm":
        sizes = {"rows": (13, 0, 1, 6), "n": 10, "k": 17, "tensors": RANDOM}
        return [GroupedGemmProblem(kind="grouped_gemm", name="odd", **sizes)]
    several = {"q_len": 1, "steps": 3} if kernel in DECODE else {"q_len": 11}
    drafted = [{"q_len": 4}] if kernel == "split_kv" else []
    causes = (False, True)
    return [attention(causal=causal, **own) for own in (several, *drafted) for causal in causes]


def test_every_kernel_is_here():
    assert set(RUNS) == {name for name in kernel_names() if is_shipped(get_kernel(name))}


@pytest.mark.parametrize("with_numbers", [False, True], ids=["cost only", "with numbers"])
@pytest.mark.parametrize(
    ("kernel", "settings"), [(kernel, each) for kernel, runs in RUNS.items() for each in runs]
)
def test_programs_are_sound(kernel, settings, with_numbers, tmp_path):
    problems = problems_of(kernel)
    if kernel == "vector" and "codes" in settings:
        problems = [problem for problem in problems if problem.function in CODED]
    for problem in problems:
        tensors = load_tensors(problem, tmp_path) if with_numbers else None
        program, output = run(kernel, problem, tensors, machine=MACHINE, **settings)
        assert program.num_ops
        assert (output is not None) == with_numbers
