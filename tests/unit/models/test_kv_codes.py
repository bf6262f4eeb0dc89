"""Models whose cache keeps keys and values as codes."""

import pytest

from accelsim.errors import WorkloadError
from accelsim.inference.request import infer
from accelsim.models.kv_format import with_kv_in
from accelsim.models.loading import load_architecture
from accelsim.models.operations.step import operations_of
from accelsim.models.step import Sequences, Step
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import KvFormat

LLAMA = load_architecture("llama-3.1-8b")


def attention_of(model, step):
    problems = [each.problem for each in operations_of(model, step)]
    return [each for each in problems if each.name.startswith("attention of")]


@pytest.mark.parametrize(
    ("text", "bytes_per_token"),
    [
        ("bf16", 131_072),
        ("fp8_e4m3(scales=head)", 65_536),
        # 32 layers, 8 heads, 2 x 128 elements of 4 + 32 / 32 bits.
        ("int4", 40_960),
        ("int8(group=64)", 69_632),
        # ... of 4 + 8 / 32 bits, and a base of 16 bits for each row.
        ("int4(scales=power_of_two)", 35_840),
    ],
)
def test_bytes_of_a_token(text, bytes_per_token):
    model = with_kv_in(LLAMA, text)
    assert model.kv_bytes_per_token(model.cached_format) == bytes_per_token


def test_the_latest_tokens_are_plain():
    model = with_kv_in(LLAMA, "int4")
    # Of 200 tokens 72 keys and 128 values are in BF16; half of a token is keys.
    plain, coded = 131_072 // 2, 40_960 // 2
    expected = 72 * plain + 128 * coded + 128 * plain + 72 * coded
    assert model.kv_bytes(200, model.cached_format) == expected
    assert model.kv_bytes(100, model.cached_format) == 100 * 131_072


def test_the_bytes_of_a_model_are_those_of_its_attention():
    model = with_kv_in(LLAMA, "int4(scales=power_of_two)")
    (problem,) = attention_of(model, Step.decode(3, 999))
    own = 32 * (problem.tensor_bytes["k"] + problem.tensor_bytes["v"])
    assert own == 3 * model.kv_bytes(1000, model.cached_format)


def test_steps_read_codes_and_prompts_do_not():
    model = with_kv_in(LLAMA, "int4")
    (step,) = attention_of(model, Step.decode(2, 99))
    (prompt,) = attention_of(model, Step.prefill(2, 99))
    assert (step.kv_codes, prompt.kv_codes) == (KvFormat.parse("int4"), None)
    assert (step.dtype, prompt.kv_format) == (Format.BF16, Format.BF16)


def test_scales_of_fp8_are_read_by_steps_and_prompts():
    for text in ("fp8_e4m3(scales=head)", "fp8_e4m3(scales=tensor)"):
        for step in (Step.decode(2, 99), Step.prefill(2, 99)):
            (problem,) = attention_of(with_kv_in(LLAMA, text), step)
            assert (problem.kv_dtype, problem.kv_scales) == (Format.FP8_E4M3, "peak")


def test_more_sequences_fit_where_codes_are_shorter():
    request = {"batch": 1, "prompt": 600, "output": 1}
    models = (LLAMA, with_kv_in(LLAMA, "int4"))
    largest = [infer(each, "ascend-910b", **request).largest_batch for each in models]
    assert largest[0] < largest[1]


def message(text, model=LLAMA):
    with pytest.raises(WorkloadError) as refusal:
        with_kv_in(model, text)
    return str(refusal.value)


def test_who_cannot_read_codes_says_so():
    step = Step((Sequences(new=4, cached=9, count=1),))
    with pytest.raises(WorkloadError) as refusal:
        attention_of(with_kv_in(LLAMA, "int4"), step)
    assert str(refusal.value) == (
        "model llama-3.1-8b: steps of models with chunks of prompts behind a KV cache in int4 are "
        "not known yet"
    )
    assert message("int4", load_architecture("deepseek-v2-lite")) == (
        "kv: found 'int4' for model deepseek-v2-lite, which has latent attention, that no kernel "
        "computes over codes; allowed: bf16, fp8_e4m3, fp8_e5m2"
    )
    assert message("int8", load_architecture("gpt-oss-20b")) == (
        "kv: found 'int8' for model gpt-oss-20b, which has attention with a window, that no kernel "
        "computes over codes; allowed: bf16, fp8_e4m3, fp8_e5m2"
    )
    assert message("fp32") == (
        "kv: found 'fp32' for model llama-3.1-8b with activations in bf16, allowed: bf16, or a "
        "format of at most 8 bits"
    )
