"""Llama 4: chunks where positions are rotated, one expert a token beside a shared one.

Source: the class `Llama4TextConfig` of Hugging Face transformers and the layers that it describes.
"""

from dataclasses import replace

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import HeadNorm
from accelsim.models.config import Config
from accelsim.models.families.pieces import architecture, dense, experts, grouped_attention

_INTERVAL = 4
"""The last of so many layers rotates no positions and has no chunks."""


def read_llama4(config: Config) -> Architecture:
    """Layers that rotate positions have chunks, and normalise heads by nothing learned."""
    number = config.integer("num_hidden_layers")
    bias = config.flag("attention_bias")
    chunk = config.optional_integer("attention_chunk_size")
    config.ignore("attn_temperature_tuning", "attn_scale", "floor_scale")
    attention = replace(grouped_attention(config), has_qkv_bias=bias, has_output_bias=bias)
    head_norm = HeadNorm.PLAIN if config.flag("use_qk_norm", default=True) else HeadNorm.NONE
    rotated = replace(attention, chunk=chunk, head_norm=head_norm)
    plain = replace(attention, rotary_dim=0)
    shared = dense(config)
    sparse = experts(config, "num_local_experts", "intermediate_size", shared)
    wide = dense(config, "intermediate_size_mlp")
    step = config.integer("interleave_moe_layer_step", 1)
    layers = [
        Layer(
            rotated if is_rotated else plain,
            sparse if (layer + 1) % step == 0 else wide,
        )
        for layer, is_rotated in enumerate(_rotations(config, number))
    ]
    return architecture(config, layers)


def _rotations(config: Config, number: int) -> list[bool]:
    """Return which layers rotate positions; an empty list of the file stands for the default."""
    interval = config.integer("no_rope_layer_interval", _INTERVAL)
    if config.raw("no_rope_layers"):
        return [each == 1 for each in config.integers("no_rope_layers", number) or []]
    return [(layer + 1) % interval != 0 for layer in range(number)]
