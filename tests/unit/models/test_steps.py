"""Operations of a step against closed forms of the model."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import WorkloadError
from accelsim.models.attention import HeadNorm
from accelsim.models.expert_load import Balanced, Uniform, Zipf
from accelsim.models.families.registry import read_architecture
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward
from accelsim.models.kv_format import with_kv_in
from accelsim.models.linear_format import with_linears_in
from accelsim.models.loading import load_architecture
from accelsim.models.operations import experts
from accelsim.models.operations.layer import layer_of
from accelsim.models.operations.parts import Setting
from accelsim.models.operations.step import operations_of
from accelsim.models.plan import Plan
from accelsim.models.step import Sequences, Step
from accelsim.numerics.formats import Format
from tests.small_models import SMALL

CONFIG = {
    **SMALL,
    "model_type": "qwen3",
    "hidden_size": 64,
    "head_dim": 8,
    "intermediate_size": 96,
    "vocab_size": 100,
}
LENGTHS = st.builds(
    lambda new, cached, count, sampled: Sequences(new, cached, count, min(sampled, new)),
    st.integers(1, 40),
    st.integers(0, 60),
    st.integers(1, 3),
    st.integers(0, 4),
)


def macs_of(operations):
    return sum(each.count * each.problem.macs for each in operations)


@given(st.lists(LENGTHS, min_size=1, max_size=4))
def test_macs_are_those_of_parameters_and_of_visible_pairs(sequences):
    model, step = read_architecture(CONFIG, ""), Step(tuple(sequences))
    of_layers = sum(m.parameters for layer in model.layers for m in layer.matrices(64))
    pairs = sum(
        each.count * sum(each.cached + row + 1 for row in range(each.new)) for each in sequences
    )
    attention = 3 * 4 * 2 * 8 * pairs
    head = step.sampled_rows * 100 * 64
    assert macs_of(operations_of(model, step)) == step.tokens * of_layers + attention + head


@given(st.lists(LENGTHS, min_size=1, max_size=3), st.integers(1, 30))
def test_pairs_end_at_windows_and_at_chunks(sequences, size):
    step = Step(tuple(sequences))
    near = read_architecture({**CONFIG, "model_type": "mistral", "sliding_window": size}, "")
    rows = [(each.cached + row, each.count) for each in sequences for row in range(each.new)]
    seen = sum(count * min(position + 1, size) for position, count in rows)
    assert _attention_macs(near, step) == 3 * 4 * 2 * 8 * seen
    chunked = {
        "model_type": "llama4_text",
        **{key: value for key, value in CONFIG.items() if key != "model_type"},
        "attention_chunk_size": size,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 96,
        "interleave_moe_layer_step": 9,
        "use_qk_norm": False,
        "num_hidden_layers": 1,
    }
    seen = sum(count * (position % size + 1) for position, count in rows)
    assert _attention_macs(read_architecture(chunked, ""), step) == 4 * 2 * 8 * seen


def _attention_macs(model, step):
    return sum(
        each.count * each.problem.macs
        for each in operations_of(model, step)
        if each.problem.kind == "attention"
    )


def test_steps_and_prompts_have_attention_of_their_own():
    step = Step((Sequences(1, 500, 3), Sequences(32, 64, sampled=0)))
    names = [each.problem.name for each in operations_of(load_architecture("llama-3.1-8b"), step)]
    assert names == [
        "embedding",
        "norm of attention",
        "qkv",
        "rotary",
        "kv_write",
        "attention of steps",
        "attention of prompts",
        "output",
        "norm of feed-forward",
        "gate-up",
        "activation",
        "down",
        "last norm",
        "head",
        "sampling",
    ]


def names_of(name, step):
    return [each.problem.name for each in operations_of(load_architecture(name), step)]


def functions_of(model, step):
    problems = [each.problem for each in operations_of(model, step)]
    return {each.name: each.function for each in problems if each.kind == "vector"}


def test_four_norms_are_before_and_behind_both_parts():
    step = Step.decode(2, 100)
    assert names_of("gemma-2-9b", step)[1:12] == [
        "norm of attention",
        "qkv",
        "rotary",
        "kv_write",
        "attention of steps",
        "output",
        "norm behind attention",
        "norm of feed-forward",
        "gate-up",
        "activation",
        "down",
    ]
    model = load_architecture("gemma-2-9b")
    functions = functions_of(model, step)
    assert functions["activation"] == "gelu_mul"
    assert functions["norm of attention"] == functions["norm of feed-forward"] == "add_rmsnorm"
    assert functions["norm behind attention"] == functions["norm behind feed-forward"] == "rmsnorm"
    assert functions["cap of logits"] == "softcap"
    problems = [each.problem for each in operations_of(model, step)]
    attention = {each.window: each for each in problems if each.kind == "attention"}
    assert set(attention) == {None, 4096}
    assert all(each.softcap == 50 for each in attention.values())
    assert all(each.head_dim == 256 for each in attention.values())


def test_opt_adds_positions_and_takes_the_mean_off():
    model, step = load_architecture("opt-6.7b"), Step.prefill(2, 10)
    assert names_of("opt-6.7b", step) == [
        "embedding",
        "positions",
        "norm of attention",
        "qkv",
        "kv_write",
        "attention of prompts",
        "output",
        "norm of feed-forward",
        "up",
        "activation",
        "down",
        "last norm",
        "head",
        "sampling",
    ]
    functions = functions_of(model, step)
    assert functions["norm of attention"] == "add_layernorm"
    assert functions["last norm"] == "layernorm"
    assert functions["activation"] == "relu"
    macs = sum(each.count * each.problem.macs for each in operations_of(model, step))
    assert macs == 20 * 32 * 12 * 4096**2 + 32 * 2 * 4096 * 2 * 55 + 2 * 50272 * 4096


def test_rows_of_an_embedding_of_other_lengths_go_in_and_out_by_products():
    config = {
        **{"model_type": "opt", "hidden_size": 64, "word_embed_proj_dim": 32, "ffn_dim": 96},
        **{"num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100},
        **{"max_position_embeddings": 50, "do_layer_norm_before": False},
    }
    model = read_architecture(config, "")
    problems = {each.problem.name: each.problem for each in operations_of(model, Step.decode(3, 8))}
    assert problems["embedding"].cols == 32
    assert (problems["project in"].k, problems["project in"].n) == (32, 64)
    assert (problems["project out"].k, problems["project out"].n) == (64, 32)
    assert problems["head"].k == 32
    assert "last norm" not in problems
    # Of max_position_embeddings and an offset of two.
    assert problems["positions"].table_rows == 52


def test_heads_with_sinks_and_keys_wider_than_values():
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24, "v_head_dim": 16}
    config = {
        **{"model_type": "mimo_v2_flash", "hidden_size": 64, "num_hidden_layers": 2},
        **{"vocab_size": 100, "intermediate_size": 96, "moe_intermediate_size": 32},
        **{"n_routed_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
        **{"topk_method": "greedy"},
        **{"hybrid_layer_pattern": [1, 0], "moe_layer_freq": [0, 0]},
        **{"add_swa_attention_sink_bias": True, "add_full_attention_sink_bias": False},
        **heads,
        **{f"swa_{key}": value for key, value in heads.items()},
    }
    step = Step((Sequences(1, 40, 2), Sequences(5, 3)))
    operations = operations_of(read_architecture(config, ""), step)
    problems = [each.problem for each in operations]
    attention = [each for each in problems if each.kind == "attention"]
    assert {each.window: each.sink_logits for each in attention} == {8: True, None: False}
    assert all(each.widths == (24, 16) for each in attention)
    (writing, _) = [each for each in problems if each.name == "kv_write"]
    assert (writing.cols, writing.y_cols) == (48, 32)
    (product, _) = [each for each in problems if each.name == "qkv"]
    assert product.n == 4 * 24 + 2 * (24 + 16)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (HeadNorm.HEAD, {"rotary": ("norm_rotary", 5, 48)}),
        (HeadNorm.PLAIN, {"rotary": ("norm_rotary", 5, 48)}),
        (
            HeadNorm.ROW,
            {
                "norm of q": ("rmsnorm", 5, 32),
                "norm of k": ("rmsnorm", 5, 16),
                "rotary": ("rotary", 5, 48),
            },
        ),
        (HeadNorm.NONE, {"rotary": ("rotary", 5, 48)}),
    ],
)
def test_queries_and_keys_are_normalised_by_head_or_by_row(norm, expected):
    model = read_architecture(CONFIG, "")
    layers = [
        replace(each, attention=replace(each.attention, head_norm=norm)) for each in model.layers
    ]
    model = replace(model, layers=tuple(layers))
    problems = {each.problem.name: each.problem for each in operations_of(model, Step.decode(5, 9))}
    names = ("norm of heads", "norm of q", "norm of k", "rotary")
    found = {name: problems[name] for name in names if name in problems}
    assert {name: (each.function, each.rows, each.cols) for name, each in found.items()} == expected


def test_heads_that_are_turned_in_part_have_a_norm_of_their_own():
    model = read_architecture(CONFIG, "")
    half = {"head_norm": HeadNorm.HEAD, "rotary_dim": 4}
    layers = tuple(
        replace(each, attention=replace(each.attention, **half)) for each in model.layers
    )
    step = operations_of(replace(model, layers=layers), Step.decode(5, 9))
    vectors = [each.problem for each in step if each.problem.kind == "vector"]
    found = {each.name: each.function for each in vectors}
    assert (found["norm of heads"], found["rotary"]) == ("rmsnorm", "rotary")


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (DenseFeedForward(96, "tanh"), "a gated feed-forward part with tanh"),
        (DenseFeedForward(96, "relu"), "a gated feed-forward part with relu"),
        (DenseFeedForward(96, "tanh", is_gated=False), "a feed-forward part with tanh"),
    ],
)
def test_activations_that_no_function_computes_are_named(part, what):
    model = read_architecture(CONFIG, "")
    model = replace(model, layers=(replace(model.layers[0], feed_forward=part),))
    with pytest.raises(WorkloadError, match=f"steps of models with {what} are not known yet"):
        operations_of(model, Step.decode(1, 8))


def test_other_numbers_of_norms_are_named():
    model = read_architecture(CONFIG, "")
    model = replace(model, layers=(replace(model.layers[0], norms=3),))
    with pytest.raises(WorkloadError, match="with 3 norms in a layer are not known yet"):
        operations_of(model, Step.decode(1, 8))


def test_experts_are_chosen_placed_multiplied_and_added_up():
    step, model = Step.decode(4, 100), load_architecture("mixtral-8x7b")
    operations = operations_of(model, step, Plan(Balanced()))
    assert [each.problem.name for each in operations][8:-3] == [
        "router",
        "choice of experts",
        "places of rows",
        "copy of rows",
        "experts gate-up",
        "experts activation",
        "experts down",
        "sum of experts",
    ]
    up = next(each.problem for each in operations if each.problem.name == "experts gate-up")
    assert (up.rows, up.n, up.k) == ((1,) * 8, 2 * 14336, 4096)
    gathering = operations_of(model, step, Plan(Balanced(), gathers_rows=True))
    assert "copy of rows" not in {each.problem.name for each in gathering}


@given(st.integers(1, 40), st.integers(1, 5), st.sampled_from([Uniform(), Zipf(), Balanced()]))
def test_macs_of_experts_are_those_of_active_parameters(tokens, draws, load):
    keys = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    model = read_architecture({**CONFIG, "model_type": "qwen3_moe", **keys}, "")
    operations = operations_of(model, Step.prefill(1, tokens), Plan(load, draws))
    router, expert = 6 * 64, 3 * 32 * 64
    of_layers = 3 * tokens * (router + 2 * expert)
    found = [each for each in operations if each.problem.name.startswith(("router", "experts "))]
    assert macs_of(found) == of_layers
    products = [each for each in operations if each.problem.kind == "grouped_gemm"]
    assert sum(each.count for each in products) == 3 * 2
    assert len(products) <= 2 * min(draws, 3)


def test_shared_experts_see_all_rows_and_are_one_more_row_to_add_up():
    model = load_architecture("llama-4-scout")
    part = model.layers[0].feed_forward
    at = Setting(model, Step.prefill(1, 32), Plan(gathers_rows=True))
    found = list(experts.operations(part, at, (32, *[0] * 15)))
    shared = [each for each in found if each.name in ("gate-up", "activation", "down")]
    assert [each.m for each in shared if each.kind == "gemm"] == [32, 32]
    assert found[-1].top_k == part.experts_per_token + 1


def test_experts_with_another_activation_are_refused():
    part = ExpertFeedForward(4, 2, DenseFeedForward(8, "gelu"))
    with pytest.raises(WorkloadError, match="steps of models with experts with gelu are not known"):
        list(
            experts.operations(part, Setting(read_architecture(CONFIG, ""), Step.decode(1, 1)), ())
        )


def test_a_chunk_within_a_prompt_has_no_logits():
    step = Step((Sequences(32, 64, sampled=0),))
    names = {each.problem.name for each in operations_of(load_architecture("qwen3-8b"), step)}
    assert "rotary" in names
    assert not {"last norm", "head", "sampling"} & names


def test_weights_are_read_once_in_a_step():
    model = load_architecture("llama-3.1-8b")
    operations = operations_of(model, Step.decode(4, 1000))
    read = sum(
        each.count * each.problem.n * each.problem.k * 2
        for each in operations
        if each.problem.kind == "gemm"
    )
    embedding = model.vocabulary * model.hidden
    norms = (2 * 32 + 1) * model.hidden
    assert read == 2 * (model.parameters - embedding - norms)


def test_equal_neighbours_are_one_entry():
    step = Step.of([Sequences(1, 8), Sequences(1, 8), Sequences(1, 9), Sequences(4, 8, 2)])
    assert step.sequences == (Sequences(1, 8, 2), Sequences(1, 9), Sequences(4, 8, 2))
    assert step.tokens == 11
    assert step.sampled_rows == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"new": 0}, "step: new: found 0, allowed: 1 or more"),
        ({"new": 1, "cached": -1}, "step: cached: found -1, allowed: 0 or more"),
        ({"new": 1, "count": 0}, "step: count: found 0, allowed: 1 or more"),
        ({"new": 1, "sampled": -1}, "step: sampled: found -1, allowed: 0 or more"),
        (
            {"new": 2, "sampled": 3},
            "step: sampled: found 3 with 2 new tokens, allowed: at most as many",
        ),
    ],
)
def test_sequences_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(WorkloadError) as caught:
        Sequences(**arguments)
    assert str(caught.value) == message


def test_a_step_has_sequences():
    with pytest.raises(WorkloadError, match="found no sequences, allowed: one or more"):
        Step(())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("deepseek-v3", "weights in fp8_e4m3 with scales of blocks"),
        ("gpt-oss-20b", "weights in mxfp4"),
    ],
)
def test_parts_whose_operations_are_not_known_are_named(name, what):
    model = load_architecture(name)
    with pytest.raises(WorkloadError) as caught:
        operations_of(model, Step.decode(1, 8))
    assert str(caught.value) == (f"model {name}: steps of models with {what} are not known yet")


def fp8_of(config):
    return read_architecture(
        {**config, "quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}},
        "",
    )


def test_weights_in_fp8_are_multiplied_as_they_are_stored():
    """What products of layers read is in FP8 too; the head, tables and the cache are not."""
    asked = with_linears_in(read_architecture(CONFIG, ""), "fp8_e4m3")
    for model in (asked, fp8_of(CONFIG)):
        operations = operations_of(model, Step.prefill(1, 16))
        formats = {
            each.problem.name: (each.problem.dtype, getattr(each.problem, "result_dtype", None))
            for each in operations
        }
        bf16, fp8 = Format.BF16, Format.FP8_E4M3
        for name in ("qkv", "output", "gate-up", "down"):
            assert formats[name] == (fp8, None)
        for name in ("norm of attention", "cast of attention", "norm of feed-forward"):
            assert formats[name] == (bf16, fp8)
        assert formats["activation"] == (bf16, fp8)
        for name in ("embedding", "kv_write", "attention of prompts", "last norm", "head"):
            assert formats[name] == (bf16, None)
        assert model.weight_bytes == fp8_of(CONFIG).weight_bytes


def test_a_kv_cache_in_fp8_is_read_by_attention_and_takes_half_of_the_bytes():
    plain = read_architecture(SMALL, "")
    model, step = with_kv_in(plain, "fp8_e4m3"), Step.decode(2, 10)
    problems = {each.problem.name: each.problem for each in operations_of(model, step)}
    attention = problems.pop("attention of steps")
    assert (attention.dtype, attention.kv_format) == (Format.BF16, Format.FP8_E4M3)
    others = {each.problem.name: each.problem for each in operations_of(plain, step)}
    assert problems == {name: others[name] for name in problems}
    halved, whole = (each.kv_bytes(10, each.cached_format) for each in (model, plain))
    assert 2 * halved == whole
    assert with_kv_in(model, "bf16") == plain


@pytest.mark.parametrize("step", [Step.decode(2, 10), Step.prefill(2, 10)])
def test_queries_are_fp8_where_weights_and_cache_are(step):
    model = with_kv_in(fp8_of(CONFIG), "fp8_e4m3")
    problems = {each.problem.name: each.problem for each in operations_of(model, step)}
    for name in {"attention of steps", "attention of prompts"} & problems.keys():
        attention = problems[name]
        assert (attention.dtype, attention.kv_dtype) == (Format.FP8_E4M3, None)
        assert attention.output_dtype == Format.BF16


def test_formats_that_no_cache_has_are_refused():
    with pytest.raises(WorkloadError) as refusal:
        with_kv_in(read_architecture(SMALL, ""), "fp8")
    assert str(refusal.value) == (
        "kv: found 'fp8', allowed: fp32, bf16, fp16, fp8_e4m3, fp8_e5m2, int8, int4"
    )
    latents = with_kv_in(load_architecture("deepseek-v2-lite"), "fp8_e4m3")
    with pytest.raises(WorkloadError, match="latent attention with a KV cache in fp8_e4m3 are not"):
        operations_of(latents, Step.decode(1, 10))


def test_a_layer_in_fp8_reads_its_casts():
    layer = layer_of(
        with_linears_in(read_architecture(CONFIG, ""), "fp8_e4m3"), Step.prefill(1, 16)
    )
    reads = {part.problem.name: part.reads for part in layer.problems}
    assert reads["cast of attention"] == {"x": "attention of prompts"}
    assert reads["output"] == {"a": "cast of attention"}


def test_macs_do_not_depend_on_formats():
    plain, step = read_architecture(CONFIG, ""), Step.decode(3, 40)
    coded = with_linears_in(plain, "fp8_e4m3")
    assert macs_of(operations_of(coded, step)) == macs_of(operations_of(plain, step))
    assert with_linears_in(coded, "bf16").weights == plain.weights


def test_formats_that_no_product_takes_are_refused():
    with pytest.raises(WorkloadError) as caught:
        with_linears_in(read_architecture(CONFIG, ""), "fp8_e5m2")
    assert str(caught.value) == (
        "weights: found 'fp8_e5m2', did you mean 'fp8_e4m3'? allowed: bf16, fp8_e4m3"
    )


@pytest.mark.parametrize(
    ("kept", "what"),
    [
        (["model.layers.0.self_attn.q_proj"], "weights in fp8_e4m3 beside bf16"),
        (["mlp"], "weights in fp8_e4m3 beside bf16"),
    ],
)
def test_layers_of_several_formats_are_refused(kept, what):
    quantization = {"quant_method": "fp8", "modules_to_not_convert": kept}
    model = read_architecture({**CONFIG, "quantization_config": quantization}, "")
    with pytest.raises(WorkloadError) as caught:
        operations_of(model, Step.decode(1, 8))
    assert str(caught.value) == f"model qwen3: steps of models with {what} are not known yet"


def test_layers_of_which_all_matrices_are_kept_are_plain():
    quantization = {"quant_method": "fp8", "modules_to_not_convert": ["mlp", "self_attn"]}
    model = read_architecture({**CONFIG, "quantization_config": quantization}, "")
    assert {str(each.problem.dtype) for each in operations_of(model, Step.decode(1, 8))} == {"bf16"}


def test_steps_differ_only_in_attention():
    """So a generation simulates all else once: the table of rotary has all positions."""
    model = read_architecture({**CONFIG, "max_position_embeddings": 512}, "")
    first, second = (
        [each.problem for each in operations_of(model, Step.decode(2, cached))]
        for cached in (40, 41)
    )
    differ = [a.name for a, b in zip(first, second, strict=True) if a != b]
    assert differ == ["attention of steps"]
    assert [each.table_rows for each in first if each.name == "rotary"] == [512]


def test_without_a_longest_context_the_table_has_the_positions_of_the_step():
    (rotary,) = (
        each.problem
        for each in operations_of(read_architecture(CONFIG, ""), Step.decode(2, 40))
        if each.problem.name == "rotary"
    )
    assert rotary.table_rows == 41
