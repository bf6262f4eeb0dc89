"""Small models of each family, as folders that transformers would save and as GGUF files.

`record_models.py` runs transformers and llama.cpp on them; what they said is recorded_models.json.
"""

import json
from math import pi

import gguf
import numpy as np
from safetensors.numpy import save_file

from tests.tiny_model import MERGES, TOKENS, byte_level_json

IDS = [(7 * i * i + 3 * i) % len(TOKENS) for i in range(40)]
"""More than the original context of the scaled case, fewer than any sliding window but a short
one."""
RECORDED_STEP = 13
"""Every so many logits of a row are recorded."""

_SHAPES = {
    "vocab_size": len(TOKENS),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
_PUBLISHED = {
    "llama": {"model_type": "llama", "rope_theta": 5e5, "rope_scaling": None},
    "llama_bias": {
        "model_type": "llama",
        "rope_theta": 1e4,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
    },
    "llama_long": {
        "model_type": "llama",
        "rope_theta": 100.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "llama_linear": {
        "model_type": "llama",
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4},
    },
    "mistral": {
        "model_type": "mistral",
        "rope_theta": 1e4,
        "head_dim": 16,
        "sliding_window": 64,
    },
    "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False},
    "qwen3": {"model_type": "qwen3", "rope_theta": 1e6, "head_dim": 16, "attention_bias": False},
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 7,
        "hidden_act": None,
        "hidden_activation": "gelu_pytorch_tanh",
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 64,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "tie_word_embeddings": True,
    },
}
CONFIGS = {name: _SHAPES | own for name, own in _PUBLISHED.items()}
"""Name of a case -> its config.json."""
SHORT_WINDOW = CONFIGS["gemma3"] | {"sliding_window": 12}
"""A model whose local layers see fewer tokens than there are."""

_GGUF_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}


def tensors_of(config):
    """Return the tensors of a checkpoint, by the names that transformers gives them."""
    rng = np.random.default_rng(46)
    kind, hidden, ffn = config["model_type"], config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    is_gemma = kind == "gemma3_text"

    def normal(*shape):
        return (3 * rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    def scale(length):
        return ((0 if is_gemma else 1) + 0.3 * rng.standard_normal(length)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden)}
    linears = {
        "self_attn.q_proj": (heads * head_dim, hidden),
        "self_attn.k_proj": (kv_heads * head_dim, hidden),
        "self_attn.v_proj": (kv_heads * head_dim, hidden),
        "self_attn.o_proj": (hidden, heads * head_dim),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }
    biased = list(linears)[:3] if kind == "qwen2" else []
    biased = list(linears) if config.get("attention_bias") else biased
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if is_gemma:
        norms |= {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    if is_gemma or kind == "qwen3":
        norms |= {"self_attn.q_norm": head_dim, "self_attn.k_norm": head_dim}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        tensors |= {f"{prefix}{name}.weight": normal(*shape) for name, shape in linears.items()}
        tensors |= {f"{prefix}{name}.bias": scale(linears[name][0]) for name in biased}
        tensors |= {f"{prefix}{name}.weight": scale(length) for name, length in norms.items()}
    tensors["model.norm.weight"] = scale(hidden)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(config["vocab_size"], hidden)
    return tensors


def write_folder(folder, config, tensors, *, shards=1):
    """Write a checkpoint with its tokenizer; several shards get an index."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(byte_level_json())
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    files = {name: f"model-{index % shards}.safetensors" for index, name in enumerate(tensors)}
    for file in set(files.values()):
        own = {name: values for name, values in tensors.items() if files[name] == file}
        save_file(own, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def write_gguf(path, config, tensors):
    """Write the same model as llama.cpp's convert_hf_to_gguf.py would."""
    kind = {"mistral": "llama", "gemma3_text": "gemma3"}.get(
        config["model_type"], config["model_type"]
    )
    writer = gguf.GGUFWriter(path, kind)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    writer.add_rope_freq_base(config.get("rope_theta", rope.get("rope_theta")))
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", divisors(config["rope_theta"], head_dim, rope))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * len(TOKENS))
    writer.add_token_merges(MERGES)
    for name, values in tensors.items():
        new = _gguf_name(name, is_gemma=kind == "gemma3")
        stored = values
        if kind == "llama" and ("attn_q." in new or "attn_k." in new):
            own = config["num_key_value_heads"] if "attn_k." in new else heads
            halves = values.reshape(own, 2, head_dim // 2, -1)
            stored = halves.swapaxes(1, 2).reshape(values.shape)
        if kind == "gemma3" and new.endswith("norm.weight"):
            stored = values + 1
        writer.add_tensor(new, np.ascontiguousarray(stored))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def divisors(base, head_dim, rope):
    """Return what Llama 3.1 divides its frequencies by, as convert_hf_to_gguf.py computes it."""
    context = rope["original_max_position_embeddings"]
    longest, shortest = (context / rope[f"{end}_freq_factor"] for end in ("low", "high"))
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * pi * base ** (i / head_dim)
        if wavelength < shortest:
            factors.append(1)
        elif wavelength > longest:
            factors.append(rope["factor"])
        else:
            smooth = context / wavelength - rope["low_freq_factor"]
            smooth /= rope["high_freq_factor"] - rope["low_freq_factor"]
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, np.float32)


def _gguf_name(name, *, is_gemma):
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in whole:
        return whole[name]
    _, _, layer, part = name.split(".", 3)
    part, kind = part.rsplit(".", 1)
    norms = {"post_attention_layernorm": "ffn_norm"}
    if is_gemma:
        norms = {
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        }
    return f"blk.{layer}.{(_GGUF_PARTS | norms)[part]}.{kind}"
