"""Mixtral, Phi-MoE, Qwen3-MoE and MiniMax-M2: attention of a dense model beside experts.

Sources: the classes `MixtralConfig`, `PhimoeConfig` and `Qwen3MoeConfig` of Hugging Face
transformers; MiniMaxAI, `modeling_minimax_m2.py`.
"""

from dataclasses import replace

from accelsim.models.architecture import Architecture, Layer, Norm
from accelsim.models.attention import HeadNorm
from accelsim.models.config import Config
from accelsim.models.families.llama import qwen3_attention
from accelsim.models.families.pieces import (
    architecture,
    dense,
    experts,
    grouped_attention,
    qwen_windows,
    windows,
)


def read_mixtral(config: Config) -> Architecture:
    """All layers have experts, each as wide as `intermediate_size`."""
    attention, number = grouped_attention(config), config.integer("num_hidden_layers")
    feed_forward = experts(config, "num_local_experts", "intermediate_size")
    layers = [
        Layer(replace(attention, window=window), feed_forward)
        for window in windows(config, number, [True] * number)
    ]
    return architecture(config, layers)


def read_phimoe(config: Config) -> Architecture:
    """Biases are in attention, in norms, which take off the mean, and in the head."""
    bias, number = config.flag("attention_bias"), config.integer("num_hidden_layers")
    attention = replace(grouped_attention(config), has_qkv_bias=bias, has_output_bias=bias)
    feed_forward = experts(config, "num_local_experts", "intermediate_size")
    layers = [
        Layer(replace(attention, window=window), feed_forward)
        for window in windows(config, number, [True] * number)
    ]
    norm = Norm(has_mean=True, has_bias=True)
    return architecture(config, layers, norm, has_head_bias=config.flag("lm_head_bias"))


def read_qwen3_moe(config: Config) -> Architecture:
    """Layers have experts every `decoder_sparse_step`, but for those of `mlp_only_layers`."""
    attention, number = qwen3_attention(config), config.integer("num_hidden_layers")
    step = config.integer("decoder_sparse_step", 1)
    without = config.integers("mlp_only_layers") or []
    sparse = experts(config, "num_experts", "moe_intermediate_size")
    found = qwen_windows(config, number)
    is_sparse = [layer not in without and (layer + 1) % step == 0 for layer in range(number)]
    plain = None if all(is_sparse) else dense(config)
    config.ignore("intermediate_size")
    config.expect("shared_expert_intermediate_size", 0)
    layers = [
        Layer(replace(attention, window=window), sparse if plain is None or chosen else plain)
        for window, chosen in zip(found, is_sparse, strict=True)
    ]
    return architecture(config, layers)


def read_minimax_m2(config: Config) -> Architecture:
    """All heads of a token are normalised together."""
    config.expect("qk_norm_type", "per_layer")
    config.expect("attn_type_list", [1] * config.integer("num_hidden_layers"))
    config.expect("shared_intermediate_size", 0)
    config.expect("sliding_window", None)
    head_norm = HeadNorm.ROW if config.flag("use_qk_norm") else HeadNorm.NONE
    attention = grouped_attention(config, head_norm=head_norm)
    rotated = config.integer("rotary_dim", attention.head_dim)
    sparse = experts(config, "num_local_experts", "intermediate_size")
    sparse = replace(sparse, has_balance_bias=config.flag("use_routing_bias"))
    modules = config.integer("num_mtp_modules", 0, least=0)
    each = config.integer("mtp_transformer_layers", 1)
    predicted = modules * each if config.flag("use_mtp") else 0
    layer = Layer(replace(attention, rotary_dim=rotated), sparse)
    layers = [layer] * config.integer("num_hidden_layers")
    return architecture(config, layers, predicted=predicted)
