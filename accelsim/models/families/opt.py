"""OPT: learned positions, LayerNorm, ReLU between two matrices, biases everywhere.

Sources: the class `OPTConfig` of Hugging Face transformers and the decoder that it describes; Zhang
et al., "OPT: Open Pre-trained Transformer Language Models", 2022, Table 1.
"""

from dataclasses import replace

from accelsim.models.architecture import Architecture, Layer, Norm
from accelsim.models.config import Config
from accelsim.models.families.pieces import ACTIVATIONS, architecture, grouped_attention
from accelsim.models.feed_forward import DenseFeedForward

_OFFSET = 2
"""Rows of the table of positions before that of the first token."""


def read_opt(config: Config) -> Architecture:
    """The smallest but one (350m) has rows of other lengths in its embedding, and no last norm."""
    bias = config.flag("enable_bias", default=True)
    is_learned = config.flag("layer_norm_elementwise_affine", default=True)
    attention = replace(
        grouped_attention(config), rotary_dim=0, has_qkv_bias=bias, has_output_bias=bias
    )
    feed_forward = DenseFeedForward(
        config.integer("ffn_dim"),
        config.text("activation_function", ACTIVATIONS, "relu"),
        is_gated=False,
        has_bias=bias,
    )
    hidden = config.integer("hidden_size")
    row = config.integer("word_embed_proj_dim", hidden)
    is_normed_before = config.flag("do_layer_norm_before", default=True)
    is_final_removed = config.flag("_remove_final_layer_norm")
    layers = [Layer(attention, feed_forward)] * config.integer("num_hidden_layers")
    return architecture(
        config,
        layers,
        Norm(has_mean=True, has_bias=True, learned=is_learned),
        tied_by_default=True,
        has_final_norm=is_normed_before and not is_final_removed,
        embedding_dim=None if row == hidden else row,
        learned_positions=config.integer("max_position_embeddings") + _OFFSET,
    )
