"""MiMo-V2-Flash: windows with heads and sinks of their own, keys wider than values, experts.

Source: XiaomiMiMo, `configuration_mimo_v2_flash.py` and `modeling_mimo_v2_flash.py`, 2025.
"""

from dataclasses import replace

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import GroupedAttention
from accelsim.models.config import Config
from accelsim.models.families.pieces import architecture, dense, experts


def read_mimo_v2(config: Config) -> Architecture:
    """`hybrid_layer_pattern` has a one for each layer with a window."""
    number = config.integer("num_hidden_layers")
    window = config.integer("sliding_window")
    config.expect("sliding_window_size", window)
    config.expect("attention_chunk_size", window)
    config.expect("attention_bias", False)
    config.expect("n_shared_experts", 0)
    config.ignore("attention_value_scale")
    everywhere = _attention(config, "", "add_full_attention_sink_bias")
    nearby = replace(_attention(config, "swa_", "add_swa_attention_sink_bias"), window=window)
    sparse = replace(
        experts(config, "n_routed_experts", "moe_intermediate_size"),
        has_balance_bias=config.text("topk_method", ("noaux_tc", "greedy")) == "noaux_tc",
    )
    plain = dense(config)
    patterns = config.integers("hybrid_layer_pattern", number) or [0] * number
    has_experts = config.integers("moe_layer_freq", number) or [1] * number
    layers = [
        Layer(nearby if is_near else everywhere, sparse if is_sparse else plain)
        for is_near, is_sparse in zip(patterns, has_experts, strict=True)
    ]
    return architecture(config, layers)


def _attention(config: Config, prefix: str, sink_key: str) -> GroupedAttention:
    head_dim = config.integer(f"{prefix}head_dim")
    rotated = config.optional_number("partial_rotary_factor") or 1.0
    return GroupedAttention(
        heads=config.integer(f"{prefix}num_attention_heads"),
        kv_heads=config.integer(f"{prefix}num_key_value_heads"),
        head_dim=head_dim,
        value_dim=config.integer(f"{prefix}v_head_dim", head_dim),
        rotary_dim=int(head_dim * rotated),
        has_sinks=config.flag(sink_key),
    )
