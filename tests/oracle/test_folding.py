"""Query heads of a group folded into the rows of a tile: the same numbers, K and V read once."""

import numpy as np
import pytest

from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors
from tests.oracle.recorded import assert_query_and_output_move_once, moved_bytes, run


def problem_of(group, q_len, kv_len, *, causal, batch=1, kv_heads=2, dtype="fp16"):
    return AttentionProblem(
        kind="attention",
        name="folded",
        batch=batch,
        q_heads=group * kv_heads,
        kv_heads=kv_heads,
        head_dim=16,
        q_len=q_len,
        kv_len=kv_len,
        causal=causal,
        dtype=dtype,
    )


def tensors_of(problem):
    rng = np.random.default_rng(5)
    shapes = problem.input_shapes.values()
    return AttentionTensors(
        *(rng.uniform(-2, 2, shape).astype(np.float16).astype(np.float32) for shape in shapes)
    )


SHAPES = [
    # group, q_len, kv_len, causal, batch, tile_q, tile_k: ragged, and tiles across heads
    (1, 5, 23, True, 1, 16, 8),
    (2, 7, 40, True, 2, 5, 16),
    (3, 1, 33, False, 1, 2, 16),
    (4, 3, 17, True, 2, 8, 5),
    (7, 4, 19, True, 1, 10, 8),
    (8, 16, 16, True, 1, 48, 16),
    (8, 2, 50, False, 3, 16, 32),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [{"query_tiles": 1}, {"query_tiles": 2}])
def test_folding_flash_changes_no_number(shape, settings):
    """Rows do not meet each other: a row has the same sums in a tile of its own head."""
    group, q_len, kv_len, causal, batch, tile_q, tile_k = shape
    problem = problem_of(group, q_len, kv_len, causal=causal, batch=batch)
    tensors, tiles = tensors_of(problem), {"tile_q": tile_q, "tile_k": tile_k, **settings}
    _, plain = run("flash", problem, tensors, **tiles, fold=False)
    _, folded = run("flash", problem, tensors, **tiles, fold=True)
    np.testing.assert_array_equal(plain, folded)


@pytest.mark.parametrize("shape", SHAPES)
def test_folding_dense_changes_no_number(shape):
    group, q_len, kv_len, causal, batch, tile_q, tile_k = shape
    problem = problem_of(group, q_len, kv_len, causal=causal, batch=batch)
    tensors = tensors_of(problem)
    tiles = {"tile_q": tile_q, "tile_k": tile_k, "softmax_rows": 6}
    _, plain = run("dense", problem, tensors, **tiles, fold=False)
    _, folded = run("dense", problem, tensors, **tiles, fold=True)
    np.testing.assert_array_equal(plain, folded)


@pytest.mark.parametrize("kernel", ["pasa", "centered"])
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4], SHAPES[6]])
def test_folding_shifted_keys_changes_no_number(kernel, shape):
    group, q_len, kv_len, causal, batch, tile_q, _ = shape
    problem = problem_of(group, q_len, kv_len, causal=causal, batch=batch)
    tensors, tiles = tensors_of(problem), {"tile_q": tile_q, "tile_k": 16}
    _, plain = run(kernel, problem, tensors, **tiles, fold=False)
    _, folded = run(kernel, problem, tensors, **tiles, fold=True)
    np.testing.assert_array_equal(plain, folded)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("precision", ["fp32", "fp16_fp32", "fp16"])
def test_folding_changes_no_number_in_any_format(dtype, precision):
    problem = problem_of(4, 3, 21, causal=True, dtype=dtype)
    tensors = tensors_of(problem)
    settings = {"tile_q": 8, "tile_k": 8, "precision": precision}
    _, plain = run("flash", problem, tensors, **settings, fold=False)
    _, folded = run("flash", problem, tensors, **settings, fold=True)
    np.testing.assert_array_equal(plain, folded)


@pytest.mark.parametrize("kernel", ["flash", "dense"])
@pytest.mark.parametrize(("q_heads", "kv_heads"), [(28, 4), (32, 8), (64, 8)])
def test_a_decode_step_reads_keys_and_values_once(kernel, q_heads, kv_heads):
    """K and V of a step are kv_heads kv_len d b bytes each, whatever shares them."""
    problem = AttentionProblem(
        kind="attention",
        name="step",
        q_heads=q_heads,
        kv_heads=kv_heads,
        head_dim=128,
        q_len=1,
        kv_len=32768 if kernel == "flash" else 4096,
        dtype="bf16",
    )
    program, _ = run(kernel, problem, None)
    own = kv_heads * problem.kv_len * 128 * 2
    assert moved_bytes(program, "k") == moved_bytes(program, "v") == own
    assert_query_and_output_move_once(problem, program)
