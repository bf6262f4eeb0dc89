import gguf
import numpy as np
import pytest

from accelsim.errors import WorkloadError
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.gguf_model import read_gguf_weights
from accelsim.workload.model.rope import rope_frequencies


def read(tiny, tmp_path, **metadata):
    tiny.metadata |= {key.replace("__", "."): value for key, value in metadata.items()}
    return read_gguf_weights(GgufFile(tiny.write(tmp_path / "x.gguf")))


def message(tiny, tmp_path, **metadata):
    with pytest.raises(WorkloadError) as raised:
        read(tiny, tmp_path, **metadata)
    return str(raised.value).removeprefix(f"{tmp_path}/x.gguf: ")


def test_the_config_is_that_of_the_file(tiny_path):
    weights = read_gguf_weights(GgufFile(tiny_path))
    config = weights.config
    assert (config.layers, config.hidden, config.q_heads, config.kv_heads) == (2, 64, 4, 2)
    assert (config.head_dim, config.kv_width, config.ffn, config.context) == (16, 32, 96, 32)
    assert config.vocabulary == len(weights.embedding)
    assert config.norm_epsilon == pytest.approx(1e-5)
    assert weights.head is weights.embedding
    for layer in weights.layers:
        shapes = {name: weight.shape for name, weight in layer.linears.items()}
        assert shapes == config.linear_shapes
        np.testing.assert_array_equal(layer.frequencies, rope_frequencies(16, 1e4))


def test_what_a_file_leaves_out_is_as_in_llama_cpp(tiny, tmp_path):
    del tiny.metadata["llama.rope.freq_base"], tiny.metadata["llama.attention.head_count_kv"]
    for layer in range(2):
        for name in ("attn_k", "attn_v"):
            values = tiny.tensors[f"blk.{layer}.{name}.weight"]
            tiny.tensors[f"blk.{layer}.{name}.weight"] = np.concatenate((values, values))
    weights = read(tiny, tmp_path)
    assert weights.config.kv_heads == 4
    np.testing.assert_array_equal(weights.layers[0].frequencies, rope_frequencies(16, 1e4))


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (
            {"general__architecture": "gpt2"},
            "architecture is 'gpt2', allowed: llama, qwen2, qwen3, gemma3",
        ),
        (
            {"llama__attention__head_count_kv": 3},
            "4 query heads cannot share 3 KV heads evenly",
        ),
        (
            {"llama__attention__head_count": 3},
            "64 features do not divide evenly among 3 query heads",
        ),
        ({"llama__block_count": 0}, "metadata 'llama.block_count' is 0, allowed: 1 or more"),
        (
            {"llama__rope__freq_base": float("inf")},
            "metadata 'llama.rope.freq_base' is inf, allowed: above 0, finite",
        ),
        (
            {"llama__rope__scaling__type": "yarn"},
            "metadata 'llama.rope.scaling.type' is yarn, allowed: none, linear",
        ),
        (
            {"llama__rope__scaling__type": "linear"},
            "metadata 'llama.rope.scaling.factor' is missing, expected float",
        ),
        (
            {"llama__rope__dimension_count": 8},
            "metadata 'llama.rope.dimension_count' is 8, allowed: 16, as long as a key",
        ),
        (
            {"llama__attention__key_length": 15, "llama__attention__value_length": 15},
            "a head of 15 elements has no halves to rotate",
        ),
        (
            {"llama__vocab_size": 7},
            "metadata 'llama.vocab_size' is 7, allowed: 261, as many as there are tokens",
        ),
        (
            {"llama__expert_count": 8},
            "metadata 'llama.expert_count' is not understood; "
            "allowed: models of Llama's family without it",
        ),
        (
            {"split__count": 3},
            "metadata 'split.count' is 3, allowed: 1, the whole model in one file",
        ),
        ({"llama__block_count": 3}, "tensor 'blk.2.attn_norm.weight' is missing"),
    ],
)
def test_a_mistake_is_named_by_its_key(tiny, tmp_path, metadata, text):
    assert message(tiny, tmp_path, **metadata) == text


def test_a_tensor_that_no_such_model_has(tiny, tmp_path):
    tiny.tensors["blk.1.attn_sinks.weight"] = np.zeros(4, np.float32)
    assert message(tiny, tmp_path) == (
        "tensor 'blk.1.attn_sinks.weight' is not understood; "
        "allowed: models of Llama's family without it"
    )


def test_fewer_layers_than_tensors(tiny, tmp_path):
    assert message(tiny, tmp_path, llama__block_count=1).startswith(
        "tensor 'blk.1.attn_k.weight' and 8 more is not understood"
    )


def test_the_largest_gemma_scales_its_scores_in_another_way(tiny, tmp_path):
    renamed = {key.replace("llama.", "gemma3."): each for key, each in tiny.metadata.items()}
    tiny.metadata = renamed | {"general.architecture": "gemma3"}
    assert message(tiny, tmp_path, gemma3__block_count=62) == (
        "metadata 'gemma3.block_count' is 62, allowed: the sizes of Gemma 3 but 27B"
    )


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_the_format_are_the_same(tiny, tmp_path, version):
    path = tiny.write(tmp_path / "x.gguf")
    content = bytearray(path.read_bytes())
    content[4] = version
    path.write_bytes(content)
    assert read_gguf_weights(GgufFile(path)).config.layers == 2


def test_the_head_may_be_a_tensor_of_its_own(tiny, tmp_path):
    head = np.flip(tiny.tensors["token_embd.weight"], axis=0).copy()
    tiny.tensors["output.weight"] = head
    np.testing.assert_array_equal(read(tiny, tmp_path).head, head)


def test_the_writer_knows_every_format_that_is_read():
    from accelsim.workload.model.gguf_file import READABLE_TYPES

    names = {number: gguf.GGMLQuantizationType(number).name for number in READABLE_TYPES}
    assert names == READABLE_TYPES


def test_frequencies_are_not_divided_by_nothing(tiny, tmp_path):
    tiny.tensors["rope_freqs.weight"] = np.arange(8, dtype=np.float32)
    assert message(tiny, tmp_path) == "tensor 'rope_freqs.weight' holds 0, allowed: above 0"
