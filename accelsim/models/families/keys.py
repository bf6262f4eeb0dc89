"""Keys that every family may have and that change neither sizes nor work, and a few that may."""

from typing import Any

from accelsim.models.config import Config

_OF_TRAINING = (
    *("attention_dropout", "hidden_dropout", "dropout", "activation_dropout", "layerdrop"),
    *("embd_pdrop", "resid_pdrop", "expert_dropout", "input_jitter_noise", "router_jitter_noise"),
    *("initializer_range", "init_std", "router_aux_loss_coef", "aux_loss_alpha", "seq_aux"),
    *("output_router_logits", "pretraining_tp", "ep_size", "problem_type", "use_cache"),
)
_OF_GENERATION = (
    *("bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample"),
    *("early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty"),
    *("forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length", "min_length"),
    *("no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences"),
    *("output_attentions", "output_hidden_states", "output_scores", "repetition_penalty"),
    *("remove_invalid_values", "return_dict", "return_dict_in_generate", "suppress_tokens"),
    *("temperature", "top_k", "top_p", "typical_p", "num_logits_to_keep"),
)
_OF_FILES = (
    *("_name_or_path", "architectures", "auto_map", "transformers_version", "model_type"),
    *("finetuning_task", "id2label", "label2id", "task_specific_params", "tokenizer_class"),
    *("prefix", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id"),
    *("decoder_start_token_id", "is_decoder", "torchscript", "tf_legacy_loss", "use_bfloat16"),
    *("_attn_implementation_autoset", "for_llm_compressor", "cache_implementation"),
    *("image_token_id", "video_token_id", "image_token_index", "boi_token_id", "eoi_token_id"),
    *("boi_token_index", "eoi_token_index", "mm_tokens_per_image", "ignore_index"),
    *("media_placeholder_token_id", "video_placeholder", "use_unified_vision_chunk"),
    *("vision_start_token_id", "vision_end_token_id"),
)
_OF_POSITIONS = (
    *("rope_theta", "rope_local_base_freq", "swa_rope_theta", "rope_interleave"),
    *("original_max_position_embeddings", "initial_context_length"),
)
"""Angles of a rotation cost the same whatever they are."""
_OF_ROUTING = (
    *("norm_topk_prob", "scoring_func", "routed_scaling_factor", "moe_router_dtype"),
    *("n_group", "topk_group"),
)
"""How the weights of chosen experts are scaled, and within which groups they are chosen."""
_NORM_EPSILONS = ("rms_norm_eps", "norm_eps", "layer_norm_epsilon", "layernorm_epsilon")

_MEANS_NOTHING_ELSE: dict[str, Any] = {
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False,
    "chunk_size_feed_forward": 0,
    "pruned_heads": {},
}
"""Keys that are understood with the value that means that there is no such thing."""

_ROTATIONS = (
    *("default", "linear", "dynamic", "llama3", "yarn", "longrope", "su", "mrope", "proportional"),
)


def read_common(config: Config) -> None:
    """Note what every family may say."""
    config.ignore(*_OF_TRAINING, *_OF_GENERATION, *_OF_FILES, *_OF_POSITIONS, *_OF_ROUTING)
    config.ignore(*_NORM_EPSILONS)
    for key, value in _MEANS_NOTHING_ELSE.items():
        config.expect(key, value)
    for key in ("rope_scaling", "rope_parameters"):
        _read_rotation(config, key)


def _read_rotation(config: Config, key: str) -> None:
    found = config.raw(key)
    if not isinstance(found, dict):
        return
    kinds = [each for each in found.values() if isinstance(each, dict)] or [found]
    for each in kinds:
        name = each.get("rope_type", each.get("type", "default"))
        if name not in _ROTATIONS:
            allowed = ", ".join(_ROTATIONS)
            config.refuse(
                key, f"found the type {name!r}, which is not understood; understood: {allowed}"
            )
