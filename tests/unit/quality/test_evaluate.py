import hashlib
import re
from dataclasses import replace
from itertools import product
from typing import ClassVar

import numpy as np
import pytest

from accelsim.errors import AccelsimError, NonfiniteWarning
from accelsim.kernels import registry
from accelsim.kernels.attention.flash.flash import Flash
from accelsim.library.kernels import Kernels
from accelsim.loading import LoadedWorkload
from accelsim.quality.evaluate import evaluate
from accelsim.quality.passages import Reading
from accelsim.simulation import simulate
from accelsim.workload.model.forward import (
    Hooks,
    causal_attention,
    final_states,
    hidden_states,
    token_losses,
)
from accelsim.workload.model.language import load_model
from accelsim.workload.model.release import model_path
from accelsim.workload.problem import AttentionProblem
from tests.tiny_model import TEXT
from tests.unit.quality.decoding import decoded_states
from tests.unit.quality.test_attention import FLOAT32_STEPS, exact

EXACT = "flash(precision=fp32)"
IN_FP32 = {"workload.dtype": "fp32"}


def attention_of(rows, **keys):
    """Attention of the tiny model over a window of so many tokens."""
    shape = {"q_heads": 4, "kv_heads": 2, "head_dim": 16, "q_len": rows, "kv_len": rows}
    return AttentionProblem(kind="attention", name="x", causal=True, **shape, **keys)


def test_an_exact_kernel_keeps_the_perplexity(text):
    report = evaluate("smollm2", EXACT, IN_FP32, "edge-npu", Reading(text, tokens=8))
    assert abs(report.nll_change.value) < FLOAT32_STEPS
    assert (report.model, str(report.dtype), report.tokens) == ("smollm2", "fp32", 8)
    assert (report.nonfinite_losses, report.nonfinite_outputs) == (0, 0)


def test_half_precision_moves_it_a_little(text):
    report = evaluate("smollm2", "flash(precision=fp16)", reading=Reading(text, tokens=8))
    # FP16 rounds to 11 bits, 4.9e-4; the losses of random weights are about ln(261) = 5.6.
    assert FLOAT32_STEPS < abs(report.nll_change.value) < 5.6 * 4.9e-4


def test_windows_know_nothing_of_each_other_and_predict_the_token_after_each(text):
    report = evaluate("smollm2", EXACT, IN_FP32, "edge-npu", Reading(text, tokens=6, window=4))
    model = load_model("smollm2")
    ids = model.token_ids(TEXT, 7)
    parts = [token_losses(model.weights, ids[:5]), token_losses(model.weights, ids[4:7])]
    # That of logits in FP32 sums exponentials in FP32.
    assert report.fp32_nll == pytest.approx(np.concatenate(parts).mean(), rel=FLOAT32_STEPS)
    assert (report.tokens, report.window) == (6, 4)


def test_the_cost_is_that_of_the_attention_of_all_layers_and_windows(text, tmp_path):
    found = evaluate(
        "smollm2", "flash", machine="ascend-910b-no-l2", reading=Reading(text, tokens=6, window=4)
    ).attention
    costs = [
        simulate("ascend-910b-no-l2", LoadedWorkload(attention_of(rows), tmp_path), "flash")
        for rows in (4, 4, 2, 2)
    ]
    for name in ("cycles", "hbm_read_bytes", "hbm_write_bytes", "macs", "ops", "compulsory_bytes"):
        assert getattr(found, name) == sum(getattr(cost, name) for cost in costs), name
    for name in ("time_s", "energy_j"):
        total = sum(getattr(cost, name) for cost in costs)
        assert getattr(found, name) == pytest.approx(total, rel=1e-12), name  # order of the sum
    assert found.workload == f"smollm2 on {text}"
    assert found.parts == ()


