"""Every family in every form of file, against what transformers computes from the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest

from accelsim.workload.model.checkpoint import read_checkpoint
from accelsim.workload.model.forward import hidden_states, rms_norm, token_losses
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.gguf_model import read_gguf_weights
from tests.checkpoints import (
    CONFIGS,
    IDS,
    RECORDED_STEP,
    SHORT_WINDOW,
    tensors_of,
    write_folder,
    write_gguf,
)

RECORD = json.loads(Path(__file__).with_name("recorded_models.json").read_text())
CASES = pytest.mark.parametrize("case", CONFIGS)


def logits(weights):
    states = rms_norm(
        hidden_states(weights, IDS)[-1:], weights.final_norm, weights.config.norm_epsilon
    )
    return (states @ weights.head.T)[0]


@CASES
def test_logits_are_those_of_transformers(case, tmp_path):
    config = CONFIGS[case]
    weights = read_checkpoint(write_folder(tmp_path / case, config, tensors_of(config)))
    # Both sum in FP32, each in its own order; 64 units in the last place of the largest logit, 8.
    tolerance = 64 * np.spacing(np.float32(8))
    np.testing.assert_allclose(
        logits(weights)[::RECORDED_STEP], RECORD["logits"][case], rtol=0, atol=tolerance
    )


@CASES
def test_shards_and_a_gguf_file_hold_the_same_model(case, tmp_path):
    config = CONFIGS[case]
    tensors = tensors_of(config)
    whole = read_checkpoint(write_folder(tmp_path / "whole", config, tensors))
    sharded = read_checkpoint(write_folder(tmp_path / "sharded", config, tensors, shards=3))
    packed = read_gguf_weights(GgufFile(write_gguf(tmp_path / "x.gguf", config, tensors)))
    losses = token_losses(whole, IDS)
    np.testing.assert_array_equal(token_losses(sharded, IDS), losses)
    if case == "llama_long":  # a GGUF file holds divisors of frequencies, in FP32
        np.testing.assert_allclose(token_losses(packed, IDS), losses, rtol=0, atol=1e-5)
    else:
        np.testing.assert_array_equal(token_losses(packed, IDS), losses)
    assert packed.config.context == whole.config.context
    assert packed.config.linear_shapes == whole.config.linear_shapes


def test_a_short_window_gives_what_llama_cpp_computes(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", SHORT_WINDOW, tensors_of(SHORT_WINDOW))
    weights = read_gguf_weights(GgufFile(path))
    assert [layer.window for layer in weights.layers] == [12] * 5 + [None, 12]
    wide = logits(weights).astype(float)
    wide -= wide.max() + np.log(np.exp(wide - wide.max()).sum())
    recorded = RECORD["short_window"]
    found = [wide[int(token)] for token in recorded]
    # llama.cpp looks GELU up in a table of FP16, 2^-11 in each of the seven layers. Without windows
    # these tokens are off by up to 6.4.
    tolerance = 7 * 2.0**-11
    np.testing.assert_allclose(found, list(recorded.values()), rtol=0, atol=tolerance)


_LISTED = {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8}


@pytest.mark.parametrize(
    ("case", "own", "windows"),
    [
        ("llama", {}, [None, None]),
        ("mistral", {}, [64, 64]),
        ("mistral", {"sliding_window": 128}, [None, None]),
        ("gemma3", {}, [64] * 5 + [None, 64]),
        ("qwen2", {"sliding_window": 8}, [None, None]),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": True}, [None, None]),
        (
            "qwen2",
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
            [None, 8],
        ),
        ("qwen3", _LISTED, [None, 8]),
    ],
)
def test_the_sliding_window_of_each_layer(case, own, windows, tmp_path):
    config = CONFIGS[case] | own
    weights = read_checkpoint(write_folder(tmp_path / case, config, tensors_of(config)))
    assert weights.config.context == 128
    assert [layer.window for layer in weights.layers] == windows


@pytest.mark.parametrize("case", ["mistral", "gemma3"])
def test_a_gguf_file_has_the_windows_of_its_checkpoint(case, tmp_path):
    config = CONFIGS[case]
    tensors = tensors_of(config)
    whole = read_checkpoint(write_folder(tmp_path / "whole", config, tensors))
    packed = read_gguf_weights(GgufFile(write_gguf(tmp_path / "x.gguf", config, tensors)))
    assert [layer.window for layer in packed.layers] == [layer.window for layer in whole.layers]


def test_layers_of_one_kind_share_their_rotation(tmp_path):
    config = CONFIGS["gemma3"]
    weights = read_checkpoint(write_folder(tmp_path / "x", config, tensors_of(config)))
    first = weights.layers[0].frequencies
    assert [layer.frequencies is first for layer in weights.layers] == [True] * 5 + [False, True]


@pytest.mark.parametrize(("dtype", "bits"), [(np.float16, 11), (np.float64, 53), ("bfloat16", 8)])
def test_other_floats_of_a_checkpoint(dtype, bits, tmp_path):
    import ml_dtypes

    config = CONFIGS["qwen2"]
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    tensors = {name: values.astype(dtype) for name, values in tensors_of(config).items()}
    read = read_checkpoint(write_folder(tmp_path / "x", config, tensors)).layers[0].linears["up"]
    written = tensors_of(config)["model.layers.0.mlp.up_proj.weight"]
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, written, rtol=2.0**-bits if bits < 24 else 0)
