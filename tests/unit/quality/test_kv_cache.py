"""A network whose cache keeps keys and values in another format."""

import numpy as np
import pytest

from accelsim.errors import WorkloadError
from accelsim.numerics.kv_codes import kv_codes
from accelsim.numerics.kv_format import KvFormat
from accelsim.quality.evaluate import evaluate, evaluate_caches
from accelsim.quality.kv_cache import CachedAttention
from accelsim.quality.passages import Reading
from accelsim.workload.model.forward import (
    Hooks,
    causal_attention,
    hidden_states,
    token_losses,
)
from accelsim.workload.model.language import load_model
from tests.tiny_model import TEXT
from tests.unit.quality.decoding import decoded_states
from tests.unit.quality.test_attention import FLOAT32_STEPS

FORMATS = ("int4(group=2, residual=4)", "int8(scales=power_of_two, group=4, residual=4)")


def heads(tokens):
    rng = np.random.default_rng(3)
    shapes = (4, tokens, 16), (2, tokens, 16), (2, tokens, 16)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("window", [None, 5])
def test_a_row_sees_what_decoding_it_would_leave(name, window):
    fmt, (q, k, v) = KvFormat.parse(name), heads(11)
    output = CachedAttention(fmt)(0, q, k, v, window)
    for row in range(11):
        tokens = row + 1
        coded, seen = tokens - tokens % 4, tokens - min(tokens, 4)
        # Cut before coding: no later token may have a part in the codes.
        keys, values = k[:, :tokens].copy(), v[:, :tokens].copy()
        keys[:, :coded] = kv_codes(k[:, :coded], fmt, "keys").values if coded else 0
        values[:, :seen] = kv_codes(v[:, :seen], fmt, "values").values if seen else 0
        alone = causal_attention(0, q[:, row : row + 1], keys, values, window)
        np.testing.assert_allclose(output[:, row : row + 1], alone, atol=2e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_reading_a_text_at_once_is_decoding_it(text, name):
    model = load_model("smollm2")
    ids, attention = model.token_ids(TEXT, 12), CachedAttention(KvFormat.parse(name))
    at_once = hidden_states(model.weights, ids, Hooks(attention=attention))
    steps = decoded_states(model.weights, ids, attention)
    np.testing.assert_allclose(at_once, steps, atol=FLOAT32_STEPS)


def test_a_scale_of_a_head_is_its_own():
    q, k, v = heads(6)
    k[0] *= 2.0**24
    whole, own = (
        CachedAttention(KvFormat.parse(f"fp8_e4m3(scales={each})"))(0, q, k, v)
        for each in ("tensor", "head")
    )
    exact = causal_attention(0, q, k, v)
    # The second KV head, of query heads 2 and 3, would be 0 by the scale of the first.
    errors = [np.abs(each[2:] - exact[2:]).mean() for each in (whole, own)]
    assert 4 * errors[1] < errors[0]


def test_several_formats_are_what_each_is_alone(text):
    formats = (*FORMATS, "fp8_e4m3")
    together = evaluate_caches("smollm2", formats, reading=Reading(text, tokens=8))
    alone = [evaluate("smollm2", reading=Reading(text, tokens=8), kv=each) for each in formats]
    assert [each.to_dict() for each in together] == [each.to_dict() for each in alone]
    assert [str(each.kv) for each in together] == list(formats)
    assert len({each.nll for each in together}) == 3


def test_plain_keys_change_nothing(text):
    report = evaluate("smollm2", reading=Reading(text, tokens=8), kv="fp32")
    assert report.nll_change.value == 0
    assert report.attention is None


def test_a_prompt_is_read_plain_and_its_cache_is_coded(text):
    report = evaluate("smollm2", reading=Reading(text, tokens=12, prompt=9), kv=FORMATS[0])
    model, coded = load_model("smollm2"), CachedAttention(KvFormat.parse(FORMATS[0]))

    def attention(layer, q, k, v, window):
        output = causal_attention(layer, q, k, v, window)
        output[:, 9:] = coded(layer, q, k, v, window)[:, 9:]
        return output

    losses = token_losses(model.weights, model.token_ids(TEXT, 13), Hooks(attention=attention))
    assert report.tokens == 3
    assert report.nll == pytest.approx(losses[9:].mean(), rel=FLOAT32_STEPS)
    assert report.nll != report.fp32_nll


def test_a_kernel_beside_a_format_is_refused(installed):
    with pytest.raises(WorkloadError) as refusal:
        evaluate(installed, "flash", kv="int4")
    assert str(refusal.value) == (
        "kv: found int4 beside kernel flash, allowed: a format of the cache without a kernel for "
        "the attention, which then is FP32 over what the cache stands for"
    )
