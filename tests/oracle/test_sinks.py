"""Logits of heads without keys: kernels honour them exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.errors import WorkloadError
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.registry import get_kernel
from accelsim.library.sequences import check_parts
from accelsim.loading import load_machine
from accelsim.workload.problem import AttentionProblem
from tests.oracle.recorded import MACHINE, moved_bytes, run
from tests.oracle.statements import normal_tensors

FP32 = {"precision": "fp32"}
SMALL = load_machine("ascend-910b-no-l2", {"scratchpad.capacity": "4 KiB"})


def problem_of(**own):
    fields = {"kind": "attention", "name": "sinks", "q_heads": 6, "kv_heads": 2, "head_dim": 8}
    fields |= {"dtype": "fp32", "causal": True, "sink_logits": True}
    return validate(AttentionProblem, Document(fields | own, {(): ""}))


def by_hand(problem, tensors):
    """Attention of one length, in which every row has one more key: its score is the logit of the
    head, its value is zero."""
    output = np.zeros(problem.output_shapes["o"])
    rows = problem.q_len * problem.steps
    for head in range(len(output)):
        kv_head = head * problem.kv_heads // problem.q_heads
        values = np.vstack([tensors.v[kv_head], np.zeros((1, problem.head_dim))])
        for row in range(rows):
            seen = problem.kv_len - rows + row + 1
            first = max(0, seen - (problem.window or seen))
            keys = tensors.k[kv_head][first:seen].astype(float)
            scores = keys @ tensors.q[head, row].astype(float) / np.sqrt(problem.head_dim)
            scores = np.append(scores, tensors.sinks[head % problem.q_heads, 0])
            weights = np.exp(scores - scores.max())
            own = np.vstack([values[first:seen], values[-1:]])
            output[head, row] = weights @ own / weights.sum()
    return output.reshape(-1, problem.head_dim)


seeds = st.integers(0, 2**16)


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(0, 20), seeds, st.integers(1, 9), st.sampled_from([3, 16]))
@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("window", [None, 5])
def test_flash_has_a_logit_more_in_each_softmax(fold, window, new, cached, seed, tile_q, tile_k):
    problem = problem_of(batch=2, q_len=new, kv_len=new + cached, window=window)
    tensors = normal_tensors(problem, seed, 3.0)
    expected = by_hand(problem, tensors)
    np.testing.assert_allclose(softmax_attention(problem, tensors), expected, rtol=0, atol=1e-12)
    _, output = run("flash", problem, tensors, tile_q=tile_q, tile_k=tile_k, fold=fold, **FP32)
    np.testing.assert_allclose(output, expected, rtol=0, atol=2e-5)


@settings(max_examples=30)
@given(st.integers(2, 9), st.integers(0, 20), seeds)
def test_query_tiles_in_turn_have_it_too(new, cached, seed):
    problem = problem_of(q_len=new, kv_len=new + cached)
    tensors = normal_tensors(problem, seed, 3.0)
    _, output = run("flash", problem, tensors, query_tiles=2, tile_q=4, tile_k=7, **FP32)
    np.testing.assert_allclose(output, by_hand(problem, tensors), rtol=0, atol=2e-5)


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 30), seeds, st.integers(1, 5), st.integers(1, 3))
def test_decode_has_it_in_one_of_its_ranges(new, cached, seed, splits, steps):
    steps = steps if new == 1 else 1
    problem = problem_of(batch=2, q_len=new, kv_len=new * steps + cached, steps=steps)
    tensors = normal_tensors(problem, seed, 3.0)
    for machine in (MACHINE, SMALL):
        settings_ = {"splits": splits, "machine": machine, **FP32}
        _, output = run("split_kv", problem, tensors, **settings_)
        np.testing.assert_allclose(output, by_hand(problem, tensors), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kernel", ["flash", "split_kv"])
def test_sequences_of_different_lengths_have_the_logits_of_their_heads(kernel):
    lengths = [{"new": 1, "cached": 4}, {"new": 1, "cached": 11, "count": 2}]
    problem = problem_of(sequences=lengths)
    tensors = normal_tensors(problem, 3, 3.0)
    parts = [by_hand(*each) for each in tensors.parts(problem)]
    _, output = run(kernel, problem, tensors, **FP32)
    np.testing.assert_allclose(output, np.concatenate(parts), rtol=0, atol=2e-5)


def test_a_logit_that_is_very_low_changes_nothing_and_one_that_is_very_high_leaves_nothing():
    problem = problem_of(q_len=3, kv_len=9)
    plain = problem.model_copy(update={"sink_logits": False})
    tensors = normal_tensors(problem, 3)
    _, without = run("flash", plain, tensors._replace(sinks=None), **FP32)
    for logit, expected in ((-1e4, without), (1e4, np.zeros_like(without))):
        own = tensors._replace(sinks=np.full((6, 1), logit, np.float32))
        _, output = run("flash", problem, own, **FP32)
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", ["flash", "split_kv"])
def test_a_decode_step_reads_the_logit_of_each_head_once(kernel):
    problem = problem_of(q_len=1, kv_len=64)
    program, _ = run(kernel, problem, None)
    assert moved_bytes(program, "sinks") == 6 * 4
    assert problem.tensor_bytes["sinks"] == 6 * 4


def test_a_kernel_that_has_none_is_refused():
    with pytest.raises(WorkloadError) as caught:
        check_parts(get_kernel("dense"), problem_of(q_len=1, kv_len=64))
    assert str(caught.value) == (
        "workload sinks: kernel dense has no sink_logits; kernels that have: flash, split_kv"
    )
