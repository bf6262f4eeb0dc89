"""gpt-oss: windows in every second layer, sinks, and experts with biases.

Source: the class `GptOssConfig` of Hugging Face transformers; OpenAI, "gpt-oss-120b & gpt-oss-20b
Model Card", 2025, section 2.
"""

from dataclasses import replace

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.config import Config
from accelsim.models.families.pieces import architecture, experts, grouped_attention, windows


def read_gpt_oss(config: Config) -> Architecture:
    """Router and experts have biases; each head has a sink."""
    chosen = config.integer("num_experts_per_tok")
    config.expect("experts_per_token", chosen)
    config.ignore("swiglu_limit")
    bias, number = config.flag("attention_bias", True), config.integer("num_hidden_layers")
    attention = replace(
        grouped_attention(config), has_qkv_bias=bias, has_output_bias=bias, has_sinks=True
    )
    sparse = experts(config, "num_local_experts", "intermediate_size")
    expert = replace(sparse.expert, has_bias=True)
    sparse = replace(sparse, expert=expert, has_router_bias=True)
    is_near = [layer % 2 == 0 for layer in range(number)]
    layers = [
        Layer(replace(attention, window=window), sparse)
        for window in windows(config, number, is_near, is_needed=True)
    ]
    return architecture(config, layers)
