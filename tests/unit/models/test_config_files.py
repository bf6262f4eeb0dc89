"""Files that are found, read, and refused by the key that is the reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import ConfigError, UnknownNameError
from accelsim.models.families.registry import model_types, read_architecture
from accelsim.models.loading import MAX_BYTES, load_architecture
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.formats import Format

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
}
EXPERTS = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
SPARSE = {
    **LLAMA,
    "model_type": "deepseek_v32",
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "index_n_heads": 2,
    "index_head_dim": 8,
    "index_topk": 16,
}


def mistakes_of(values):
    with pytest.raises(ConfigError) as caught:
        read_architecture(values, "")
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"hidden_size": None}, "hidden_size: missing; expected: an integer from 1 on"),
        ({"hidden_size": 0}, "hidden_size: found 0, expected an integer from 1 on"),
        ({"vocab_size": True}, "vocab_size: found true, expected an integer from 1 on"),
        ({"vocab_size": "many"}, 'vocab_size: found "many", expected an integer from 1 on'),
        ({"mlp_bias": 1}, "mlp_bias: found 1, expected true or false"),
        (
            {"num_attention_heads": 5, "num_key_value_heads": 5},
            "num_attention_heads: found 5, which does not divide hidden_size 64",
        ),
        (
            {"num_key_value_heads": 3},
            "num_key_value_heads: found 3, which does not divide 4 query heads",
        ),
        (
            {"hidden_act": "swish"},
            "hidden_act: found \"swish\", expected 'silu' or 'gelu' or 'gelu_new' or "
            "'gelu_pytorch_tanh' or 'relu'",
        ),
        (
            {"partial_rotary_factor": -1},
            "partial_rotary_factor: found -1, expected a number above 0",
        ),
        (
            {"rope_scaling": {"rope_type": "spiral"}},
            "rope_scaling: found the type 'spiral', which is not understood; understood: default, "
            "linear, dynamic, llama3, yarn, longrope, su, mrope, proportional",
        ),
        (
            {"is_encoder_decoder": True},
            "is_encoder_decoder: found true, which is not understood; understood: false",
        ),
        (
            {"mlp_biass": True},
            "mlp_biass: found true under a key that is not understood here, did you mean "
            "'mlp_bias'?",
        ),
        (
            {"layer_scale": [0.1] * 40},
            "layer_scale: found [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1,... "
            "under a key that is not understood here",
        ),
        (
            {"quantization_config": 8},
            "quantization_config: found 8, expected a mapping",
        ),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            "quantization_config.quant_method: found \"gptq\", expected 'fp8' or 'mxfp4' or "
            "'modelopt' or 'compressed-tensors'",
        ),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 64]}},
            "quantization_config.weight_block_size: found [64, 64], which is not understood; "
            "understood: [128, 128]",
        ),
        (
            {"quantization_config": {"bits": 4}},
            "quantization_config.bits: found 4 under a key that is not understood here",
        ),
    ],
)
def test_a_mistake_is_told_at_its_key(change, mistake):
    values = {key: value for key, value in {**LLAMA, **change}.items() if value is not None}
    assert mistakes_of(values) == [mistake]


def test_all_mistakes_are_told_together():
    values = {**LLAMA, "hidden_size": "wide", "new_key": 1, "vocab_size": -1}
    told = [each.split(":")[0] for each in mistakes_of(values)]
    assert told == ["hidden_size", "vocab_size", "new_key"]


@given(key=st.text("abcdefgh_", min_size=12, max_size=30), value=st.integers() | st.booleans())
def test_no_key_is_ignored_because_it_is_unknown(key, value):
    (mistake,) = mistakes_of({**LLAMA, key: value})
    assert mistake.startswith(f"{key}: found {json.dumps(value)} under a key")


@pytest.mark.parametrize("kind", [None, "bert", 3])
def test_another_kind_of_model_is_refused_with_those_that_are_known(kind):
    (mistake,) = mistakes_of({**LLAMA, "model_type": kind})
    assert mistake.startswith("model_type: ")
    assert mistake.endswith(f"understood: {', '.join(model_types())}")


def test_the_nearest_kind_is_named():
    (mistake,) = mistakes_of({**LLAMA, "model_type": "qwen33"})
    assert "found 'qwen33', which is not understood, did you mean 'qwen3'?" in mistake


@pytest.mark.parametrize(
    ("values", "mistake"),
    [
        (
            {**EXPERTS, "num_experts_per_tok": 9},
            "num_experts_per_tok: found 9, but num_experts says 8 experts",
        ),
        (
            {**EXPERTS, "mlp_only_layers": "none"},
            'mlp_only_layers: found "none", expected a list of integers',
        ),
        (
            {**EXPERTS, "shared_expert_intermediate_size": 32},
            "shared_expert_intermediate_size: found 32, which is not understood; understood: 0",
        ),
        (
            {**SPARSE, "indexer_types": ["full"]},
            'indexer_types: found ["full"], expected a list of 3 out of full, shared',
        ),
        (
            {**SPARSE, "indexer_types": ["shared", "full", "full"]},
            "indexer_types: found 'shared' first, but there is no layer before it",
        ),
        (
            {**SPARSE, "index_topk_freq": 4},
            "index_topk_freq: found 4, which is not understood; understood: 1",
        ),
        (
            {**SPARSE, "qk_head_dim": 16},
            "qk_head_dim: found 16, which is not understood; understood: 12",
        ),
        (
            {**LLAMA, "model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2},
            "sliding_window: missing; expected: the tokens of a window",
        ),
        (
            {**LLAMA, "model_type": "mistral", "layer_types": ["full_attention", "linear"] * 2},
            'layer_types: found ["full_attention", "linear", "full_attention", "linear"], expected '
            "a list of 3 out of full_attention, sliding_attention",
        ),
    ],
)
def test_families_say_what_they_do_not_understand(values, mistake):
    assert mistakes_of(values) == [mistake]


def test_a_decoder_within_another_file_is_told_where_it_is():
    text = {key: value for key, value in LLAMA.items() if key != "vocab_size"}
    wrapped = {"model_type": "qwen3_vl", "text_config": {**text, "odd": 1}, "vision_config": {}}
    assert mistakes_of(wrapped) == [
        "text_config.vocab_size: missing; expected: an integer from 1 on",
        "text_config.odd: found 1 under a key that is not understood here",
    ]
    assert mistakes_of({"model_type": "qwen3_vl", "text_config": [1]})[0] == (
        "text_config: found [1], expected a mapping"
    )


def test_a_decoder_takes_what_is_said_beside_it():
    wrapped = {
        "model_type": "qwen3_vl",
        "text_config": LLAMA,
        "vision_config": {"depth": 27},
        "tie_word_embeddings": True,
    }
    model = read_architecture(wrapped, "")
    assert model.has_tied_head
    assert model.left_out == ("vision",)
    assert model.family == "qwen3_vl"


@pytest.mark.parametrize(
    ("said", "bits"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + 32 / 128**2),
        ({"quant_method": "mxfp4"}, BlockFormat.MXFP4.layout.bits),
        ({"quant_algo": "NVFP4"}, BlockFormat.NVFP4.layout.bits),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {
                            "num_bits": 4,
                            "type": "int",
                            "strategy": "group",
                            "group_size": 32,
                        },
                    }
                },
            },
            4 + 16 / 32,
        ),
    ],
)
def test_bits_of_matrices_follow_the_format(said, bits):
    model = read_architecture({**LLAMA, "quantization_config": said}, "")
    assert model.weights.bits_of("model.layers.0.mlp.up_proj") == bits
    assert model.weights.bits_of("lm_head") == Format.BF16.bits
    quantized = sum(m.parameters for m in model.layers[0].matrices(64)) * 3
    rest = (model.parameters - quantized) * 2
    assert model.weight_bytes == pytest.approx(rest + quantized * bits / 8, abs=1)


def test_odd_widths_of_compressed_tensors_are_refused():
    weights = {"num_bits": 3, "type": "int", "strategy": "channel"}
    said = {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    (mistake,) = mistakes_of({**LLAMA, "quantization_config": said})
    assert mistake == (
        "quantization_config.config_groups.group_0.weights.num_bits: found 3 bits of type int; "
        "understood: 8 of float or int, 4 of int"
    )


@pytest.mark.parametrize(
    ("name", "is_kept"),
    [
        ("mlp.up_proj", True),
        ("model.layers.0.mlp.up_proj", True),
        ("up_proj", True),
        ("model.layers.0*", True),
        ("model.layers.*.mlp", True),
        ("re:.*up_proj", True),
        ("re:.*self_attn.*", False),
        ("model.layers.1.mlp", False),
        ("up", False),
    ],
)
def test_modules_that_are_kept_may_be_named_in_part_by_pattern_or_expression(name, is_kept):
    said = {"quant_method": "fp8", "modules_to_not_convert": [name]}
    weights = read_architecture({**LLAMA, "quantization_config": said}, "").weights
    assert (weights.bits_of("model.layers.0.mlp.up_proj") == 16) == is_kept


def test_a_name_may_have_other_separators():
    assert load_architecture("llama3_8b") == load_architecture("llama-3-8b")
    for name in ("qwen2_7b", "llama2_7b", "llama3_70b", "qwen3_30b_a3b", "mixtral_8x7b"):
        load_architecture(name)
    assert load_architecture("gpt_oss_20b_shape").layers[0].attention.window is None


def test_a_word_that_is_no_model_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'llama-3-8b'"):
        load_architecture("lama-3-8b")


def test_a_file_and_its_folder_are_the_same_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert load_architecture(tmp_path) == load_architecture(str(tmp_path / "config.json"))


def test_formats_may_be_in_a_file_beside(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside))
    assert load_architecture(tmp_path).weights.quantized is BlockFormat.NVFP4
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": 4}')
    with pytest.raises(ConfigError, match="quantization: expected a mapping"):
        load_architecture(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config.json:1:2: is not JSON: Expecting property name"),
        ("[1]", r"config.json: found no mapping, expected the keys of a config"),
        ('{"a": 1, "a": 2}', r"config.json: is not JSON: the key 'a' is there twice"),
        ("[" * 100_000, r"config.json: is not JSON: maximum recursion depth"),
        (" " * (MAX_BYTES + 1), rf"config.json: found {MAX_BYTES + 1} bytes, allowed are"),
    ],
)
def test_what_is_no_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_architecture(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigError, match="is not JSON: 'utf-8' codec"):
        load_architecture(tmp_path)


def test_a_folder_without_a_config_and_a_path_to_nothing_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"found a folder without config\.json"):
        load_architecture(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        load_architecture(tmp_path / "config.json")
