"""Each scorer leaves in HBM what its definition says, here stated with NumPy in float64."""

import numpy as np
import pytest

from accelsim.errors import WorkloadError
from accelsim.kernels.attention.operands import declare_operands
from accelsim.kernels.attention.precision import step_formats
from accelsim.kernels.attention.sparse.masks.antidiagonal import antidiagonal_mask
from accelsim.kernels.attention.sparse.masks.base import Setting
from accelsim.kernels.attention.sparse.masks.gate import gate_mask
from accelsim.kernels.attention.sparse.masks.grid import grid_of
from accelsim.kernels.attention.sparse.masks.indexer import indexer_mask
from accelsim.kernels.attention.sparse.masks.parameters import SparseParameters
from accelsim.kernels.attention.sparse.masks.pooled import pooled_mask
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.workload.archives import write_arrays
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors

MACHINE = load_machine("edge-npu")
FP32_ERROR = 1e-5
"""Scores are of order 1 and sums of at most 200 FP32 terms: 200 x 2^-24 is 1.2e-5 at the worst."""

CASES = [
    {"q_len": 21, "kv_len": 21, "causal": True},
    {"q_len": 9, "kv_len": 22, "causal": True},
    {"q_len": 17, "kv_len": 30, "causal": False},
    {"q_len": 1, "kv_len": 1, "causal": True},
]


def problem_of(q_len, kv_len, causal, batch=2):
    return AttentionProblem(
        kind="attention",
        name="small",
        batch=batch,
        q_heads=4,
        kv_heads=2,
        head_dim=6,
        q_len=q_len,
        kv_len=kv_len,
        causal=causal,
        dtype=Format.FP32,
    )


def tensors_of(problem):
    rng = np.random.default_rng(1)
    return AttentionTensors(
        *(rng.standard_normal(shape).astype(np.float32) for shape in problem.input_shapes.values())
    )


def scores_of(mask_of, problem, tensors, rows=3, **settings):
    """Record a scorer alone; return its scores [heads, q_blocks, k_blocks]."""
    parameters = SparseParameters(block=4, precision="fp32", **settings)
    builder, grid = ProgramBuilder("scorer", with_numbers=True), grid_of(problem, 4)
    formats = step_formats(problem.dtype, "fp32")
    hbm = declare_operands(builder, problem, tensors)
    mask = mask_of(Setting(builder, grid, hbm, formats, parameters, MACHINE, rows))
    program = builder.record(mask.record, mask.items)
    assert int(program.item_phase.max()) == mask.phases - 1
    return mask.scores.matrix.data.reshape(-1, grid.q_blocks, grid.k_blocks)


def block_means(x, block=4):
    """Mean rows of every block of [heads, rows, dim]."""
    starts = range(0, x.shape[1], block)
    return np.stack([x[:, i : i + block].astype(np.float64).mean(axis=1) for i in starts], axis=1)