class Keeping(Flash):
    """Says that it kept one in as many keys as there are."""

    name: ClassVar[str] = "keeping"

    @classmethod
    def record(cls, problem, machine, parameters, tensors):
        program, output = super().record(problem, machine, parameters, tensors)
        return replace(program, statistics={"kept_fraction": 1 / problem.kv_len}), output


def test_selection_is_the_mean_over_query_rows(text, monkeypatch):
    monkeypatch.setitem(registry._KERNELS, "keeping", Keeping)
    report = evaluate(
        "smollm2", "keeping", machine="ascend-910b-no-l2", reading=Reading(text, tokens=6, window=4)
    )
    # 4 rows kept 1/4 and 2 rows kept 1/2.
    assert report.attention.statistics == {"kept_fraction": pytest.approx((1 + 1) / 6)}
    assert report.to_dict()["attention"]["statistics"] == report.attention.statistics


def test_settings_of_the_machine_and_the_kernel_are_used_and_told(text):
    settings = {"machine.cores": "1"}
    report = evaluate(
        "smollm2", "flash(tile_k=2)", settings, "ascend-910b-no-l2", Reading(text, tokens=8)
    )
    plain = evaluate(
        "smollm2", "flash", machine="ascend-910b-no-l2", reading=Reading(text, tokens=8)
    )
    assert report.attention.cores == 1
    assert report.attention.ops > plain.attention.ops
    assert report.attention.settings == settings
    assert report.attention.recipe == "flash(tile_k=2)"


def test_the_hash_is_that_of_the_file(text):
    report = evaluate(
        "smollm2", "flash", machine="ascend-910b-no-l2", reading=Reading(text, tokens=8)
    )
    (found,) = report.texts
    assert found.text == str(text)
    assert found.text_sha256 == hashlib.sha256(text.read_bytes()).hexdigest()


def test_without_a_file_the_language_reference_is_read(installed):
    report = evaluate(installed, EXACT, IN_FP32, "edge-npu", Reading(tokens=4))
    assert [each.text for each in report.texts] == ["reference"]


def test_several_texts_are_read_one_after_the_other(text, tmp_path):
    other = tmp_path / "o.txt"
    other.write_text(TEXT[::-1])
    asked = ("smollm2", EXACT, IN_FP32, "edge-npu")
    both = evaluate(*asked, Reading([text, other], tokens=6, window=4))
    alone = [evaluate(*asked, Reading(each, tokens=6, window=4)) for each in (text, other)]
    assert both.texts == tuple(each.texts[0] for each in alone)
    assert both.tokens == 12
    changes = [each.nll_change.value for each in alone]
    assert both.nll_change.value == pytest.approx(sum(changes) / 2)
    assert both.nll_change.se == pytest.approx(abs(changes[0] - changes[1]) / 2)
    assert both.attention.cycles == sum(each.attention.cycles for each in alone)
    assert both.unseen.nll == both.nll


def test_progress_counts_the_layers_of_both_passes_of_every_window(text):
    steps = []
    evaluate(
        "smollm2",
        "flash",
        machine="ascend-910b-no-l2",
        reading=Reading(text, tokens=6, window=4),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, 8) for done in range(9)]


@pytest.fixture
def overflowing(tiny, text):
    """Make the keys of layer 1 so large that no score is a finite FP16 number."""
    tiny.tensors["blk.1.attn_k.weight"] *= 1e6
    tiny.types["blk.1.attn_k.weight"] = "F32"
    tiny.write(text.with_suffix(".gguf")).replace(model_path("smollm2"))


