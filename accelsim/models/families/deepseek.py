"""DeepSeek V2, V3 and V3.2, Kimi K2 and GLM-5: latent attention, and dense layers before experts.

Sources: DeepSeek-V2, 2024, section 2; DeepSeek-V3, 2024, sections 2.1 and 2.2; DeepSeek-V3.2, 2025,
section 2.1; the classes `DeepseekV3Config` and `GlmMoeDsaConfig` of Hugging Face transformers.
"""

from accelsim.models.architecture import Architecture, Layer
from accelsim.models.attention import Indexer, LatentAttention
from accelsim.models.config import Config
from accelsim.models.families.pieces import activation, architecture, dense, experts
from accelsim.models.feed_forward import DenseFeedForward, ExpertFeedForward

_DENSE, _SPARSE = "dense", "sparse"
_OWN, _SHARED = "full", "shared"


def read_deepseek(config: Config) -> Architecture:
    """All queries read all keys."""
    return _read(config, [None] * config.integer("num_hidden_layers"), reads_selection=False)


def read_deepseek_sparse(config: Config) -> Architecture:
    """Queries read the keys that an indexer chose, that of their layer or of one before it."""
    number = config.integer("num_hidden_layers")
    indexer = Indexer(
        heads=config.integer("index_n_heads"),
        head_dim=config.integer("index_head_dim"),
        kept=config.integer("index_topk"),
    )
    config.ignore("indexer_rope_interleave", "index_share_for_mtp_iteration")
    config.ignore("index_topk_freq", "index_skip_topk_offset")
    config.expect("index_topk_pattern", None)
    config.expect("layer_types", ["deepseek_sparse_attention"] * number)
    if config.has("index_topk_freq") and not config.has("indexer_types"):
        config.expect("index_topk_freq", 1)
    types = config.texts("indexer_types", (_OWN, _SHARED), number) or [_OWN] * number
    if types[0] != _OWN:
        config.refuse("indexer_types", "found 'shared' first, but there is no layer before it")
    return _read(config, [indexer if each == _OWN else None for each in types], True)


def _read(config: Config, indexers: list[Indexer | None], reads_selection: bool) -> Architecture:
    # The files say `head_dim` and key heads of another attention, which this one does not have.
    config.ignore("num_key_value_heads", "head_dim")
    attention = [_attention(config, each, reads_selection) for each in indexers]
    plain, sparse = dense(config), _experts(config)
    layers = [
        Layer(each, plain if is_dense else sparse)
        for each, is_dense in zip(attention, _dense_layers(config), strict=True)
    ]
    predicted = config.integer("num_nextn_predict_layers", 0, least=0)
    return architecture(config, layers, predicted=predicted)


def _attention(config: Config, indexer: Indexer | None, reads_selection: bool) -> LatentAttention:
    plain, rotated = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim")
    config.expect("qk_head_dim", plain + rotated)
    return LatentAttention(
        heads=config.integer("num_attention_heads"),
        query_rank=config.optional_integer("q_lora_rank"),
        latent_dim=config.integer("kv_lora_rank"),
        plain_dim=plain,
        rotary_dim=rotated,
        value_dim=config.integer("v_head_dim"),
        has_bias=config.flag("attention_bias"),
        indexer=indexer,
        reads_selection=reads_selection,
    )


def _experts(config: Config) -> ExpertFeedForward:
    shared = config.integer("n_shared_experts", 0, least=0)
    width = config.integer("moe_intermediate_size")
    together = DenseFeedForward(shared * width, activation(config)) if shared else None
    found = experts(config, "n_routed_experts", "moe_intermediate_size", together)
    config.expect("num_experts", found.experts)
    config.expect("mlp_bias", False)
    method = config.text("topk_method", ("noaux_tc", "greedy", "group_limited_greedy"), "noaux_tc")
    return ExpertFeedForward(
        found.experts,
        found.experts_per_token,
        found.expert,
        together,
        has_balance_bias=method == "noaux_tc",
    )


def _dense_layers(config: Config) -> list[bool]:
    """Return which layers have no experts."""
    number = config.integer("num_hidden_layers")
    first = config.integer("first_k_dense_replace", 0, least=0)
    config.expect("moe_layer_freq", 1, [int(layer >= first) for layer in range(number)])
    types = config.texts("mlp_layer_types", (_DENSE, _SPARSE), number)
    if types is not None:
        return [each == _DENSE for each in types]
    return [layer < first for layer in range(number)]
