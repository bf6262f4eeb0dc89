"""Parts that several families read from the same keys."""

from accelsim.models.architecture import Architecture, Layer, Norm, Prediction
from accelsim.models.attention import GroupedAttention, HeadNorm
from accelsim.models.config import Config
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward
from accelsim.models.weight_formats import read_weight_formats
from accelsim.numerics.formats import Format

ACTIVATIONS = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
_DTYPES = {"bfloat16": Format.BF16, "float16": Format.FP16, "float32": Format.FP32}
_ALWAYS_KEPT = ("lm_head$", r"(?:.*\.)?mlp\.gate$", r"(?:.*\.)?indexer\.weights_proj$")
"""Head, router and the weights of index heads, which no engine quantizes."""
RMS_NORM = Norm()
_SLIDING, _FULL = "sliding_attention", "full_attention"


def grouped_attention(
    config: Config, *, heads_key: str = "num_attention_heads", head_norm: HeadNorm = HeadNorm.NONE
) -> GroupedAttention:
    """Return attention by the usual keys, without windows and biases."""
    heads = config.integer(heads_key)
    kv_heads = config.integer("num_key_value_heads", heads)
    hidden = config.integer("hidden_size")
    if not config.has("head_dim") and hidden % heads:
        config.contradict(heads_key, f"found {heads}, which does not divide hidden_size {hidden}")
    if heads % kv_heads:
        config.contradict(
            "num_key_value_heads", f"found {kv_heads}, which does not divide {heads} query heads"
        )
    head_dim = config.integer("head_dim", max(1, hidden // heads))
    rotated = config.optional_number("partial_rotary_factor") or 1.0
    return GroupedAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=head_dim,
        rotary_dim=int(head_dim * rotated),
        head_norm=head_norm,
    )


def windows(
    config: Config, layers: int, default: list[bool], *, is_needed: bool = False
) -> list[int | None]:
    """Return the window of each layer; default: which layers have one if no `layer_types` says.

    `sliding_window` is how long it is. Without it no layer has one, if the family allows for that.
    """
    window = config.optional_integer("sliding_window")
    types = config.texts("layer_types", (_FULL, _SLIDING), layers)
    if types is not None:
        default, is_needed = [each == _SLIDING for each in types], True
    if is_needed and window is None and any(default):
        config.refuse("sliding_window", "missing; expected: the tokens of a window")
    return [window if is_sliding else None for is_sliding in default]


def qwen_windows(config: Config, layers: int) -> list[int | None]:
    """Return windows as Qwen files say them: `use_sliding_window`, from `max_window_layers` on."""
    is_used = config.flag("use_sliding_window")
    first = config.integer("max_window_layers", layers, least=0)
    if not is_used:
        config.ignore("sliding_window", "layer_types")
        return [None] * layers
    return windows(config, layers, [number >= first for number in range(layers)])


def dense(config: Config, key: str = "intermediate_size", bias: bool = False) -> DenseFeedForward:
    """Return a gated feed-forward part of `key` elements."""
    return DenseFeedForward(config.integer(key), activation(config), has_bias=bias)


def activation(config: Config, default: str = "silu") -> str:
    """Return the name of the activation."""
    other = config.text("hidden_activation", ACTIVATIONS, default)
    return config.text("hidden_act", ACTIVATIONS, other)


def experts(
    config: Config, count_key: str, width_key: str, shared: DenseFeedForward | None = None
) -> ExpertFeedForward:
    """Return a choice of `num_experts_per_tok` gated experts."""
    count, chosen = config.integer(count_key), config.integer("num_experts_per_tok")
    if chosen > count:
        config.contradict(
            "num_experts_per_tok", f"found {chosen}, but {count_key} says {count} experts"
        )
    return ExpertFeedForward(count, chosen, dense(config, width_key), shared)


def architecture(
    config: Config,
    layers: list[Layer],
    norm: Norm = RMS_NORM,
    *,
    tied_by_default: bool = False,
    predicted: int = 0,
    **more: object,
) -> Architecture:
    """Return a model of layers by the usual keys; predicted: MTP modules like its last layer."""
    dtype = config.text("torch_dtype", tuple(_DTYPES), "bfloat16")
    plain = _DTYPES[config.text("dtype", tuple(_DTYPES), dtype)]
    quantization = config.section("quantization_config")
    return Architecture(
        family=str(config.raw("model_type")),
        hidden=config.integer("hidden_size"),
        vocabulary=config.integer("vocab_size"),
        layers=tuple(layers),
        norm=norm,
        has_tied_head=config.flag("tie_word_embeddings", tied_by_default),
        max_tokens=config.optional_integer("max_position_embeddings"),
        prediction=Prediction(tuple(layers[-1:]) * predicted),
        weights=read_weight_formats(quantization, plain, _ALWAYS_KEPT),
        **more,  # type: ignore[arg-type]
    )