def test_an_overflow_is_counted_and_leaves_no_perplexity(overflowing, text):
    with pytest.warns(NonfiniteWarning) as caught:
        report = evaluate(
            "smollm2", "flash", machine="ascend-910b-no-l2", reading=Reading(text, tokens=4)
        )
    assert report.fp32_perplexity is not None
    assert report.nonfinite_outputs > 0
    assert report.nonfinite_losses > 0
    assert report.perplexity is None
    assert len(caught) == 1
    found = re.fullmatch(
        rf"{re.escape(report.attention.recipe)}: {report.nonfinite_outputs} outputs of the "
        rf"attention are infinite or NaN, first in layer 1, where a query times a key reaches "
        rf"([\d,]+) and fp16 ends at 65,504; no finite loss, so no perplexity: "
        rf"{report.nonfinite_losses} of 4 tokens of text {re.escape(str(text))}; try "
        rf"scale_at=query or precision=fp32_scores if the kernel has them, or pasa",
        str(caught[0].message),
    )
    assert found is not None
    # Layer 0 rounds to FP16, which layer 1 sees.
    assert int(found[1].replace(",", "")) == pytest.approx(largest_product(text, 4), rel=2**-10)


def largest_product(text, tokens):
    """Return the largest product of a query with a key that it sees, by loops."""
    largest, model = 0.0, load_model("smollm2")

    def attention(layer, q, k, v, window):
        nonlocal largest
        if layer == 1:
            for head, row, key in product(range(len(q)), range(tokens), range(tokens)):
                if key <= row:
                    score = abs(float(q[head, row] @ k[head // (len(q) // len(k)), key]))
                    largest = max(largest, score)
        return causal_attention(layer, q, k, v, window)

    ids = model.tokenizer.encode(text.read_text())[:tokens]
    final_states(model.weights, ids, Hooks(attention=attention))
    return largest


def test_linears_that_overflow(tiny, text):
    tiny.tensors["blk.1.ffn_down.weight"] *= 1e9
    tiny.types["blk.1.ffn_down.weight"] = "F32"
    tiny.write(text.with_suffix(".gguf")).replace(model_path("smollm2"))
    with pytest.warns(NonfiniteWarning) as caught:
        evaluate(
            "smollm2",
            Kernels(linear="gemm"),
            machine="ascend-910b-no-l2",
            reading=Reading(text, tokens=4),
        )
    (message,) = {str(each.message) for each in caught}
    assert re.search(
        r"outputs of the linears are infinite or NaN, first in layer1\.down, where an output "
        r"reaches [\d,]+ and fp16 ends at 65,504; no finite loss, .*; try "
        r"--set workload\.dtype=fp32$",
        message,
    )


def message(model, kernels="flash", settings=None, **reading):
    def run():
        asked = Kernels(**kernels) if isinstance(kernels, dict) else kernels
        return evaluate(model, asked, settings, reading=Reading(**reading))

    with pytest.raises(AccelsimError) as raised:
        run()
    return str(raised.value)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"tokens": 1}, "tokens: found 1, allowed: 2 or more"),
        ({"window": 0}, "window: found 0, allowed: 1 or more"),
        (
            {"tokens": 40, "window": 33},
            "window: found 33 tokens, allowed: up to 32, as many as model 'smollm2' reads at once",
        ),
        (
            {"model": "smollm"},
            "unknown model 'smollm', did you mean 'smollm2'?; known: gemma3-270m, "
            "qwen2.5-coder-0.5b, smollm2, or the path of a GGUF file or of a folder with "
            "config.json",
        ),
        (
            {"kernels": "gemm"},
            "attention: kernel gemm is for gemm problems, but it is to compute the attention of a "
            "model; allowed: dense, flash",
        ),
        (
            {"kernels": {}},
            "found no kernel; allowed: --kernel for the attention, --linear for the linears, both",
        ),
        (
            {"kernels": {"linear": "flash"}},
            "linear: kernel flash is for attention problems, but it is to compute the linears of a "
            "model; allowed: gemm",
        ),
        (
            {"kernels": {"linear": "gemm"}, "settings": {"linear.tile_m": "8"}},
            "--set linear.tile_m: found no field of machine or workload, allowed: machine.<field>, "
            "workload.<field>; a parameter is written with its kernel: gemm(tile_m=8)",
        ),
        (
            {"settings": {"linear.tile_m": "8"}},
            "--set linear.tile_m: found no field of machine or workload, allowed: machine.<field>, "
            "workload.<field>; a parameter is written with its kernel: gemm(tile_m=8)",
        ),
        (
            {
                "kernels": {"attention": "flash(tile_k=2)", "linear": "gemm"},
                "settings": {"tile_q": 4},
            },
            "--set tile_q: found no field of machine or workload, allowed: machine.<field>, "
            "workload.<field>; a parameter is written with its kernel: flash(tile_k=2, tile_q=4)",
        ),
        (
            {"kernels": {"linear": "gemm(tile_m=0)"}},
            "linear: gemm: tile_m: found 0, expected a value greater than 0",
        ),
        (
            {"settings": {"workload.q_len": "4"}},
            "--set workload.q_len: unknown key; allowed: dtype",
        ),
    ],
)
def test_messages(installed, monkeypatch, keys, expected):
    known = {name: registry._SHIPPED[name] for name in ("gemm", "dense", "flash")}
    monkeypatch.setattr(registry, "_SHIPPED", known)
    monkeypatch.setattr(registry, "_KERNELS", {})
    assert message(**{"model": installed} | keys) == expected


