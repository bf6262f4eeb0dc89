"""Tokens that are decoded one by one behind a prompt, in a whole model."""

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.errors import AccelsimError
from accelsim.numerics.formats import Format
from accelsim.quality.attention import KernelAttention
from accelsim.quality.evaluate import evaluate
from accelsim.quality.passages import Reading
from accelsim.quality.passes import Network, Window
from accelsim.workload.model import forward
from accelsim.workload.model.forward import (
    PLAIN,
    Hooks,
    KeyValueCache,
    causal_attention,
    final_states,
    token_losses,
)
from accelsim.workload.model.language import load_model
from accelsim.workload.model.release import model_path
from tests.tiny_model import TEXT
from tests.unit.quality.test_attention import FLOAT32_STEPS

IN_FP32 = {"workload.dtype": "fp32"}
MACHINE = "edge-npu"
PROMPT, TOKENS = 9, 15
SELECTING = "window(window=4, sinks=1, precision=fp32)"


@pytest.fixture
def model(installed):
    return load_model(installed)


@pytest.fixture
def ids(model):
    return model.token_ids(TEXT, TOKENS + 1)


def hooks_of(recipe):
    return Hooks(attention=KernelAttention(Bench.prepare(MACHINE, recipe), Format.FP32))


def states_behind(model, ids, hooks):
    """States of the tokens behind the prompt, which is read in FP32."""
    network, window = Network(model.weights, hooks, PLAIN), Window(ids, PROMPT)
    return network.states(window, network.cached(window))


def test_an_exact_kernel_decodes_what_the_whole_text_gives(model, ids):
    found = states_behind(model, ids, hooks_of("split_kv(precision=fp32)"))
    whole = final_states(model.weights, ids[:-1])
    np.testing.assert_allclose(found, whole[PROMPT:], rtol=0, atol=FLOAT32_STEPS)


@pytest.mark.parametrize("recipe", [SELECTING, "flash(precision=fp32)"])
def test_layers_over_all_steps_are_steps_over_all_layers(model, ids, recipe):
    hooks = hooks_of(recipe)
    cache = KeyValueCache(model.weights.config, TOKENS)
    final_states(model.weights, ids[:PROMPT], cache=cache)
    steps = [final_states(model.weights, [each], hooks, cache) for each in ids[PROMPT:-1]]
    assert cache.tokens == TOKENS
    found = states_behind(model, ids, hooks_of(recipe))
    np.testing.assert_allclose(found, np.concatenate(steps), rtol=0, atol=FLOAT32_STEPS)


def test_what_a_step_leaves_out_is_missing_in_later_steps(model, ids):
    found = states_behind(model, ids, hooks_of(SELECTING))
    whole = final_states(model.weights, ids[:-1])[PROMPT:]
    assert (np.abs(found - whole).max(axis=1) > 100 * FLOAT32_STEPS).all()


def test_a_cache_that_was_cut_reads_on_from_there(model, ids):
    cache = KeyValueCache(model.weights.config, TOKENS)
    first = final_states(model.weights, ids[:-1], cache=cache)
    cache.tokens = PROMPT
    np.testing.assert_allclose(
        final_states(model.weights, ids[PROMPT:-1], cache=cache),
        first[PROMPT:],
        rtol=0,
        atol=FLOAT32_STEPS,
    )


