import numpy as np
import pytest

from accelsim.errors import WorkloadError
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.llama import read_llama, unpermute_rope


def message(tiny, tmp_path, **metadata):
    tiny.metadata |= {key.replace("__", "."): value for key, value in metadata.items()}
    path = tiny.write(tmp_path / "x.gguf")
    with pytest.raises(WorkloadError) as raised:
        read_llama(GgufFile(path))
    return str(raised.value).removeprefix(f"{path}: ")


def test_the_config_is_that_of_the_file(tiny_path):
    weights = read_llama(GgufFile(tiny_path))
    config = weights.config
    assert (config.layers, config.hidden, config.q_heads, config.kv_heads) == (2, 64, 4, 2)
    assert (config.head_dim, config.kv_width, config.ffn, config.context) == (16, 32, 96, 32)
    assert config.rope_theta == 1e4
    assert config.norm_epsilon == pytest.approx(1e-5)
    for layer in weights.layers:
        shapes = {name: weight.shape for name, weight in layer.linears.items()}
        assert shapes == config.linear_shapes


def test_rotary_rows_go_back_to_halves():
    # Two heads of six rows; llama.cpp stores row i of each half next to the other half's row i.
    stored = np.array([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11], dtype=np.float32)[:, None]
    assert unpermute_rope(stored, heads=2)[:, 0].tolist() == list(range(12))


def test_another_architecture(tiny, tmp_path):
    assert message(tiny, tmp_path, general__architecture="gpt2") == (
        "architecture is 'gpt2', allowed: llama"
    )


def test_heads_that_do_not_divide(tiny, tmp_path):
    assert message(tiny, tmp_path, llama__attention__head_count_kv=3) == (
        "64 features, 4 query heads and 3 KV heads do not divide evenly"
    )


def test_a_size_of_zero(tiny, tmp_path):
    assert message(tiny, tmp_path, llama__block_count=0) == (
        "metadata 'llama.block_count' is 0, allowed: 1 or more"
    )


def test_a_constant_that_is_not_finite(tiny, tmp_path):
    assert message(tiny, tmp_path, llama__rope__freq_base=float("inf")) == (
        "metadata 'llama.rope.freq_base' is inf, allowed: above 0, finite"
    )


def test_more_layers_than_tensors(tiny, tmp_path):
    assert message(tiny, tmp_path, llama__block_count=3) == (
        "tensor 'blk.2.attn_q.weight' is missing"
    )
