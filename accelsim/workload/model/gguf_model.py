"""A model of Llama's family in a GGUF file.

Keys are those of the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md); what a file
leaves out has the value that llama.cpp gives it. A key of the model that is not understood is
refused.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from accelsim.errors import WorkloadError
from accelsim.workload.model.families import GEMMA3, GGUF_FAMILIES, Family
from accelsim.workload.model.gguf_file import GgufFile
from accelsim.workload.model.llama import (
    Layout,
    LlamaConfig,
    LlamaWeights,
    Positions,
    known_names,
    read_weights,
    refuse_others,
)
from accelsim.workload.model.rope import rope_frequencies

_LAYOUT = Layout(
    embedding="token_embd.weight",
    head="output.weight",
    final_norm="output_norm.weight",
    layer="blk.{}.",
    parts={
        "q": "attn_q",
        "k": "attn_k",
        "v": "attn_v",
        "o": "attn_output",
        "gate": "ffn_gate",
        "up": "ffn_up",
        "down": "ffn_down",
        "attention_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
        "q_norm": "attn_q_norm",
        "k_norm": "attn_k_norm",
        "post_attention_norm": "post_attention_norm",
        "post_ffn_norm": "post_ffw_norm",
    },
)
_DIVISORS = "rope_freqs.weight"
"""Tensor of what Llama 3.1 divides its RoPE frequencies by."""

_DEFAULT_BASE = 10_000.0
"""RoPE base of a file that names none, and of the local layers of Gemma 3."""
_GEMMA3_27B_LAYERS = 62
"""The one size of Gemma 3 that does not scale scores by 1 / sqrt(head_dim), with no key for it."""


def read_gguf_weights(file: GgufFile) -> LlamaWeights:
    """Return the weights as float32.

    Raises WorkloadError for another architecture, and for a key, a tensor or a shape that is
    missing or not understood.
    """
    keys = _Keys.of(file)
    family, config = keys.family, _read_config(keys)
    layout = replace(_LAYOUT, turns_neighbours=family.rotates_neighbours)
    positions = _read_positions(keys, config)
    keys.refuse_unread()
    refuse_others(file.path, "tensor", file.names(), known_names(layout, config) | {_DIVISORS})
    is_tied = layout.head not in file.names()
    return read_weights(file, layout, config, positions, tied=is_tied)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The metadata of a model, each key remembered once it was asked for."""

    file: GgufFile
    family: Family
    read: set[str]

    @classmethod
    def of(cls, file: GgufFile) -> "_Keys":
        name = file.value("general.architecture", str)
        if name not in GGUF_FAMILIES:
            raise WorkloadError(
                f"{file.path}: architecture is '{name}', allowed: {', '.join(GGUF_FAMILIES)}"
            )
        return cls(file, GGUF_FAMILIES[name], set())

    def size(self, key: str, default: int | None = None) -> int:
        value: int = self._value(key, int, default)
        if value < 1:
            raise self.mistake(key, value, "1 or more")
        return value

    def constant(self, key: str, default: float | None = None) -> float:
        value: float = self._value(key, float, default)
        if not 0 < value < inf:
            raise self.mistake(key, value, "above 0, finite")
        return value

    def text(self, key: str, default: str) -> str:
        value: str = self._value(key, str, default)
        return value

    def mistake(self, key: str, value: object, allowed: str) -> WorkloadError:
        return WorkloadError(
            f"{self.file.path}: metadata '{self.family.name}.{key}' is {value}, allowed: {allowed}"
        )

    def refuse_unread(self) -> None:
        prefix = f"{self.family.name}."
        found = {key for key in self.file.metadata if key.startswith(prefix)}
        refuse_others(self.file.path, "metadata", found, self.read)
        if self.file.metadata.get("split.count", 1) != 1:
            raise WorkloadError(
                f"{self.file.path}: metadata 'split.count' is "
                f"{self.file.metadata['split.count']}, allowed: 1, the whole model in one file"
            )

    def _value(self, key: str, kind: type, default: Any) -> Any:
        whole = f"{self.family.name}.{key}"
        self.read.add(whole)
        if default is not None and whole not in self.file.metadata:
            return default
        return self.file.value(whole, kind)


def _read_config(keys: _Keys) -> LlamaConfig:
    hidden, q_heads = keys.size("embedding_length"), keys.size("attention.head_count")
    context = keys.size("context_length")
    vocabulary = len(keys.file.value("tokenizer.ggml.tokens", list))
    config = LlamaConfig(
        layers=keys.size("block_count"),
        hidden=hidden,
        q_heads=q_heads,
        kv_heads=keys.size("attention.head_count_kv", q_heads),
        head_dim=_read_head_dim(keys, hidden, q_heads),
        ffn=keys.size("feed_forward_length"),
        vocabulary=vocabulary,
        context=context,
        norm_epsilon=keys.constant("attention.layer_norm_rms_epsilon"),
        family=keys.family,
    )
    if (found := keys.size("vocab_size", vocabulary)) != vocabulary:
        raise keys.mistake("vocab_size", found, f"{vocabulary}, as many as there are tokens")
    if keys.family is GEMMA3 and config.layers == _GEMMA3_27B_LAYERS:
        raise keys.mistake("block_count", config.layers, "the sizes of Gemma 3 but 27B")
    if mistake := config.mistake():
        raise WorkloadError(f"{keys.file.path}: {mistake}")
    return config


def _read_head_dim(keys: _Keys, hidden: int, q_heads: int) -> int:
    given = "attention.key_length"
    if f"{keys.family.name}.{given}" not in keys.file.metadata and hidden % q_heads:
        raise WorkloadError(
            f"{keys.file.path}: {hidden} features do not divide evenly among {q_heads} query heads"
        )
    head_dim = keys.size(given, hidden // q_heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (found := keys.size(key, head_dim)) != head_dim:
            raise keys.mistake(key, found, f"{head_dim}, as long as a key")
    return head_dim


def _read_positions(keys: _Keys, config: LlamaConfig) -> list[Positions]:
    """Return the RoPE frequencies and the window of every layer."""
    own = rope_frequencies(config.head_dim, keys.constant("rope.freq_base", _DEFAULT_BASE))
    scaling = keys.text("rope.scaling.type", "none")
    if scaling not in ("none", "linear"):
        raise keys.mistake("rope.scaling.type", scaling, "none, linear")
    if scaling == "linear":
        own = own / keys.constant("rope.scaling.factor")
    if _DIVISORS in keys.file.names():
        divisors = keys.file.read(_DIVISORS, own.shape).astype(np.float64)
        if divisors.min() <= 0:
            raise WorkloadError(
                f"{keys.file.path}: tensor '{_DIVISORS}' holds {divisors.min():g}, allowed: above 0"
            )
        own = own / divisors
    window = keys.size("attention.sliding_window", config.context)
    own_window = window if window < config.context else None
    every = config.family.global_layer_every
    if every == 1:
        return [Positions(own, own_window)] * config.layers
    base = keys.constant("rope.freq_base_swa", _DEFAULT_BASE)
    local = Positions(rope_frequencies(config.head_dim, base), own_window)
    whole = Positions(own, None)
    return [whole if layer % every == every - 1 else local for layer in range(config.layers)]
