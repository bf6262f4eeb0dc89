"""What is refused of a folder: every mistake by its key, its tensor or its file."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from accelsim.errors import ShortageError, WorkloadError
from accelsim.workload.model.checkpoint import checkpoint_files, read_checkpoint
from tests.checkpoints import CONFIGS, tensors_of, write_folder


def refused(folder):
    with pytest.raises(WorkloadError) as raised:
        read_checkpoint(folder)
    return str(raised.value).removeprefix(f"{folder}").removeprefix("/")


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (
            "llama",
            {"model_type": "gpt2"},
            "'model_type' is gpt2, allowed: llama, mistral, qwen2, qwen3, gemma3_text",
        ),
        ("llama", {"model_type": None}, "'model_type' is missing, expected str"),
        ("llama", {"hidden_size": None}, "'hidden_size' is missing, expected int"),
        ("llama", {"hidden_size": "32"}, "'hidden_size' is of type str, expected int"),
        ("llama", {"num_hidden_layers": 0}, "'num_hidden_layers' is 0, allowed: 1 or more"),
        ("llama", {"rms_norm_eps": 0}, "'rms_norm_eps' is 0.0, allowed: above 0, finite"),
        ("llama", {"hidden_act": "relu"}, "'hidden_act' is relu, allowed: silu"),
        (
            "gemma3",
            {"hidden_activation": "gelu"},
            "'hidden_act' is gelu, allowed: gelu_pytorch_tanh",
        ),
        (
            "llama",
            {"num_key_value_heads": 3},
            "4 query heads cannot share 3 KV heads evenly",
        ),
        ("llama", {"head_dim": 7}, "a head of 7 elements has no halves to rotate"),
        (
            "gemma3",
            {"query_pre_attn_scalar": 24},
            "'query_pre_attn_scalar' is 24, allowed: 16, the length of a head",
        ),
        ("llama", {"rope_interleaved": True}, "'rope_interleaved' is True, allowed: False"),
        (
            "gemma3",
            {"attn_logit_softcapping": 50.0},
            "'attn_logit_softcapping' is 50.0, allowed: None",
        ),
        (
            "llama",
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "'rope_type' is yarn, allowed: default, linear, llama3",
        ),
        (
            "llama",
            {"rope_scaling": {"type": "linear"}},
            "'factor' is None, allowed: a number above 0, finite",
        ),
        (
            "llama_long",
            {"rope_scaling": CONFIGS["llama_long"]["rope_scaling"] | {"low_freq_factor": 4}},
            "'low_freq_factor' is 4.0, allowed: below high_freq_factor, 4.0",
        ),
        ("llama", {"rope_scaling": [1]}, "'rope_parameters' is [1], allowed: a mapping"),
        (
            "gemma3",
            {"rope_parameters": {"full_attention": {}, "sliding_attention": 3}},
            "'rope_parameters' is 3, allowed: a mapping",
        ),
        (
            "llama",
            {"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "RoPE key 'partial_rotary_factor' is not understood; "
            "allowed: models of Llama's family without it",
        ),
        (
            "llama",
            {"quantization_config": {"bits": 4}, "residual_multiplier": 2.0},
            "key 'quantization_config' and 1 more is not understood; "
            "allowed: models of Llama's family without it",
        ),
        (
            "gemma3",
            {"layer_types": ["full_attention"]},
            "'layer_types' is ['full_attention'], allowed: a list of 7 types",
        ),
    ],
)
def test_config(case, changes, message, tmp_path):
    config = CONFIGS[case] | changes
    folder = write_folder(tmp_path / "x", config, tensors_of(CONFIGS[case]))
    assert refused(folder) == f"config.json: {message}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=3,
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=st.sampled_from(sorted(CONFIGS)), data=st.data())
def test_any_value_of_any_key_is_read_or_reported_but_never_crashes(case, data, tmp_path):
    folder = tmp_path / case
    if not folder.exists():
        write_folder(folder, CONFIGS[case], tensors_of(CONFIGS[case]))
    key = data.draw(st.sampled_from(sorted(CONFIGS[case])))
    inner = CONFIGS[case][key]
    value = data.draw(JSON)
    if isinstance(inner, dict) and data.draw(st.booleans()):
        value = inner | {data.draw(st.sampled_from(sorted(inner))): value}
    (folder / "config.json").write_text(json.dumps(CONFIGS[case] | {key: value}))
    report = str(folder)
    try:
        read_checkpoint(folder)
    except WorkloadError as error:
        report = str(error)
    assert str(folder) in report


def test_a_config_that_is_no_object(tmp_path):
    folder = write_folder(tmp_path / "x", CONFIGS["llama"], {})
    (folder / "config.json").write_text("[]")
    assert refused(folder) == "config.json: found no JSON object"
    (folder / "config.json").write_text("{")
    assert refused(folder) == (
        "config.json: cannot be read (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1))"
    )
    (folder / "config.json").unlink()
    assert refused(folder).startswith("config.json: cannot be read ([Errno 2] No such file")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("model.norm.weight", None, ": tensor 'model.norm.weight' is missing"),
        ("lm_head.weight", None, ": tensor 'lm_head.weight' is missing"),
        (
            "model.layers.0.self_attn.sinks",
            np.zeros(4, np.float32),
            ": tensor 'model.layers.0.self_attn.sinks' is not understood; "
            "allowed: models of Llama's family without it",
        ),
        (
            "model.norm.weight",
            np.zeros(31, np.float32),
            "model.safetensors: tensor 'model.norm.weight' has shape [31], expected [32]",
        ),
        (
            "model.norm.weight",
            np.zeros(32, np.int32),
            "model.safetensors: tensor 'model.norm.weight' has type I32, "
            "allowed: F32, F16, BF16, F64",
        ),
        (
            "model.norm.weight",
            np.full(32, np.nan, np.float32),
            "model.safetensors: tensor 'model.norm.weight' holds values that are not finite",
        ),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", np.zeros(4, np.float32), None),
    ],
)
def test_tensors(name, values, message, tmp_path):
    tensors = {key: each for key, each in tensors_of(CONFIGS["llama"]).items() if key != name}
    if values is not None:
        tensors[name] = values
    folder = write_folder(tmp_path / "x", CONFIGS["llama"], tensors)
    if message is None:
        read_checkpoint(folder)
    else:
        assert refused(folder) == message


def test_a_bias_that_a_family_always_has(tmp_path):
    tensors = tensors_of(CONFIGS["qwen2"])
    name = "model.layers.1.self_attn.v_proj.bias"
    del tensors[name]
    folder = write_folder(tmp_path / "x", CONFIGS["qwen2"], tensors)
    assert refused(folder) == f": tensor '{name}' is missing"


def test_without_a_word_on_the_head_the_tensor_decides(tmp_path):
    config = {key: each for key, each in CONFIGS["llama"].items() if key != "tie_word_embeddings"}
    tensors = tensors_of(CONFIGS["llama"])
    untied = read_checkpoint(write_folder(tmp_path / "x", config, tensors))
    assert untied.head is not untied.embedding
    del tensors["lm_head.weight"]
    tied = read_checkpoint(write_folder(tmp_path / "y", config, tensors))
    assert tied.head is tied.embedding


def test_shards(tmp_path):
    config = CONFIGS["llama"]
    folder = write_folder(tmp_path / "x", config, tensors_of(config), shards=2)
    names = ["config.json", "tokenizer.json", "model-0.safetensors", "model-1.safetensors"]
    assert checkpoint_files(folder) == tuple(folder / name for name in names)
    (folder / "model-1.safetensors").write_bytes(b"12345678")
    assert refused(folder) == (
        "model-1.safetensors: cannot be read (the header is longer than the file)"
    )
    (folder / "model-1.safetensors").unlink()
    assert "model-1.safetensors: cannot be read ([Errno 2]" in refused(folder)
    for files in ({"t": "../x.safetensors"}, {"t": 3}, [1]):
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": files}))
        assert refused(folder) == (
            "model.safetensors.index.json: 'weight_map' is not a mapping to files beside it"
        )


def test_a_file_that_is_there_and_cannot_be_read(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "x", CONFIGS["llama"], tensors_of(CONFIGS["llama"]))

    def denied(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("accelsim.workload.model.checkpoint.read_header", denied)
    with pytest.raises(ShortageError) as raised:
        read_checkpoint(folder)
    assert str(raised.value).startswith(f"{folder}/model.safetensors: cannot be read ([Errno 13]")


def test_a_tensor_shorter_than_its_shape(tmp_path):
    folder = write_folder(tmp_path / "x", CONFIGS["llama"], {})
    save_file(tensors_of(CONFIGS["llama"]), folder / "model.safetensors")
    path = folder / "model.safetensors"
    content = path.read_bytes().replace(b'"shape":[32,48]', b'"shape":[48,48]', 1)
    path.write_bytes(content)
    assert refused(folder) == (
        "model.safetensors: tensor 'model.layers.0.mlp.down_proj.weight' has shape [48, 48], "
        "expected [32, 48]"
    )
