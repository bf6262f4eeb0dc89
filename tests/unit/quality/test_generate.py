"""Greedy generation with kernels against decoding token by token."""

import json

import pytest

from accelsim.bench import Bench
from accelsim.errors import AccelsimError
from accelsim.numerics.formats import Format
from accelsim.quality.attention import KernelAttention
from accelsim.quality.generate import generate
from accelsim.quality.passages import Writing
from accelsim.workload.model.forward import Hooks, KeyValueCache, final_states
from accelsim.workload.model.language import load_model

IN_FP32 = {"workload.dtype": "fp32"}
MACHINE = "edge-npu"
PROMPT, TOKENS = 12, 16
SELECTING = "window(window=3, sinks=1, precision=fp32)"


def one_by_one(text, recipe):
    """Return the most likely tokens behind the prompt, each computed before the next is known."""
    model = load_model("smollm2")
    ids = model.token_ids(text.read_text(), PROMPT)
    run = Bench.prepare(MACHINE, recipe)
    hooks = Hooks(attention=KernelAttention(run, Format.FP32))
    cache = KeyValueCache(model.weights.config, PROMPT + TOKENS)
    final_states(model.weights, ids[:-1], cache=cache)
    written, read = [], ids[-1]
    for _ in range(TOKENS):
        state = final_states(model.weights, [read], hooks, cache)
        read = int((state @ model.weights.head.T).argmax())
        written.append(read)
    return tuple(written)


@pytest.mark.parametrize("recipe", [SELECTING, "split_kv(precision=fp32)"])
def test_what_is_written_is_that_of_decoding_one_by_one(text, recipe):
    report = generate(
        "smollm2", recipe, IN_FP32, MACHINE, Writing(text, prompt=PROMPT, tokens=TOKENS)
    )
    assert report.token_ids == one_by_one(text, recipe)
    assert report.fp32_token_ids == one_by_one(text, "split_kv(precision=fp32)")


def test_a_kernel_that_leaves_keys_out_writes_something_else(text):
    report = generate(
        "smollm2", SELECTING, IN_FP32, MACHINE, Writing(text, prompt=PROMPT, tokens=TOKENS)
    )
    assert report.token_ids != report.fp32_token_ids
    assert report.token_ids[: report.same_tokens] == report.fp32_token_ids[: report.same_tokens]
    assert report.token_ids[report.same_tokens] != report.fp32_token_ids[report.same_tokens]
    assert 2 <= report.passes <= TOKENS + 1


def test_an_exact_kernel_takes_one_pass_and_its_steps_are_paid_once(text):
    report = generate(
        "smollm2",
        "split_kv(precision=fp32)",
        IN_FP32,
        MACHINE,
        Writing(text, prompt=PROMPT, tokens=TOKENS),
    )
    assert (report.passes, report.same_tokens) == (1, TOKENS)
    # A step over n keys reads K and V of 2 heads and Q of 4, 16 elements of 4 bytes each.
    keys = sum(range(PROMPT, PROMPT + TOKENS))
    assert report.layers[0].hbm_read_bytes >= keys * 2 * 2 * 64 + TOKENS * 4 * 64
    assert report.attention.hbm_read_bytes == sum(each.hbm_read_bytes for each in report.layers)
    data = report.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["same_tokens"] == TOKENS
    assert report.written == report.fp32_written != ""


def test_a_prompt_with_its_own_kernel(text):
    report = generate(
        "smollm2",
        "split_kv(precision=fp32)",
        IN_FP32,
        MACHINE,
        Writing(text, prompt=PROMPT, tokens=TOKENS, prefill="flash(precision=fp32)"),
    )
    assert report.same_tokens == TOKENS
    assert report.prefill.kernel == "flash"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((1, 4), "prompt: found 1, allowed: 2 or more"),
        ((4, 0), "tokens: found 0, allowed: 1 or more"),
        (
            (20, 13),
            "found a prompt of 20 tokens and 13 behind it, allowed: 32 together, as many as model "
            "'smollm2' reads at once",
        ),
    ],
)
def test_messages(text, sizes, expected):
    with pytest.raises(AccelsimError) as raised:
        generate("smollm2", "window", None, MACHINE, Writing(text, *sizes))
    assert str(raised.value) == expected
