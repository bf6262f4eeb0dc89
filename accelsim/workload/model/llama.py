"""The weights of a Llama-architecture model, as its GGUF file holds them."""

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import WorkloadError
from accelsim.workload.model.gguf_file import GgufFile

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Shapes and constants of the architecture."""

    layers: int
    hidden: int
    q_heads: int
    kv_heads: int
    ffn: int
    context: int
    """Most tokens the model was trained to see."""
    rope_theta: float
    norm_epsilon: float

    @property
    def head_dim(self) -> int:
        """Elements of one query, key or value row."""
        return self.hidden // self.q_heads

    @property
    def kv_width(self) -> int:
        """Elements of all keys of one token."""
        return self.kv_heads * self.head_dim

    @property
    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes [out, in] of the linears of a layer."""
        return {
            "q": (self.hidden, self.hidden),
            "k": (self.kv_width, self.hidden),
            "v": (self.kv_width, self.hidden),
            "o": (self.hidden, self.hidden),
            "gate": (self.ffn, self.hidden),
            "up": (self.ffn, self.hidden),
            "down": (self.hidden, self.ffn),
        }


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Weights of one decoder layer."""

    attention_norm: Array
    """[hidden]"""
    ffn_norm: Array
    """[hidden]"""
    linears: dict[str, Array]
    """Name -> [out, in], shapes as in LlamaConfig.linear_shapes."""


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """Weights of a whole model; the output projection is the embedding (tied)."""

    config: LlamaConfig
    embedding: Array
    """[vocabulary, hidden]"""
    layers: tuple[LayerWeights, ...]
    final_norm: Array
    """[hidden]"""


_TENSOR_NAMES = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def read_llama(file: GgufFile) -> LlamaWeights:
    """Return the weights as float32. Raises WorkloadError for another architecture or shape."""
    config = _read_config(file)
    vocabulary = len(file.value("tokenizer.ggml.tokens", list))
    return LlamaWeights(
        config,
        file.read("token_embd.weight", (vocabulary, config.hidden)),
        tuple(_read_layer(file, config, f"blk.{index}") for index in range(config.layers)),
        file.read("output_norm.weight", (config.hidden,)),
    )


def unpermute_rope(weight: Array, heads: int) -> Array:
    """Undo llama.cpp's order of Q and K rows, which rotates neighbors instead of halves.

    weight: [heads x head_dim, in]. Within a head, row 2 i + h of the file is row
    h x head_dim / 2 + i of the model.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, columns))


def _read_config(file: GgufFile) -> LlamaConfig:
    architecture = file.value("general.architecture", str)
    if architecture != "llama":
        raise WorkloadError(f"{file.path}: architecture is '{architecture}', allowed: llama")
    config = LlamaConfig(
        layers=_size(file, "llama.block_count"),
        hidden=_size(file, "llama.embedding_length"),
        q_heads=_size(file, "llama.attention.head_count"),
        kv_heads=_size(file, "llama.attention.head_count_kv"),
        ffn=_size(file, "llama.feed_forward_length"),
        context=_size(file, "llama.context_length"),
        rope_theta=_constant(file, "llama.rope.freq_base"),
        norm_epsilon=_constant(file, "llama.attention.layer_norm_rms_epsilon"),
    )
    if config.hidden % (2 * config.q_heads) or config.q_heads % config.kv_heads:
        raise WorkloadError(
            f"{file.path}: {config.hidden} features, {config.q_heads} query heads and "
            f"{config.kv_heads} KV heads do not divide evenly"
        )
    return config


def _size(file: GgufFile, key: str) -> int:
    value: int = file.value(key, int)
    if value < 1:
        raise WorkloadError(f"{file.path}: metadata '{key}' is {value}, allowed: 1 or more")
    return value


def _constant(file: GgufFile, key: str) -> float:
    value: float = file.value(key, float)
    if not 0 < value < inf:
        raise WorkloadError(f"{file.path}: metadata '{key}' is {value}, allowed: above 0, finite")
    return value


def _read_layer(file: GgufFile, config: LlamaConfig, block: str) -> LayerWeights:
    linears = {
        name: file.read(f"{block}.{_TENSOR_NAMES[name]}.weight", shape)
        for name, shape in config.linear_shapes.items()
    }
    linears["q"] = unpermute_rope(linears["q"], config.q_heads)
    linears["k"] = unpermute_rope(linears["k"], config.kv_heads)
    return LayerWeights(
        file.read(f"{block}.attn_norm.weight", (config.hidden,)),
        file.read(f"{block}.ffn_norm.weight", (config.hidden,)),
        linears,
    )
