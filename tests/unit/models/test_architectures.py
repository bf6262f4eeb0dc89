"""Counts of real models against published ones, and against shapes added up by hand."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.config.shipped import known_names, locate
from accelsim.errors import ConfigError
from accelsim.models.attention import GroupedAttention
from accelsim.models.families.registry import read_architecture
from accelsim.models.loading import load_architecture
from accelsim.numerics.formats import Format

BILLION, KIB = 1e9, 1024

PUBLISHED = {
    # Name: parameters and active ones in billions, KV of a token in KiB. Model cards and reports.
    "llama-2-7b": (6.738, 6.738, 512),
    "llama-3.1-8b": (8.030, 8.030, 128),
    "llama-3.1-70b": (70.554, 70.554, 320),
    "llama-3.1-405b": (405.853, 405.853, 504),
    "qwen2.5-7b": (7.616, 7.616, 56),
    "qwen3-0.6b": (0.596, 0.596, 112),
    "qwen3-8b": (8.191, 8.191, 144),
    "qwen3-14b": (14.768, 14.768, 160),
    "qwen3-32b": (32.762, 32.762, 256),
    "qwen3-30b-a3b": (30.532, 3.353, 96),
    "qwen3-235b-a22b": (235.094, 22.191, 188),
    "mistral-nemo-12b": (12.248, 12.248, 160),
    "mixtral-8x7b": (46.703, 12.880, 128),
    "mixtral-8x22b": (140.621, 39.152, 224),
    "gpt-oss-20b": (20.915, 4.187, 48),
    "gpt-oss-120b": (116.829, 5.712, 72),
    "deepseek-v2-lite": (15.706, 2.661, 30.4),
    "deepseek-v3": (671.026, 37.552, 68.6),
    "kimi-k2": (1026.408, 32.862, 68.6),
    "llama-4-scout": (107.770, 17.173, 192),
    "llama-4-maverick": (400.712, 17.185, 192),
}
CHECKPOINTS = {
    # Name: numbers in the checkpoint on the hub.
    "llama-2-7b": 6_738_415_616,
    "mistral-7b": 7_241_732_096,
    "phi-3-mini-4k": 3_821_079_552,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-1b": 999_885_952,
    "opt-6.7b": 6_658_473_984,
    "qwen2-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "smollm2-135m": 134_515_008,
    "mixtral-8x7b": 46_702_792_704,
}
REAL_CONFIGS = Path(__file__).parents[4] / "shared" / "reference" / "hf_configs"


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    parameters, active, kv_kib = PUBLISHED[name]
    model = load_architecture(name)
    assert round(model.parameters / BILLION, 3) == parameters
    assert round(model.active_parameters / BILLION, 3) == active
    assert round(model.kv_bytes_per_token() / KIB, 1) == kv_kib


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_number_of_a_checkpoint_is_counted(name):
    assert load_architecture(name).parameters == CHECKPOINTS[name]


@pytest.mark.parametrize("name", known_names("model"))
def test_shipped_files_are_understood(name):
    model = load_architecture(name)
    assert 0 < model.active_parameters <= model.parameters
    assert model.kv_bytes(1) == model.kv_bytes_per_token()


def test_opt_350m_has_shorter_rows_in_its_embedding_and_no_last_norm():
    model = read_architecture(
        {
            "model_type": "opt",
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "ffn_dim": 4096,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
            "word_embed_proj_dim": 512,
            "do_layer_norm_before": False,
        },
        "",
    )
    assert model.parameters == 331_196_416


def test_formats_of_a_checkpoint_give_its_size():
    # safetensors of openai/gpt-oss-20b: 13.76 GB; of deepseek-ai/DeepSeek-V3 without MTP: 673 GB.
    assert load_architecture("gpt-oss-20b").weight_bytes == pytest.approx(13.76e9, rel=1e-3)
    assert load_architecture("deepseek-v3").weight_bytes == pytest.approx(673.2e9, rel=1e-3)
    plain = load_architecture("llama-3.1-8b")
    assert plain.weight_bytes == 2 * plain.parameters


def test_layers_with_a_window_keep_no_more_than_it():
    model = load_architecture("gpt-oss-20b")
    with_window = [layer for layer in model.layers if layer.attention.window]
    assert len(with_window) == 12
    each = 2 * 8 * 64 * Format.BF16.bits // 8
    assert model.kv_bytes(1000) == each * (12 * 128 + 12 * 1000)
    chunked = load_architecture("llama-4-scout")
    assert chunked.kv_bytes(100_000) == 2 * 8 * 128 * 2 * (36 * 8192 + 12 * 100_000)


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("gemma-2-9b", [4096, None] * 21),
        ("gemma-3-1b", ([512] * 5 + [None]) * 4 + [512] * 2),
        ("mistral-7b", [4096] * 32),
        ("qwen2.5-7b", [None] * 28),
    ],
)
def test_windows_are_in_the_layers_that_have_them(name, windows):
    assert [layer.attention.window for layer in load_architecture(name).layers] == windows


def test_qwen_windows_begin_at_a_layer_where_they_are_used():
    values = json.loads(_dense("qwen2", sliding_window=64, max_window_layers=2, layers=5))
    assert [each.attention.window for each in read_architecture(values, "").layers] == [None] * 5
    values["use_sliding_window"] = True
    windows = [each.attention.window for each in read_architecture(values, "").layers]
    assert windows == [None, None, 64, 64, 64]


def test_latent_attention_keeps_one_short_row_a_token():
    attention = load_architecture("deepseek-v3").layers[0].attention
    assert attention.kept_rows == ((1, 512 + 64),)
    names = [matrix.module for matrix in attention.matrices(7168)]
    assert names == [
        "self_attn.q_a_proj",
        "self_attn.q_b_proj",
        "self_attn.kv_a_proj_with_mqa",
        "self_attn.kv_b_proj",
        "self_attn.o_proj",
    ]


def test_layers_that_share_an_indexer_have_none_of_their_own():
    values = json.loads(locate("deepseek-v3.2", "model").read_text())
    number = values["num_hidden_layers"]
    with_all = read_architecture(values, "")
    kinds = ["full", *(["shared"] * (number - 1))]
    shared = read_architecture({**values, "indexer_types": kinds}, "")
    indexer = with_all.layers[0].attention.indexer
    each = sum(m.parameters for m in indexer.matrices(7168, 1536)) + indexer.vector_parameters
    assert with_all.parameters - shared.parameters == (number - 1) * each
    assert all(layer.attention.reads_selection for layer in shared.layers)


def test_dense_layers_stand_where_the_file_says():
    dense = load_architecture("deepseek-v3").layers[:4]
    assert [hasattr(layer.feed_forward, "experts") for layer in dense] == [False] * 3 + [True]
    maverick = load_architecture("llama-4-maverick").layers
    assert [hasattr(each.feed_forward, "experts") for each in maverick] == [False, True] * 24
    assert maverick[0].feed_forward.width == 16384


def test_layers_without_rotation_have_no_chunks():
    layers = load_architecture("llama-4-scout").layers
    assert [layer.attention.chunk for layer in layers[:4]] == [8192, 8192, 8192, None]
    assert [layer.attention.rotary_dim for layer in layers[:4]] == [128, 128, 128, 0]


def test_layers_that_predict_further_tokens_are_counted_apart():
    model = load_architecture("deepseek-v3")
    layer = model.parameters_of(model.layers[-1])
    assert model.prediction_parameters == layer + 2 * 7168**2 + 3 * 7168


@pytest.mark.skipif(not REAL_CONFIGS.is_dir(), reason="the real config files are not here")
def test_real_files_are_read_or_refused_by_a_key():
    refused = {}
    files = sorted(REAL_CONFIGS.glob("*.json"))
    for path in files:
        values = json.loads(path.read_text())
        try:
            read_architecture(values, "")
        except ConfigError as error:
            keys = {mistake.split(":")[0].split(".")[0] for mistake in error.mistakes}
            refused[path.name] = keys - set(values)
    assert len(files) - len(refused) >= 70
    assert not any(refused.values())


@given(
    heads=st.integers(1, 8),
    group=st.integers(1, 8),
    head_dim=st.integers(1, 64),
    width=st.integers(1, 500),
    vocabulary=st.integers(1, 500),
    layers=st.integers(1, 4),
    is_tied=st.booleans(),
    has_bias=st.booleans(),
)
def test_a_llama_is_the_sum_of_its_shapes(
    heads, group, head_dim, width, vocabulary, layers, is_tied, has_bias
):
    hidden, q_heads = heads * group * head_dim, heads * group
    model = read_architecture(
        {
            "model_type": "llama",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": q_heads,
            "num_key_value_heads": heads,
            "intermediate_size": width,
            "vocab_size": vocabulary,
            "tie_word_embeddings": is_tied,
            "attention_bias": has_bias,
        },
        "",
    )
    q, kv = q_heads * head_dim, heads * head_dim
    attention = hidden * (q + 2 * kv) + q * hidden + has_bias * (q + 2 * kv + hidden)
    layer = attention + 3 * hidden * width + 2 * hidden
    tables = vocabulary * hidden * (1 if is_tied else 2)
    assert model.parameters == model.active_parameters == layers * layer + tables + hidden
    assert model.kv_bytes_per_token() == layers * 2 * kv * 2
    assert isinstance(model.layers[0].attention, GroupedAttention)


def _dense(kind, layers, **more):
    return json.dumps(
        {
            "model_type": kind,
            "hidden_size": 64,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "vocab_size": 100,
            **more,
        }
    )