def test_as_many_tokens_as_the_text_has(text):
    assert message("smollm2", "flash", text=text, tokens=20) == (
        f"text {text} has 20 tokens; found tokens = 20, "
        "allowed: up to 19, so that one is left to predict"
    )


@pytest.mark.parametrize(("content", "found"), [("", 0), ("ab", 2)])
def test_a_text_with_next_to_nothing_in_it(text, content, found):
    text.write_text(content)
    assert message("smollm2", "flash", text=text) == (
        f"text {text}: found {found} tokens, allowed: 3 or more, so that there are 2 to predict"
    )


def test_a_file_that_is_not_text(text):
    text.write_bytes(b"\xff")
    assert message("smollm2", "flash", text=text) == (
        f"{text}: cannot be read as UTF-8 text "
        "('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"
    )


def test_too_little_memory_is_said(text, monkeypatch):
    def fails(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("accelsim.quality.passes.final_states", fails)
    assert message("smollm2", "flash", text=text, tokens=8) == (
        "kernel flash: this computer has too little memory free (Unable to allocate 9 TiB); "
        "choose a smaller problem, or one without tensors"
    )


def test_a_model_that_was_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert message("smollm2", "flash") == (
        f"model 'smollm2' is not at {tmp_path}/accelsim/models/b179c9523d0e6a0f.gguf; "
        "`accelsim model fetch smollm2` gets it"
    )


@pytest.fixture
def real_model():
    try:
        model_path("smollm2")
    except AccelsimError as missing:
        pytest.skip(str(missing))
    return load_model("smollm2")


@pytest.mark.slow
def test_half_precision_hardly_changes_the_real_model(real_model):
    report = evaluate("smollm2", "flash(precision=fp16)", reading=Reading(tokens=256, window=256))
    # An implementation whose matrix unit adds in FP16 too, where this one adds in FP32, measured
    # +5.5e-4 nats over 4,096 tokens of another text. Four standard errors: one case in 30,000.
    assert 0 < abs(report.nll_change.value) < 5.5e-4 + 4 * report.nll_change.se
    assert report.nll_change.se < 1e-3
    assert (report.nonfinite_losses, report.nonfinite_outputs) == (0, 0)


@pytest.mark.slow
def test_decode_steps_of_the_real_model_equal_prefill(real_model):
    ids = real_model.tokenizer.encode("The simple form of an expression is a name.")
    prefill = hidden_states(real_model.weights, ids, Hooks(attention=exact()))
    found = decoded_states(real_model.weights, ids, exact())
    scale = np.abs(prefill).max(axis=1, keepdims=True)
    # 30 layers of FP32 sums in another order; token 0 carries activations of thousands.
    np.testing.assert_allclose(found / scale, prefill / scale, atol=30 * FLOAT32_STEPS)
