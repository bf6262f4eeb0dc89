"""HBM traffic against closed forms, to the byte: shapes ragged, masks on and off, every tensor."""

from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.library.recipe import Recipe
from accelsim.loading import LoadedWorkload, load_machine, load_technology
from accelsim.numerics.formats import Format
from accelsim.simulation import record, simulate
from accelsim.workload.problem import AttentionProblem, GemmProblem

# Large memories, so that every tile size drawn here fits.
MACHINE = load_machine(
    "edge-npu", {"scratchpad.capacity": "4 MiB", "accumulator.capacity": "1 MiB"}
)
FORMATS = st.sampled_from([Format.FP32, Format.BF16, Format.FP16])
ELEMENT_BYTES = {"fp32": (4, 4), "fp32_scores": (4, 0), "fp16_fp32": (2, 2), "fp16": (2, 2)}
"""Precision -> bytes of a score and of a weight; with fp32_scores a weight is stored as V is."""
lengths, tiles = st.integers(1, 150), st.integers(8, 100)


@st.composite
def attention(draw):
    causal = draw(st.booleans())
    kv_len, kv_heads = draw(lengths), draw(st.integers(1, 2))
    return AttentionProblem(
        kind="attention",
        name="drawn",
        batch=draw(st.integers(1, 2)),
        q_heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 64)),
        q_len=draw(st.integers(1, kv_len) if causal else lengths),
        kv_len=kv_len,
        causal=causal,
        dtype=draw(FORMATS),
    )


def checked_report(problem, kernel, choices):
    """Check what holds for any kernel, and return the report."""
    workload, recipe = LoadedWorkload(problem, Path()), Recipe(kernel, **choices)
    report = simulate(MACHINE, workload, recipe)
    program = record(MACHINE, workload, recipe)
    moved_bytes = report.hbm_read_bytes + report.hbm_write_bytes
    assert sum(report.hbm_bytes_by_tensor.values()) == moved_bytes == program.hbm_bytes.sum()
    assert report.compulsory_bytes <= moved_bytes
    assert report.ops == program.num_ops
    picojoules_per_byte = load_technology(MACHINE.technology).memory("hbm2").energy.value
    assert report.energy_by_component_j["hbm"] == pytest.approx(
        moved_bytes * picojoules_per_byte * 1e-12, rel=1e-12
    )
    assert sum(report.energy_by_component_j.values()) == report.energy_j
    assert report.cycles >= moved_bytes / MACHINE.hbm_bytes_per_cycle
    return report


def key_rows_loaded(problem, tile_q, tile_k):
    """Key rows that each query tile of one head loads: whole key tiles up to the last row seen."""
    for first in range(0, problem.q_len, tile_q):
        rows = min(tile_q, problem.q_len - first)
        seen = problem.kv_len
        if problem.causal:
            seen = problem.kv_len - problem.q_len + first + rows
        yield rows, min(ceil(seen / tile_k) * tile_k, problem.kv_len)


@settings(max_examples=60)
@given(attention(), tiles, tiles)
def test_flash_reads_keys_once_a_query_tile(problem, tile_q, tile_k):
    choices = {"tile_q": tile_q, "tile_k": tile_k, "query_tiles": 1, "fold": False}
    report = checked_report(problem, "flash", choices)
    heads = problem.batch * problem.q_heads
    row_bytes = problem.head_dim * problem.dtype.bits // 8
    loaded = list(key_rows_loaded(problem, tile_q, tile_k))
    kv_bytes = heads * row_bytes * sum(keys for _, keys in loaded)
    q_bytes = heads * row_bytes * problem.q_len
    assert report.hbm_bytes_by_tensor == {"q": q_bytes, "k": kv_bytes, "v": kv_bytes, "o": q_bytes}
    assert report.hbm_write_bytes == q_bytes
    if not problem.causal:
        assert kv_bytes == heads * ceil(problem.q_len / tile_q) * problem.kv_len * row_bytes
    pairs = sum(rows * keys for rows, keys in loaded)
    assert report.macs == 2 * heads * problem.head_dim * pairs
    assert report.macs >= problem.macs


@settings(max_examples=60)
@given(attention(), tiles, tiles, tiles, st.sampled_from(list(ELEMENT_BYTES)))
def test_dense_moves_scores_and_weights_twice(problem, tile_q, tile_k, softmax_rows, precision):
    choices = {
        "fold": False,
        "tile_q": tile_q,
        "tile_k": tile_k,
        "softmax_rows": softmax_rows,
        "precision": precision,
    }
    report = checked_report(problem, "dense", choices)
    heads = problem.batch * problem.q_heads
    row_bytes = problem.head_dim * problem.dtype.bits // 8
    q_bytes = heads * row_bytes * problem.q_len
    kv_bytes = heads * row_bytes * ceil(problem.q_len / tile_q) * problem.kv_len
    pairs = heads * problem.q_len * problem.kv_len
    score_bytes, weight_bytes = ELEMENT_BYTES[precision]
    if precision == "fp32_scores":
        weight_bytes = problem.dtype.bits // 8
    assert report.hbm_bytes_by_tensor == {
        "q": q_bytes,
        "k": kv_bytes,
        "v": kv_bytes,
        "o": q_bytes,
        "s": 2 * pairs * score_bytes,
        "p": 2 * pairs * weight_bytes,
    }
    assert report.hbm_write_bytes == q_bytes + pairs * (score_bytes + weight_bytes)
    assert report.macs == 2 * problem.head_dim * pairs


@settings(max_examples=60)
@given(
    lengths,
    lengths,
    lengths,
    st.sampled_from([Format.FP32, Format.FP16, Format.INT8, Format.INT4]),
    *[st.integers(4, 50).map(lambda x: 2 * x)] * 3,
)
def test_gemm_reads_each_operand_once_a_tile_of_the_other(m, n, k, dtype, tile_m, tile_n, tile_k):
    problem = GemmProblem(kind="gemm", name="drawn", m=m, n=n, k=k, dtype=dtype)
    choices = {"tile_m": tile_m, "tile_n": tile_n, "tile_k": tile_k}
    report = checked_report(problem, "gemm", choices)
    row_bytes = {"a": ceil(k * dtype.bits / 8), "b": ceil(n * dtype.bits / 8)}
    output_bits = 32 if dtype.is_integer else dtype.bits
    assert report.hbm_bytes_by_tensor == {
        "a": ceil(n / tile_n) * m * row_bytes["a"],
        "b": ceil(m / tile_m) * k * row_bytes["b"],
        "c": m * n * output_bits // 8,
    }
    assert report.hbm_write_bytes == m * n * output_bits // 8
    assert report.macs == m * n * k


@pytest.mark.parametrize(
    ("dtype", "output_format", "output_bytes"),
    [("fp32", "fp16", 2), ("int8", None, 4), ("int8", "int8", 1)],
)
def test_one_tile_moves_what_is_compulsory_and_no_more(dtype, output_format, output_bytes):
    problem = GemmProblem(kind="gemm", name="small", m=24, n=40, k=16, dtype=Format(dtype))
    choices = {"tile_m": 24, "tile_n": 40} | (
        {"output_format": output_format} if output_format else {}
    )
    report = checked_report(problem, "gemm", choices)
    assert report.compulsory_bytes == report.hbm_read_bytes + report.hbm_write_bytes
    assert report.hbm_write_bytes == 24 * 40 * output_bytes
