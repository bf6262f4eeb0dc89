"""What there is to say of an architecture: counts, and its kinds of layers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import Attention, GroupedAttention, LatentAttention
from accelsim.models.feed_forward import DenseFeedForward
from accelsim.runtime.kept import once_for_each


def summary(architecture: Architecture) -> dict[str, Any]:
    """Return counts and sizes as plain data; KV in BF16, weights as the file says."""
    weights = architecture.weights
    return {
        "model_type": architecture.family,
        "parameters": architecture.parameters,
        "active_parameters": architecture.active_parameters,
        "prediction_parameters": architecture.prediction_parameters,
        "kv_bytes_per_token": architecture.kv_bytes_per_token(),
        "weight_bytes": architecture.weight_bytes,
        "weight_format": str(weights.quantized or weights.plain),
        "hidden": architecture.hidden,
        "vocabulary": architecture.vocabulary,
        "max_tokens": architecture.max_tokens,
        "has_tied_head": architecture.has_tied_head,
        "layers": [
            {"count": count, **asdict(layer)} for layer, count in layer_kinds(architecture).items()
        ],
        "left_out": list(architecture.left_out),
    }


@once_for_each
def layer_kinds(architecture: Architecture) -> Mapping[Layer, int]:
    """Return the different layers in the order of their first ones, and how many are like it."""
    return dict(Counter(architecture.layers))


def attention_text(attention: Attention) -> str:
    """Return an attention in a few words."""
    return f"{heads_text(attention)}{reach_text(attention, ', ')}"


def heads_text(attention: Attention) -> str:
    """Return the heads of an attention in a few words."""
    if isinstance(attention, GroupedAttention):
        widths = dict.fromkeys((attention.head_dim, attention.value_dim))
        heads = f"{attention.heads}/{attention.kv_heads} heads of {'/'.join(map(str, widths))}"
        return f"{heads}, sinks" if attention.has_sinks else heads
    latent = f"{attention.latent_dim} + {attention.rotary_dim}"
    return f"{attention.heads} heads, latent of {latent}"


def reach_text(attention: Attention, before: str = "") -> str:
    """Return which keys a query reads in a few words; nothing if it reads all."""
    if isinstance(attention, LatentAttention):
        if not attention.reads_selection:
            return ""
        indexer = attention.indexer
        return before + (f"best {indexer.kept} keys" if indexer else "keys chosen before")
    if attention.window:
        return f"{before}window {attention.window}"
    return f"{before}chunks of {attention.chunk}" if attention.chunk else ""


def feed_forward_text(layer: Layer) -> str:
    """Return the feed-forward part of a layer in a few words."""
    part = layer.feed_forward
    if isinstance(part, DenseFeedForward):
        return f"{part.width}, {part.activation}"
    text = f"{part.experts_per_token} of {part.experts} experts of {part.expert.width}"
    return text + (f" + {part.shared.width}" if part.shared else "")