@pytest.mark.parametrize("window", [None, 1, 3, 50])
@pytest.mark.parametrize("cached", [0, 5])
def test_attention_in_blocks_is_attention(cached, window, monkeypatch):
    rng = np.random.default_rng(3)
    shapes = (4, 7, 8), (2, 7 + cached, 8), (2, 7 + cached, 8)
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    expected = np.empty(q.shape)
    for head, row in np.ndindex(4, 7):
        end = cached + row + 1
        first = 0 if window is None else max(0, end - window)
        keys, values = (each[head // 2, first:end].astype(float) for each in (k, v))
        weights = np.exp(keys @ q[head, row] / np.sqrt(8))
        expected[head, row] = weights @ values / weights.sum()
    for rows in (1, 3, 1024):
        monkeypatch.setattr(forward, "_ATTENTION_SCORES", rows * k.shape[1])
        found = causal_attention(0, q, k, v, window)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_only_what_is_decoded_is_predicted_and_paid_for(text, model, ids):
    report = evaluate(
        "smollm2",
        SELECTING,
        IN_FP32,
        MACHINE,
        Reading(text, tokens=TOKENS, window=TOKENS, prompt=PROMPT),
    )
    losses = token_losses(model.weights, ids)[PROMPT:]
    assert report.fp32_nll == pytest.approx(losses.mean(), abs=FLOAT32_STEPS)
    assert (report.tokens, report.window, report.prompt) == (TOKENS - PROMPT, TOKENS, PROMPT)
    assert [each.layer for each in report.layers] == [0, 1]
    assert sum(each.cycles for each in report.layers) == report.attention.cycles
    assert sum(each.hbm_read_bytes for each in report.layers) == report.attention.hbm_read_bytes
    # Six steps over 10 to 15 keys attend to 5 of them; K and V have 2 heads of 16 in FP32.
    keys_bytes = 6 * 5 * 2 * (2 * 16 * 4)
    queries_bytes = 6 * 4 * 16 * 4
    assert report.layers[0].hbm_read_bytes == keys_bytes + queries_bytes
    assert report.to_dict()["layers"][1]["layer"] == 1


def test_the_error_of_a_layer_is_that_of_its_output(text):
    found = {}
    for recipe in ("split_kv(precision=fp32)", SELECTING):
        report = evaluate(
            "smollm2",
            recipe,
            IN_FP32,
            MACHINE,
            Reading(text, tokens=TOKENS, window=TOKENS, prompt=PROMPT),
        )
        found[recipe] = [each.relative_error for each in report.layers]
    exact, selecting = found.values()
    assert max(exact) < 1e-6
    assert min(selecting) > 0.01


def test_a_prompt_is_read_by_its_own_kernel(text):
    sizes = {"tokens": TOKENS, "window": TOKENS, "prompt": PROMPT}
    report = evaluate(
        "smollm2",
        "split_kv(precision=fp32)",
        IN_FP32,
        MACHINE,
        Reading(text, **sizes, prefill="flash(precision=fp32)"),
    )
    assert abs(report.nll_change.value) < FLOAT32_STEPS
    assert report.prefill.kernel == "flash"
    assert report.attention.kernel == "split_kv"
    steps = []
    evaluate(
        "smollm2",
        "split_kv",
        None,
        MACHINE,
        Reading(text, **sizes, prefill="flash"),
        progress=lambda done, total: steps.append((done, total)),
    )
    # Two layers: FP32 over the prompt and behind it, and kernels over both.
    assert steps == [(done, 8) for done in range(9)]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"prompt": TOKENS},
            f"prompt: found {TOKENS} tokens, allowed: 0 to {TOKENS - 1}, so that a token of every "
            f"window is decoded; the shortest has {TOKENS}",
        ),
        (
            {"prompt": 3, "window": 6},
            "prompt: found 3 tokens, allowed: 0 to 2, so that a token of every window is decoded; "
            "the shortest has 3",
        ),
        (
            {"prefill": "flash"},
            "prefill: found flash and no prompt; allowed: with --prompt, the tokens to prefill",
        ),
    ],
)
def test_messages(keys, expected):
    with pytest.raises(AccelsimError) as raised:
        Reading(**{"tokens": TOKENS, "window": TOKENS} | keys)
    assert str(raised.value) == expected


def test_a_kernel_of_decode_cannot_prefill(text):
    with pytest.raises(AccelsimError) as raised:
        evaluate("smollm2", "sift", reading=Reading(text, tokens=8, prompt=4, prefill="topk"))
    assert str(raised.value).startswith(
        "prefill: found kernel topk, which computes one token after the other; allowed for a "
        "prompt: "
    )
    assert "flash" in str(raised.value)


@pytest.fixture
def windowed(tiny, text):
    """A model of layers whose attention is a window of 6 tokens."""
    tiny.metadata["llama.attention.sliding_window"] = 6
    tiny.write(text.with_suffix(".gguf")).replace(model_path("smollm2"))
    return load_model("smollm2")


@pytest.mark.parametrize("prompt", [0, PROMPT])
@pytest.mark.parametrize("recipe", ["split_kv(precision=fp32)", "flash(precision=fp32)"])
def test_the_window_of_a_layer_is_part_of_its_attention(windowed, text, recipe, prompt):
    assert [layer.window for layer in windowed.weights.layers] == [6, 6]
    sizes = {"tokens": TOKENS, "window": TOKENS, "prompt": prompt}
    report = evaluate("smollm2", recipe, IN_FP32, MACHINE, Reading(text, **sizes))
    assert abs(report.nll_change.value) < FLOAT32_STEPS
    assert max(each.relative_error for each in report.layers) < 1e-6


def test_a_kernel_that_has_no_windows_is_refused(windowed, text):
    with pytest.raises(AccelsimError) as raised:
        evaluate(
            "smollm2", "topk", reading=Reading(text, tokens=TOKENS, window=TOKENS, prompt=PROMPT)
        )
    assert "kernel topk cannot honour window = 6 and 1 new tokens in a step" in str(raised.value)
    # Within its window a layer sees all tokens.
    evaluate("smollm2", "topk", reading=Reading(text, tokens=6, window=6, prompt=3))