def per_query_head(problem, x):
    return np.repeat(x, problem.q_heads // problem.kv_heads, axis=0)


def seen_blocks(problem, block=4):
    grid = grid_of(problem, block)
    last = np.minimum(np.arange(1, grid.q_blocks + 1) * block, problem.q_len) - 1 + grid.offset
    return (np.arange(grid.k_blocks) * block <= last[:, None]) | (not problem.causal)


@pytest.mark.parametrize("case", CASES)
def test_pooled_scores_are_products_of_means(case):
    problem = problem_of(**case)
    tensors = tensors_of(problem)
    queries = block_means(tensors.q)
    keys = per_query_head(problem, block_means(tensors.k))
    expected = queries @ keys.transpose(0, 2, 1) / np.sqrt(6)
    found = scores_of(pooled_mask, problem, tensors, mask="pooled")
    np.testing.assert_allclose(found, expected, atol=FP32_ERROR)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_antidiagonal_scores_are_probabilities_of_antidiagonal_sums(case, stride):
    problem = problem_of(**case)
    tensors, grid = tensors_of(problem), grid_of(problem, 4)
    groups_q, groups_k = -(-problem.q_len // stride), -(-problem.kv_len // stride)
    expected = np.zeros((grid.heads, grid.q_blocks, grid.k_blocks))
    keys_of_heads = per_query_head(problem, tensors.k)
    for head in range(grid.heads):
        q, k = np.zeros((groups_q * stride, 6)), np.zeros((groups_k * stride, 6))
        q[: problem.q_len], k[: problem.kv_len] = tensors.q[head], keys_of_heads[head]
        sums = np.zeros((groups_q, groups_k))
        for i in range(stride):
            sums += q[stride - 1 - i :: stride] @ k[i::stride].T
        sums /= np.sqrt(6) * stride
        if problem.causal:
            last_token = np.arange(groups_q)[:, None] * stride + stride - 1 + grid.offset
            # The last key that a group sees decides, whether or not it begins the next group.
            reach = (np.arange(groups_q) + -(-grid.offset // stride))[:, None]
            assert (last_token // stride <= reach).all()
            sums[np.arange(groups_k) > reach] = -np.inf
        weights = np.exp(sums - sums.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        for i in range(grid.q_blocks):
            rows = weights[i * 4 // stride : (i + 1) * 4 // stride].mean(axis=0)
            expected[head, i] = np.add.reduceat(rows, np.arange(0, groups_k, 4 // stride))
    found = scores_of(antidiagonal_mask, problem, tensors, mask="antidiagonal", stride=stride)
    np.testing.assert_allclose(found, expected, atol=FP32_ERROR)
    np.testing.assert_allclose(found.sum(axis=2), 1, atol=FP32_ERROR)


def largest_of_blocks(problem, tokens):
    """Largest element of every block of [heads, q_len, kv_len]."""
    rows = np.maximum.reduceat(tokens, np.arange(0, problem.q_len, 4), axis=1)
    return np.maximum.reduceat(rows, np.arange(0, problem.kv_len, 4), axis=2)


@pytest.mark.parametrize("case", CASES)
def test_indexer_scores_with_fitted_weights(case, tmp_path):
    problem = problem_of(**case)
    tensors, rng = tensors_of(problem), np.random.default_rng(2)
    path = tmp_path / "weights.safetensors"
    weights = {n: rng.standard_normal((2, 6, 3)).astype(np.float32) for n in ("index_q", "index_k")}
    write_arrays(path, {f"some.{name}": values for name, values in weights.items()})
    keys = tensors.k @ np.concatenate([weights["index_k"]] * 2)
    group_weights = np.repeat(np.concatenate([weights["index_q"]] * 2), 2, axis=0)
    queries = tensors.q @ group_weights
    keys, queries = keys.astype(np.float16), queries.astype(np.float16)
    tokens = np.maximum(
        queries.astype(float) @ np.repeat(keys, 2, 0).astype(float).transpose(0, 2, 1), 0
    )
    tokens = tokens.reshape(4, 2, problem.q_len, problem.kv_len).sum(axis=1)
    expected = largest_of_blocks(problem, tokens) / (np.sqrt(6) * 2)
    found = scores_of(
        indexer_mask,
        problem,
        tensors,
        mask="indexer",
        index_dim=3,
        index_format="fp16",
        weights=str(path),
        weights_prefix="some.",
    )
    seen = seen_blocks(problem)
    # One FP16 rounding of vectors of order 10 may differ, by 2^-11 of their products.
    np.testing.assert_allclose(found[:, seen], expected[:, seen], rtol=2**-9, atol=2**-8)
    assert np.isneginf(found[:, ~seen]).all()


def test_the_random_projection_keeps_products_when_it_keeps_all_dimensions():
    problem = problem_of(q_len=12, kv_len=12, causal=False)
    tensors = tensors_of(problem)
    settings = {"mask": "indexer", "index_dim": 6, "index_format": "fp16"}
    found = scores_of(indexer_mask, problem, tensors, **settings)
    keys = per_query_head(problem, tensors.k).astype(float)
    tokens = np.maximum(tensors.q.astype(float) @ keys.transpose(0, 2, 1), 0)
    tokens = tokens.reshape(4, 2, 12, 12).sum(axis=1)
    expected = largest_of_blocks(problem, tokens) / (np.sqrt(6) * 2)
    # FP16 vectors: each of six products of numbers of order 3 is off by 2 x 2^-11 of itself.
    np.testing.assert_allclose(found, expected, atol=6 * 9 * 2**-10)
    other = scores_of(indexer_mask, problem, tensors, index_seed=1, **(settings | {"index_dim": 2}))
    first = scores_of(indexer_mask, problem, tensors, index_seed=0, **(settings | {"index_dim": 2}))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("case", CASES)
def test_gate_scores_are_products_of_linear_maps_of_means(case, tmp_path):
    problem = problem_of(**case)
    tensors, rng = tensors_of(problem), np.random.default_rng(3)
    gate_q, gate_k = (rng.standard_normal((n, 6, 5)).astype(np.float32) for n in (4, 2))
    write_arrays(tmp_path / "gate.npz", {"gate_q": gate_q, "gate_k": gate_k})
    queries = block_means(tensors.q) @ np.concatenate([gate_q, gate_q])
    keys = block_means(tensors.k) @ np.concatenate([gate_k, gate_k])
    expected = queries @ per_query_head(problem, keys).transpose(0, 2, 1) / np.sqrt(5)
    found = scores_of(
        gate_mask, problem, tensors, mask="gate", gate_dim=5, weights=str(tmp_path / "gate.npz")
    )
    np.testing.assert_allclose(found, expected, atol=3 * FP32_ERROR)  # scores of order 3


def test_a_gate_without_weights_is_refused():
    problem = problem_of(q_len=8, kv_len=8, causal=True)
    with pytest.raises(WorkloadError) as raised:
        scores_of(gate_mask, problem, tensors_of(problem), mask="gate", weights_prefix="layer1.")
    assert str(raised.value) == (
        "mask gate needs learned weights: sparse(mask=gate, weights=FILE), "
        "with the array 'layer1.gate_q' [4, 6, 32]"
    )


def test_weights_of_another_shape_are_refused(tmp_path):
    problem = problem_of(q_len=8, kv_len=8, causal=True)
    path = tmp_path / "gate.npz"
    write_arrays(path, {"gate_q": np.zeros((4, 6, 7)), "gate_k": np.zeros((2, 6, 7))})
    with pytest.raises(WorkloadError) as raised:
        scores_of(gate_mask, problem, tensors_of(problem), mask="gate", weights=str(path))
    assert str(raised.value) == (
        f"{path}: array 'gate_q' has shape [4, 6, 7], the workload says [4, 6, 32]"
    )


def test_a_stride_that_does_not_divide_the_block_is_refused():
    problem = problem_of(q_len=8, kv_len=8, causal=True)
    with pytest.raises(WorkloadError) as raised:
        scores_of(antidiagonal_mask, problem, tensors_of(problem), mask="antidiagonal", stride=3)
    assert str(raised.value) == (
        "mask antidiagonal: found stride 3 with blocks of 4, allowed: a divisor of the block"
    )
