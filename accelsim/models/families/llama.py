"""Llama 2 and 3, Mistral, Qwen2, Qwen3, MiMo and Phi-3: one dense layer, again and again.

Sources: the classes `LlamaConfig`, `MistralConfig`, `Qwen2Config`, `Qwen3Config` and `Phi3Config`
of Hugging Face transformers, and the layers that they describe.
"""

from dataclasses import replace

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention, HeadNorm
from accelsim.models.config import Config
from accelsim.models.families.pieces import (
    architecture,
    dense,
    grouped_attention,
    qwen_windows,
    windows,
)


def read_llama(config: Config) -> Architecture:
    """Biases, where there are any, are in all four maps of attention."""
    has_bias = config.flag("attention_bias")
    attention = replace(grouped_attention(config), has_qkv_bias=has_bias, has_output_bias=has_bias)
    layers = config.integer("num_hidden_layers")
    return _alike(config, attention, [None] * layers, bias=config.flag("mlp_bias"))


def read_mistral(config: Config) -> Architecture:
    """All layers have the window, if the file gives one."""
    config.expect("attention_bias", False)
    layers = config.integer("num_hidden_layers")
    return _alike(config, grouped_attention(config), windows(config, layers, [True] * layers))


def read_qwen2(config: Config) -> Architecture:
    """Q, K and V have a bias, although no key of the file says so."""
    config.expect("qkv_bias", True)
    attention = replace(grouped_attention(config), has_qkv_bias=True)
    return _alike(config, attention, qwen_windows(config, config.integer("num_hidden_layers")))


def read_qwen3(config: Config) -> Architecture:
    """Heads of Q and K are normalised."""
    return _alike(
        config, qwen3_attention(config), qwen_windows(config, config.integer("num_hidden_layers"))
    )


def qwen3_attention(config: Config) -> GroupedAttention:
    """Return the attention of dense and sparse Qwen3."""
    config.expect("qkv_bias", False)
    config.expect("use_qk_norm", True)
    has_bias = config.flag("attention_bias")
    attention = grouped_attention(config, head_norm=HeadNorm.HEAD)
    return replace(attention, has_qkv_bias=has_bias, has_output_bias=has_bias)


def read_mimo(config: Config) -> Architecture:
    """MiMo-7B is Qwen2 with layers that predict further tokens."""
    config.expect("attention_bias", True)
    config.expect("use_mrope", False)
    attention = replace(grouped_attention(config), has_qkv_bias=True)
    found = qwen_windows(config, config.integer("num_hidden_layers"))
    predicted = config.integer("num_nextn_predict_layers", 0, least=0)
    return _alike(config, attention, found, predicted=predicted)


def read_phi3(config: Config) -> Architecture:
    """Its fused maps hold what those of Llama hold."""
    config.expect("attention_bias", False)
    layers = config.integer("num_hidden_layers")
    return _alike(config, grouped_attention(config), windows(config, layers, [True] * layers))


def _alike(
    config: Config,
    attention: GroupedAttention,
    windows_of_layers: list[int | None],
    *,
    bias: bool = False,
    predicted: int = 0,
) -> Architecture:
    feed_forward = dense(config, bias=bias)
    layers = [Layer(replace(attention, window=each), feed_forward) for each in windows_of_layers]
    return architecture(config, layers, predicted=predicted)
