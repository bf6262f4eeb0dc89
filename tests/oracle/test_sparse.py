"""The sparse kernel computes attention over exactly what it loads, and moves what it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.kernels.attention.flash.flash import Flash, FlashParameters
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.attention.sparse.masks.grid import grid_of, local_blocks, visible_blocks
from accelsim.kernels.attention.sparse.sparse import Sparse
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program.ops import Unit
from accelsim.program.verifier import verify
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.block_sparse import (
    bytes_of,
    kept_blocks,
    key_rows,
    masked_attention,
    online_attention,
    parameters_of,
)

MACHINE = load_machine("edge-npu")
FIXED = ("window", "sinks_window", "dilated")
SCORED = ("pooled", "antidiagonal", "indexer")
FP32_ROUNDOFF = 2.0**-24


@st.composite
def problems(draw):
    group, kv_heads = draw(st.sampled_from([(1, 1), (3, 1), (2, 2)]))
    causal = draw(st.booleans())
    q_len = draw(st.integers(1, 50))
    kv_len = draw(st.integers(q_len if causal else 1, 70))
    return AttentionProblem(
        kind="attention",
        name="drawn",
        batch=draw(st.integers(1, 2)),
        q_heads=group * kv_heads,
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([4, 8])),
        q_len=q_len,
        kv_len=kv_len,
        causal=causal,
        dtype=Format.FP32,
    )


@st.composite
def choices(draw, masks=FIXED + SCORED):
    return parameters_of(
        draw(st.sampled_from(masks)),
        block=draw(st.sampled_from([4, 8, 16])),
        precision="fp32",
        window=draw(st.integers(1, 40)),
        sinks=draw(st.integers(1, 9)),
        dilation=draw(st.integers(1, 4)),
        select=draw(st.sampled_from(["coverage", "threshold", "budget"])),
        coverage=draw(st.sampled_from([0.3, 0.7, 0.95])),
        threshold=draw(st.sampled_from([0.02, 0.1, 0.5])),
        budget=draw(st.integers(1, 5)),
        fallback_below=draw(st.sampled_from([0.0, 0.6])),
        stride=draw(st.sampled_from([1, 2, 4])),
        index_dim=4,
        index_format=Format.FP16,
        assumed_density=draw(st.sampled_from([0.0, 0.4, 1.0])),
    )


def tensors_of(problem, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in problem.input_shapes.items()}
    return AttentionTensors(**arrays)


def rounding_bound(problem, tensors):
    """Largest error of the FP32 kernel, to first order in the unit roundoff u.

    A score is a sum of d products, wrong by at most (d + 3) u sum |q k| / sqrt(d), and so are its
    maximum and, relative to itself, each weight; numerator and denominator are sums of at most
    kv_len weights, each rescaled as often. Both double it; the safety factor of 2 is for the terms
    of second order.
    """
    group = problem.q_heads // problem.kv_heads
    keys = np.repeat(np.abs(tensors.k), group, axis=0).astype(np.float64)
    largest = (np.abs(tensors.q) @ keys.transpose(0, 2, 1)).max() / np.sqrt(problem.head_dim)
    relative = 2 * (problem.head_dim + 3) * largest + 4 * problem.kv_len + 8
    return 2 * 2 * relative * FP32_ROUNDOFF * np.abs(tensors.v).max()


@settings(max_examples=60)
@given(problems(), choices())
def test_the_output_is_attention_over_the_blocks_that_are_loaded(problem, parameters):
    tensors = tensors_of(problem)
    program, output = Sparse.record(problem, MACHINE, parameters, tensors)
    verify(program)
    kept = kept_blocks(program, problem, parameters.block)
    expected = masked_attention(problem, tensors, kept, parameters.block)
    assert np.abs(output - expected).max() <= rounding_bound(problem, tensors)
    grid = grid_of(problem, parameters.block)
    assert (kept | ~local_blocks(grid)).all()
    assert not (kept & ~visible_blocks(grid)).any()
    assert kept[:, :, 0].all() or parameters.mask in FIXED
    assert program.statistics["density"] == pytest.approx(
        kept.sum() / (visible_blocks(grid).sum() * grid.heads)
    )


@settings(max_examples=60)
@given(problems(), choices(), st.integers(0, 5))
def test_the_algorithm_in_float64_equals_masked_softmax(problem, parameters, seed):
    tensors, grid = tensors_of(problem, seed), grid_of(problem, parameters.block)
    rng = np.random.default_rng(seed)
    shape = (grid.heads, grid.q_blocks, grid.k_blocks)
    kept = (rng.random(shape) < 0.5) & visible_blocks(grid) | local_blocks(grid)
    everything = np.broadcast_to(visible_blocks(grid), shape)
    for blocks in (kept, everything):
        online = online_attention(problem, tensors, blocks, grid.block)
        masked = masked_attention(problem, tensors, blocks, grid.block)
        assert np.abs(online - masked).max() <= 1e-11
    assert np.abs(masked - softmax_attention(problem, tensors)).max() <= 1e-11


@settings(max_examples=40)
@given(problems(), choices(SCORED), st.sampled_from(["fp32", "fp16_fp32", "fp16"]))
def test_with_all_blocks_kept_it_is_flash(problem, parameters, precision):
    tensors = tensors_of(problem)
    all_kept = {"select": "threshold", "threshold": 0.0, "precision": precision}
    parameters = parameters.model_copy(update=all_kept)
    block = parameters.block
    flash, expected = Flash.record(
        problem,
        MACHINE,
        FlashParameters(tile_q=block, tile_k=block, precision=precision, query_tiles=1, fold=False),
        tensors,
    )
    scored, output = Sparse.record(problem, MACHINE, parameters, tensors)
    np.testing.assert_array_equal(output, expected)
    last = int(scored.item_phase.max())
    for name in "qkv":
        moved = bytes_of(scored, name, Unit.LOAD, last)
        assert moved == bytes_of(flash, name, Unit.LOAD)
    fixed = parameters.model_copy(update={"mask": "window", "window": 1000})
    program, output = Sparse.record(problem, MACHINE, fixed, tensors)
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_array_equal(program.ops, flash.ops)


@settings(max_examples=60)
@given(problems(), choices(), st.booleans())
def test_traffic_is_what_the_docstring_says(problem, parameters, with_tensors):
    tensors = tensors_of(problem) if with_tensors else None
    program, _ = Sparse.record(problem, MACHINE, parameters, tensors)
    verify(program)
    grid, row_bytes = grid_of(problem, parameters.block), problem.head_dim * 4
    kept = kept_blocks(program, problem, grid.block)
    last = int(program.item_phase.max())
    q_bytes = grid.heads * problem.q_len * row_bytes
    kept_bytes = key_rows(kept, problem, grid.block) * row_bytes
    assert bytes_of(program, "q", Unit.LOAD, last) == q_bytes
    assert bytes_of(program, "o", Unit.STORE) == q_bytes
    for name in "kv":
        assert bytes_of(program, name, Unit.LOAD, last) == kept_bytes
    assert bytes_of(program, "v", Unit.LOAD) == kept_bytes
    if parameters.mask in FIXED:
        assert last == 0
        return
    score_heads = grid.heads // (grid.group if parameters.mask == "indexer" else 1)
    cells = score_heads * grid.q_blocks * grid.k_blocks
    assert bytes_of(program, "block_map", Unit.LOAD) == grid.heads * grid.q_blocks * grid.k_blocks
    assert bytes_of(program, "block_map", Unit.STORE) == cells
    assert bytes_of(program, "block_scores", Unit.LOAD) == 4 * cells
    assert bytes_of(program, "block_scores", Unit.STORE) == 4 * cells
    if parameters.fallback_below:
        assert bytes_of(program, "trusted", Unit.STORE) == score_heads * grid.q_blocks
    assert_scorer_traffic(program, problem, parameters, grid, row_bytes)


def assert_scorer_traffic(program, problem, parameters, grid, row_bytes):
    """All sizes drawn here are below the 128 rows of a scorer tile: every loop over tiles is 1."""
    kv_heads = grid.heads // grid.group
    k_bytes = kv_heads * problem.kv_len * row_bytes
    before = {"q": grid.heads * problem.q_len * row_bytes, "k": k_bytes}
    if parameters.mask == "pooled":
        for name, heads, blocks in (
            ("q", grid.heads, grid.q_blocks),
            ("k", kv_heads, grid.k_blocks),
        ):
            pooled = heads * blocks * row_bytes
            assert bytes_of(program, f"pooled_{name}", Unit.STORE) == pooled
        assert bytes_of(program, "pooled_q", Unit.LOAD) == grid.heads * grid.q_blocks * row_bytes
        assert bytes_of(program, "pooled_k", Unit.LOAD) == grid.heads * grid.k_blocks * row_bytes
    elif parameters.mask == "antidiagonal":
        before["k"] *= grid.group
        cols = -(-problem.kv_len // parameters.stride)
        rows = -(-problem.q_len // parameters.stride)
        assert bytes_of(program, "group_scores", Unit.STORE) == 4 * grid.heads * rows * cols
    else:
        vector_bytes = parameters.index_dim * 2
        seen = (
            np.minimum(np.arange(1, grid.q_blocks + 1) * grid.block, problem.q_len) + grid.offset
            if grid.causal
            else np.full(grid.q_blocks, problem.kv_len)
        )
        seen = np.minimum(-(-seen // grid.block) * grid.block, problem.kv_len).sum()
        assert bytes_of(program, "indexed_k", Unit.LOAD) == kv_heads * seen * vector_bytes
        assert bytes_of(program, "indexed_k", Unit.STORE) == k_bytes // row_bytes * vector_bytes
        for unit in (Unit.LOAD, Unit.STORE):
            q_vectors = grid.heads * problem.q_len * vector_bytes
            assert bytes_of(program, "indexed_q", unit) == q_vectors
    for name, num_bytes in before.items():
        assert bytes_of(program, name, Unit.LOAD, 0) == num_bytes


@settings(max_examples=15)
@given(problems(), choices(), st.sampled_from(["static", "greedy"]), st.integers(1, 3))
def test_both_engines_agree(problem, parameters, placement, cores):
    machine = MACHINE.model_copy(update={"placement": placement, "cores": cores})
    program, _ = Sparse.record(problem, machine, parameters, None)
    one, other = (engine.schedule(program, machine) for engine in (compiled, reference))
    np.testing.assert_array_equal(one.start, other.start)
    np.testing.assert_array_equal(one.end, other.end)
