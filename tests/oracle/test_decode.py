"""Decode kernels compute what the float64 statement says, and move the bytes it implies.

With FP32 tensors and steps the only differences are roundings: sums of a few dozen terms of order
one, each within 2^-24, leave far less than 1e-5.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.program.ops import Op
from tests.oracle.recorded import (
    MACHINE,
    assert_query_and_output_move_once,
    gathered_keys,
    moved_bytes,
    row_bytes,
    run,
    seen_in_all_steps,
)
from tests.oracle.statements import (
    attention_over,
    full_mask,
    generation,
    normal_tensors,
    quest_masks,
    scores_of,
    seen,
    sift_mask,
    softmax,
    split_attention,
    topk_mask,
    union,
    window_mask,
)

TOLERANCE = 1e-5
FP32 = {"precision": "fp32"}

problems = st.builds(
    lambda steps, cached, heads, group, dim, causal: generation(
        steps, steps + cached, heads=heads, group=group, dim=dim, causal=causal
    ),
    st.integers(1, 20),
    st.integers(0, 30),
    st.integers(1, 2),
    st.integers(1, 3),
    st.sampled_from([4, 8, 16]),
    st.booleans(),
)
seeds = st.integers(0, 2**16)
tiles = st.one_of(st.none(), st.integers(1, 20))


@given(
    st.lists(st.floats(-30, 30), min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 99)
)
def test_merged_splits_are_dense_attention_in_float64(scores, splits, seed):
    values = np.random.default_rng(seed).standard_normal((len(scores), 4))
    merged = split_attention(np.array(scores), values, splits)
    np.testing.assert_allclose(merged, softmax(np.array(scores)) @ values, rtol=0, atol=1e-11)


@given(problems, seeds, tiles, st.integers(1, 5))
def test_split_kv_is_exact(problem, seed, tile_k, splits):
    tensors = normal_tensors(problem, seed)
    _, output = run("split_kv", problem, tensors, tile_k=tile_k, splits=splits, **FP32)
    expected = attention_over(problem, tensors, full_mask(problem))
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)


def test_results_of_ranges_are_loaded_several_at_a_time():
    """Results of 1 KiB: the first one, then as many as a 32nd of the scratchpad holds, or 16."""
    at_once = min(16, MACHINE.scratchpad.capacity // 32 // 1024)
    assert at_once > 1
    problem = generation(1, 160, group=4, dim=64)
    program, _ = run("split_kv", problem, None, splits=40, tile_k=4, **FP32)
    of_ranges, of_merge = 40 * 3, 3 * (1 + math.ceil(39 / at_once))
    assert program.totals.counts[Op.LOAD] == of_ranges + of_merge


@given(problems, st.integers(1, 5), st.sampled_from(["fp32", "fp16"]))
def test_traffic_of_split_kv(problem, splits, precision):
    """Every split reads the query; partials are written and read once, d + 2 numbers a row."""
    program, _ = run("split_kv", problem, None, splits=splits, precision=precision)
    rows = parts = 0
    for step in range(problem.steps):
        length = math.ceil(seen(problem, step) / splits)
        ranges = math.ceil(seen(problem, step) / length)
        rows += ranges
        parts += ranges if ranges > 1 else 0
    number_bytes = {"fp32": 4, "fp16": 2}[precision]
    size, group = row_bytes(problem), problem.q_heads // problem.kv_heads
    cached = problem.kv_heads * seen_in_all_steps(problem) * size
    assert moved_bytes(program, "k") == moved_bytes(program, "v") == cached
    assert moved_bytes(program, "q") == problem.q_heads * rows * size
    assert moved_bytes(program, "o") == problem.q_heads * problem.steps * size
    names = [tensor.name for tensor in program.tensors if tensor.role == "intermediate"]
    assert len(names) == (3 if splits > 1 else 0)
    partials = sum(moved_bytes(program, name) for name in names)
    heads = problem.kv_heads * group
    assert partials == 2 * heads * parts * (problem.head_dim + 2) * number_bytes


@given(problems, seeds, tiles, st.sampled_from(["radix", "bitonic", "merge"]), st.integers(1, 30))
def test_topk_attends_to_exactly_the_k_largest(problem, seed, tile_k, ranking, k):
    tensors = normal_tensors(problem, seed)
    program, output = run("topk", problem, tensors, tile_k=tile_k, ranking=ranking, k=k, **FP32)
    mask = topk_mask(problem, tensors, lambda _: k)
    expected = attention_over(problem, tensors, mask)
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)
    assert moved_bytes(program, "k") == problem.kv_heads * seen_in_all_steps(problem) * row_bytes(
        problem
    )
    assert moved_bytes(program, "v") == union(problem, mask).sum() * row_bytes(problem)
    assert_query_and_output_move_once(problem, program)
    assert program.statistics["kept_fraction"] == pytest.approx(
        mask.sum() / full_mask(problem).sum(), rel=1e-12
    )
    assert program.statistics["union_fraction"] == pytest.approx(
        union(problem, mask).sum() / union(problem, full_mask(problem)).sum(), rel=1e-12
    )


@given(problems, seeds, st.integers(1, 12), st.integers(0, 5))
def test_window_attends_to_sinks_and_latest(problem, seed, window, sinks):
    tensors = normal_tensors(problem, seed)
    program, output = run("window", problem, tensors, window=window, sinks=sinks, **FP32)
    mask = window_mask(problem, window, sinks)
    expected = attention_over(problem, tensors, mask)
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)
    kept = sum(min(seen(problem, s), sinks + window) for s in range(problem.steps))
    size = problem.kv_heads * kept * row_bytes(problem)
    assert moved_bytes(program, "k") == moved_bytes(program, "v") == size
    assert_query_and_output_move_once(problem, program)


@given(problems, seeds, tiles, st.integers(1, 6), st.integers(1, 4))
def test_quest_attends_to_the_pages_with_the_largest_bounds(problem, seed, tile_k, page, pages):
    tensors = normal_tensors(problem, seed)
    program, output = run("quest", problem, tensors, tile_k=tile_k, page=page, pages=pages, **FP32)
    mask = quest_masks(problem, tensors, page, lambda _: pages)
    expected = attention_over(problem, tensors, mask)
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)
    kept = union(problem, mask).sum() * row_bytes(problem)
    assert moved_bytes(program, "k") == moved_bytes(program, "v") == kept
    full = [(seen(problem, step) - 1) // page for step in range(problem.steps)]
    scored = problem.kv_heads * sum(m for m in full if m > pages) * row_bytes(problem)
    assert moved_bytes(program, "k_min") == moved_bytes(program, "k_max") == scored
    assert_query_and_output_move_once(problem, program)


@settings(max_examples=60)
@given(
    problems,
    seeds,
    st.sampled_from(["fit", "c_over_t", "given"]),
    st.sampled_from([0.25, 0.5, 0.75, 0.9]),
    st.integers(1, 12),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.booleans(),
)
def test_sift_keeps_what_reaches_the_threshold(
    problem, seed, rule, tau, warmup, factor, renormalize
):
    tensors = normal_tensors(problem, seed)
    warmup = min(warmup, problem.steps)
    program, output = run(
        "sift",
        problem,
        tensors,
        tau=tau,
        warmup=warmup,
        rule=rule,
        c=1.0 if rule == "given" else None,
        threshold_factor=factor,
        fit_from=1,
        renormalize=renormalize,
        **FP32,
    )
    mask = sift_mask(problem, tensors, tau, warmup, rule, factor=factor)
    together = union(problem, mask)
    found = gathered_keys(problem, program, "v")
    np.testing.assert_array_equal(found[:, warmup:], together[:, warmup:])
    assert moved_bytes(program, "v") == together.sum() * row_bytes(problem)
    assert moved_bytes(program, "k") == problem.kv_heads * seen_in_all_steps(problem) * row_bytes(
        problem
    )
    expected = attention_over(problem, tensors, mask, renormalize=renormalize)
    np.testing.assert_allclose(output, expected, rtol=0, atol=TOLERANCE)
    if warmup < problem.steps:
        kept, all_keys = mask[:, warmup:], full_mask(problem)[:, warmup:]
        assert program.statistics["kept_fraction"] == pytest.approx(kept.sum() / all_keys.sum())
        mass = [
            softmax(scores_of(problem, tensors, head, step))[
                mask[head, step, : seen(problem, step)]
            ].sum()
            for head in range(problem.q_heads)
            for step in range(warmup, problem.steps)
        ]
        assert program.statistics["kept_mass"] == pytest.approx(np.mean(mass), abs=1e-12)


def test_half_precision_stays_within_its_rounding():
    """FP16 rounds by 2^-11 of numbers of order one; 2^-7 leaves room for sixteen such roundings."""
    problem = generation(40, 80, heads=2, group=2, dim=16, dtype="fp16")
    tensors = normal_tensors(problem, 5)
    for name, settings_, mask in [
        ("split_kv", {"splits": 3}, full_mask(problem)),
        ("window", {"window": 9}, window_mask(problem, 9, 4)),
    ]:
        _, output = run(name, problem, tensors, precision="fp16", **settings_)
        expected = attention_over(problem, tensors, mask)
        np.testing.assert_allclose(output, expected, rtol=0, atol=2**-7)
