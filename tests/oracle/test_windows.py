"""A window, sinks and a cap of scores that are part of the problem: kernels honour them exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.errors import ConfigError, WorkloadError
from accelsim.kernels.attention.oracle import softmax_attention
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.registry import library_of
from accelsim.library.sequences import check_scores
from accelsim.loading import load_machine
from accelsim.workload.problem import AttentionProblem
from tests.oracle.recorded import MACHINE, moved_bytes, run
from tests.oracle.statements import normal_tensors

FP32 = {"precision": "fp32"}
SMALL = load_machine("ascend-910b-no-l2", {"scratchpad.capacity": "6 KiB"})


def problem_of(q_len=1, kv_len=40, steps=1, **own):
    fields = {"kind": "attention", "name": "windowed", "q_heads": 4, "kv_heads": 2, "head_dim": 8}
    fields |= {"q_len": q_len, "kv_len": kv_len, "steps": steps, "dtype": "fp32", "causal": True}
    return validate(AttentionProblem, Document(fields | own, {(): ""}))


def by_hand(problem, tensors):
    """Return attention row by row: each row lists the keys that it sees."""
    output = np.zeros((problem.q_heads, problem.q_len * problem.steps, problem.head_dim))
    for head in range(problem.q_heads):
        keys, values = tensors.k[head // 2].astype(float), tensors.v[head // 2].astype(float)
        for row in range(output.shape[1]):
            own = problem.kv_len - output.shape[1] + row
            seen = [
                key
                for key in range(own + 1)
                if own - key < (problem.window or np.inf) or key < problem.sink_tokens
            ]
            scores = keys[seen] @ tensors.q[head, row].astype(float) / np.sqrt(problem.head_dim)
            if problem.softcap:
                scores = problem.softcap * np.tanh(scores / problem.softcap)
            weights = np.exp(scores - scores.max())
            output[head, row] = weights @ values[seen] / weights.sum()
    return output.reshape(-1, problem.head_dim)


masks = st.fixed_dictionaries(
    {"window": st.integers(1, 50), "sink_tokens": st.integers(0, 12)},
    optional={"softcap": st.sampled_from([0.5, 2.0, 30.0])},
)
seeds = st.integers(0, 2**16)


@settings(max_examples=80)
@given(st.integers(1, 40), masks, seeds, st.integers(1, 9), st.integers(1, 20), st.booleans())
def test_flash_sees_the_window_and_the_sinks(q_len, mask, seed, tile_q, tile_k, fold):
    problem = problem_of(q_len, **mask)
    tensors = normal_tensors(problem, seed, 3.0)
    expected = by_hand(problem, tensors)
    np.testing.assert_allclose(softmax_attention(problem, tensors), expected, rtol=0, atol=1e-12)
    tiles = {"tile_q": tile_q, "tile_k": tile_k, "fold": fold}
    _, output = run("flash", problem, tensors, **tiles, **FP32)
    np.testing.assert_allclose(output, expected, rtol=0, atol=2e-5)


@settings(max_examples=40)
@given(st.integers(1, 40), masks, seeds)
def test_dense_sees_the_window_and_the_sinks(q_len, mask, seed):
    problem = problem_of(q_len, **mask)
    tensors = normal_tensors(problem, seed, 3.0)
    _, output = run("dense", problem, tensors, **FP32)
    np.testing.assert_allclose(output, by_hand(problem, tensors), rtol=0, atol=2e-5)


@settings(max_examples=60)
@given(st.integers(1, 8), masks, seeds, st.integers(1, 5), st.integers(1, 20))
def test_decode_reads_only_the_keys_of_the_window(steps, mask, seed, splits, tile_k):
    problem = problem_of(1, 40, steps, **mask)
    tensors = normal_tensors(problem, seed, 3.0)
    expected = by_hand(problem, tensors)
    attended = sum(
        min(40 - steps + step + 1, problem.window + problem.sink_tokens) for step in range(steps)
    )
    for name, own in [("split_kv", {"splits": splits}), ("window", {})]:
        program, output = run(name, problem, tensors, tile_k=tile_k, **own, **FP32)
        np.testing.assert_allclose(output, expected, rtol=0, atol=2e-5)
        assert moved_bytes(program, "k") == moved_bytes(program, "v") == 2 * attended * 8 * 4
        assert problem.macs == 4 * 16 * attended
    assert program.statistics["kept_fraction"] == 1
    assert program.statistics["kept_mass"] == pytest.approx(1, abs=1e-12)


def test_a_window_in_pieces_is_that_of_the_problem():
    problem = problem_of(1, 900, window=600, sink_tokens=3, softcap=2.0)
    tensors = normal_tensors(problem, 1)
    program, output = run("window", problem, tensors, machine=SMALL, **FP32)
    assert program.parameters["piece"] < 300
    np.testing.assert_allclose(output, by_hand(problem, tensors), rtol=0, atol=1e-5)


def test_the_window_kernel_attends_to_no_key_that_the_problem_hides():
    problem = problem_of(1, 40, window=10, sink_tokens=2)
    tensors = normal_tensors(problem, 2)
    program, _ = run("window", problem, tensors, window=30, sinks=5, **FP32)
    assert moved_bytes(program, "k") == 2 * 12 * 8 * 4
    program, _ = run("window", problem, tensors, window=6, sinks=0, **FP32)
    assert moved_bytes(program, "k") == 2 * 6 * 8 * 4
    assert program.statistics["kept_fraction"] == 6 / 12
    exact, output = run("window", problem, tensors, window=6, exact_steps=1, **FP32)
    assert exact.statistics == {"exact_fraction": 1}
    np.testing.assert_allclose(output, by_hand(problem, tensors), rtol=0, atol=1e-5)


def test_a_prompt_skips_key_tiles_outside_its_window():
    """256 rows in tiles of 16: the first two tiles see 1 and 2 tiles of keys, the others 3.

    16 rows with windows of 32 keys see 47 keys, which lie in three tiles of 16.
    """
    problem = problem_of(256, 256, window=32)
    tiles = {"tile_q": 16, "tile_k": 16, "fold": False}
    program, _ = run("flash", problem, None, **tiles)
    assert moved_bytes(program, "k") == 4 * (1 + 2 + 14 * 3) * 16 * 8 * 4
    with_sinks, _ = run("flash", problem.model_copy(update={"sink_tokens": 4}), None, **tiles)
    more = moved_bytes(with_sinks, "k") - moved_bytes(program, "k")
    assert more == 4 * 13 * 16 * 8 * 4
    rows = np.arange(1, 257)
    assert problem.macs == 4 * 16 * int(np.minimum(rows, 32).sum())


def test_a_wide_window_is_plain_causal_attention():
    plain = problem_of(20, 40)
    tensors = normal_tensors(plain, 3)
    _, expected = run("flash", plain, tensors, query_tiles=1, **FP32)
    _, output = run("flash", problem_of(20, 40, window=40), tensors, query_tiles=1, **FP32)
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-6)
    assert problem_of(20, 40, window=40).macs == plain.macs


@pytest.mark.parametrize("name", kernel_names())
def test_kernels_that_cannot_honour_a_mask_refuse_it_by_name(name):
    kernel = get_kernel(name)
    if kernel.problem_kind != "attention":
        return
    for q_len, own, able in [
        (1, {"window": 8, "softcap": 2.0}, {"flash", "dense", "split_kv", "window"}),
        (4, {"window": 8}, {"flash", "dense"}),
        (4, {"softcap": 2.0}, {"flash", "dense", "split_kv"}),
    ]:
        problem = problem_of(q_len, **own)
        if name in able:
            check_scores(kernel, problem)
            continue
        with pytest.raises(WorkloadError) as error:
            check_scores(kernel, problem)
        message = str(error.value)
        assert message.startswith(f"workload windowed: kernel {name} cannot honour ")
        assert set(message.split("kernels that can: ")[1].split(", ")) == able


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"window": 0}, "window: found 0, expected a value greater than 0"),
        ({"window": -4}, "window: found -4, expected a value greater than 0"),
        ({"window": 8, "causal": False}, "found 8 with causal = false and 4 new tokens"),
        ({"sink_tokens": 2}, "found 2 without window, allowed: beside a window"),
        (
            {"window": 8, "sink_tokens": -1},
            "sink_tokens: found -1, expected a value greater than or equal to 0",
        ),
        ({"softcap": 0}, "softcap: found 0"),
        ({"softcap": float("nan")}, "softcap: found nan"),
    ],
)
def test_masks_that_cannot_be_are_refused(own, message):
    with pytest.raises(ConfigError) as error:
        problem_of(4, **own)
    assert message in str(error.value)


def test_two_query_tiles_in_turn_have_no_window():
    with pytest.raises(WorkloadError) as error:
        run("flash", problem_of(8, window=4), None, query_tiles=2)
    assert str(error.value) == (
        "flash on windowed: found query_tiles = 2 with a window, allowed: 1"
    )


def test_every_library_runs_a_window():
    for q_len in (1, 4, 64):
        problem = problem_of(q_len, 128, window=32, sink_tokens=2, dtype="bf16")
        for machine in (MACHINE, load_machine("h200-sxm")):
            recipe = library_of(machine).recipe(problem, machine)
            check_scores(recipe.algorithm, problem)
            recipe.algorithm.record(problem, machine, recipe.parameters(), None)
