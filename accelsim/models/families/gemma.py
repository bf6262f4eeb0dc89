"""Gemma 1, 2 and 3: wide heads, four norms a layer from Gemma 2 on, a tied head.

Sources: the classes `GemmaConfig`, `Gemma2Config` and `Gemma3TextConfig` of Hugging Face
transformers, whose defaults stand where a file of Gemma 3 is silent.
"""

from dataclasses import replace

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention, HeadNorm
from accelsim.models.config import Config
from accelsim.models.families.pieces import (
    activation,
    architecture,
    grouped_attention,
    windows,
)
from accelsim.models.feed_forward import DenseFeedForward

_GELU = "gelu_pytorch_tanh"
_GEMMA3_PATTERN = 6
"""The last of so many layers has no window."""


def read_gemma(config: Config) -> Architecture:
    """Two norms a layer, no windows."""
    config.expect("attention_bias", False)
    layer = Layer(grouped_attention(config), _feed_forward(config))
    layers = [layer] * config.integer("num_hidden_layers")
    return architecture(config, layers, tied_by_default=True)


def read_gemma2(config: Config) -> Architecture:
    """Every second layer has the window, from the first on; scores and logits are bounded."""
    config.expect("attention_bias", False)
    config.ignore("query_pre_attn_scalar", "sliding_window_size")
    attention = replace(
        grouped_attention(config), softcap=config.optional_number("attn_logit_softcapping")
    )
    number = config.integer("num_hidden_layers")
    is_near = [layer % 2 == 0 for layer in range(number)]
    found = windows(config, number, is_near, is_needed=True)
    return _with_four_norms(config, attention, found)


def read_gemma3(config: Config) -> Architecture:
    """Five of six layers have the window; heads of Q and K are normalised."""
    config.expect("attention_bias", False)
    config.ignore("query_pre_attn_scalar")
    attention = replace(
        grouped_attention(config, head_norm=HeadNorm.HEAD),
        softcap=config.optional_number("attn_logit_softcapping"),
    )
    number = config.integer("num_hidden_layers")
    pattern = config.integer("sliding_window_pattern", _GEMMA3_PATTERN)
    pattern = config.integer("_sliding_window_pattern", pattern)
    is_near = [(layer + 1) % pattern != 0 for layer in range(number)]
    found = windows(config, number, is_near, is_needed=True)
    return _with_four_norms(config, attention, found)


GEMMA3_DEFAULTS = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "max_position_embeddings": 131_072,
}
"""What the class has where a `text_config` of Gemma 3 is silent."""


def _with_four_norms(
    config: Config, attention: GroupedAttention, found: list[int | None]
) -> Architecture:
    feed_forward = _feed_forward(config)
    layers = [Layer(replace(attention, window=each), feed_forward, norms=4) for each in found]
    softcap = config.optional_number("final_logit_softcapping")
    return architecture(config, layers, tied_by_default=True, logit_softcap=softcap)


def _feed_forward(config: Config) -> DenseFeedForward:
    return DenseFeedForward(config.integer("intermediate_size"), activation(config, _GELU))
