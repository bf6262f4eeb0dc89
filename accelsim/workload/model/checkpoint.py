"""A model of Llama's family in a folder, as Hugging Face's transformers saves it.

`config.json`, `tokenizer.json` and either `model.safetensors` or shards with
`model.safetensors.index.json`. Keys of config.json are those of transformers; what one leaves out
has the value that transformers gives it. A key that is not understood is refused.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.errors import FILE_ERRORS, ShortageError, WorkloadError, is_refusal
from accelsim.workload.model.families import CHECKPOINT_FAMILIES, GEMMA3, QWEN2, QWEN3, Family
from accelsim.workload.model.llama import (
    Array,
    Layout,
    LlamaConfig,
    LlamaWeights,
    Positions,
    known_names,
    read_weights,
    refuse_others,
)
from accelsim.workload.model.rope import Frequencies, rope_frequencies, stretched_by_parts
from accelsim.workload.safetensors_file import Entry, read_array, read_header

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_FLOATS = ("F32", "F16", "BF16", "F64")

_LAYOUT = Layout(
    embedding="model.embed_tokens.weight",
    head="lm_head.weight",
    final_norm="model.norm.weight",
    layer="model.layers.{}.",
    parts={
        "q": "self_attn.q_proj",
        "k": "self_attn.k_proj",
        "v": "self_attn.v_proj",
        "o": "self_attn.o_proj",
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "q_norm": "self_attn.q_norm",
        "k_norm": "self_attn.k_norm",
    },
)
_WITH_POST_NORMS = _LAYOUT.parts | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffn_norm": "post_feedforward_layernorm",
}
_OLD_FREQUENCIES = "rotary_emb.inv_freq"
"""Ending of tensors of old checkpoints that repeat what config.json says."""

_WITHOUT_EFFECT = {
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "is_llama_config",
    "model_type",
    "pad_token_id",
    "pretraining_tp",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
}
"""Keys that say nothing of what the network computes."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "rope_interleaved": (False,),
    "partial_rotary_factor": (1.0,),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "use_bidirectional_attention": (False, None),
}
"""Keys with only one value that is understood."""
_FIRST_SLIDING = 28
"""First layer of Qwen whose window slides, where config.json does not say."""
_ROPE_KEYS = {
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
    "rope_theta",
    "rope_type",
    "type",
}
_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu"}


def read_checkpoint(folder: Path) -> LlamaWeights:
    """Return the weights of a folder as float32.

    Raises WorkloadError for another model type, and for a key, a file, a tensor or a shape that is
    missing or not understood; ShortageError for a file that cannot be read now.
    """
    keys = _Keys(folder / CONFIG)
    config = _read_config(keys)
    positions = _read_positions(keys, config)
    tensors = _Shards(folder)
    is_tied = keys.given("tie_word_embeddings", bool, _LAYOUT.head not in tensors.names())
    keys.refuse_unread()
    layout = _LAYOUT
    if config.family.post_norms:
        layout = replace(layout, parts=_WITH_POST_NORMS)
    if config.family.adds_one_to_norms:
        layout = replace(layout, norm_offset=1.0)
    found = {name for name in tensors.names() if not name.endswith(_OLD_FREQUENCIES)}
    refuse_others(folder, "tensor", found, known_names(layout, config))
    return read_weights(tensors, layout, config, positions, tied=is_tied)


def checkpoint_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of a folder that are read; raises as `read_checkpoint` does."""
    return (folder / CONFIG, folder / TOKENIZER, *_Shards.paths_of(folder))


class _Keys:
    """What config.json says, each key remembered once it was asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values = _read_json(path)
        self._read: set[str] = set()
        kind = self.given("model_type", str)
        if kind not in CHECKPOINT_FAMILIES:
            raise self.mistake("model_type", kind, ", ".join(CHECKPOINT_FAMILIES))
        self.family: Family = CHECKPOINT_FAMILIES[kind]

    def given(self, key: str, kind: type, default: Any = None) -> Any:
        """Return the value of a key; raise WorkloadError unless it is a `kind`.

        A key that is missing or null has the default, if there is one.
        """
        self._read.add(key)
        value = self._values.get(key)
        if value is None and default is not None:
            return default
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            found = "missing" if value is None else f"of type {type(value).__name__}"
            raise WorkloadError(f"{self.path}: '{key}' is {found}, expected {kind.__name__}")
        return value

    def size(self, key: str, default: int | None = None) -> int:
        value: int = self.given(key, int, default)
        if value < 1:
            raise self.mistake(key, value, "1 or more")
        return value

    def constant(self, key: str, default: float | None = None) -> float:
        value: float = self.given(key, float, default)
        if not 0 < value < inf:
            raise self.mistake(key, value, "above 0, finite")
        return value

    def any_of(self, *keys: str) -> Any:
        """Return the value of the first of several spellings that is there, or None."""
        self._read.update(keys)
        return next((self._values[key] for key in keys if self._values.get(key) is not None), None)

    def mapping(self, *keys: str) -> Mapping[str, Any]:
        """Return the mapping under the first of several spellings, or an empty one."""
        return self.checked_mapping(keys[0], self.any_of(*keys))

    def checked_mapping(self, key: str, value: object) -> Mapping[str, Any]:
        """Return a value that must be a mapping or null; raise WorkloadError."""
        if value is not None and not isinstance(value, dict):
            raise self.mistake(key, value, "a mapping")
        return value or {}

    def mistake(self, key: str, value: object, allowed: str) -> WorkloadError:
        return WorkloadError(f"{self.path}: '{key}' is {value}, allowed: {allowed}")

    def refuse_unread(self) -> None:
        for key, allowed in _ONLY.items():
            value = self.any_of(key)
            if value not in (None, *allowed):
                raise self.mistake(key, value, str(allowed[0]))
        refuse_others(self.path, "key", set(self._values), self._read | _WITHOUT_EFFECT)


def _read_config(keys: _Keys) -> LlamaConfig:
    hidden, q_heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    family = keys.family
    head_dim = keys.size("head_dim", -(-hidden // q_heads))
    activation = keys.any_of("hidden_activation", "hidden_act")
    if _ACTIVATIONS.get(str(activation)) != family.activation:
        allowed = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}[family.activation]
        raise keys.mistake("hidden_act", activation, allowed)
    scale = keys.any_of("query_pre_attn_scalar")
    if scale not in (None, head_dim):
        raise keys.mistake("query_pre_attn_scalar", scale, f"{head_dim}, the length of a head")
    config = LlamaConfig(
        layers=keys.size("num_hidden_layers"),
        hidden=hidden,
        q_heads=q_heads,
        kv_heads=keys.size("num_key_value_heads", q_heads),
        head_dim=head_dim,
        ffn=keys.size("intermediate_size"),
        vocabulary=keys.size("vocab_size"),
        context=keys.size("max_position_embeddings"),
        norm_epsilon=keys.constant("rms_norm_eps"),
        family=replace(family, biases=_read_biases(keys)),
    )
    if mistake := config.mistake():
        raise WorkloadError(f"{keys.path}: {mistake}")
    return config


def _read_biases(keys: _Keys) -> tuple[str, ...]:
    """Return the linears that must have a bias."""
    biases = keys.family.biases
    if keys.given("attention_bias", bool, False):
        biases = ("q", "k", "v", "o")
    if keys.given("mlp_bias", bool, False):
        biases += ("gate", "up", "down")
    return biases


def _read_positions(keys: _Keys, config: LlamaConfig) -> list[Positions]:
    """Return the RoPE frequencies and the window of every layer."""
    windows = _read_windows(keys, config)
    is_gemma = keys.family is GEMMA3
    whole = keys.mapping("rope_parameters", "rope_scaling")
    is_split = bool({"full_attention", "sliding_attention"} & set(whole))
    full = whole.get("full_attention") if is_split else whole
    sliding = whole.get("sliding_attention") if is_split else None
    base = keys.constant("rope_theta", 1e6 if is_gemma else 1e4)
    own = _Rope(keys, full).frequencies(config.head_dim, base)
    if not is_gemma:
        return [Positions(own, window) for window in windows]
    base = keys.constant("rope_local_base_freq", 1e4)
    local = _Rope(keys, sliding).frequencies(config.head_dim, base)
    are_full = _full_layers(keys, config.layers)
    return [
        Positions(own if is_full else local, window)
        for is_full, window in zip(are_full, windows, strict=True)
    ]


def _read_windows(keys: _Keys, config: LlamaConfig) -> list[int | None]:
    """Return the sliding window of every layer; None: it sees all tokens."""
    is_used = keys.given("use_sliding_window", bool, keys.family not in (QWEN2, QWEN3))
    is_listed = isinstance(keys.any_of("layer_types"), list)
    first = keys.size("max_window_layers", _FIRST_SLIDING)
    if keys.any_of("sliding_window") is None or not (is_used or is_listed):
        return [None] * config.layers
    width = keys.size("sliding_window")
    if keys.family is GEMMA3 or is_listed:
        slides = [not is_full for is_full in _full_layers(keys, config.layers)]
    elif keys.family in (QWEN2, QWEN3):
        slides = [layer >= first for layer in range(config.layers)]
    else:
        slides = [True] * config.layers
    return [width if own and width < config.context else None for own in slides]


def _full_layers(keys: _Keys, layers: int) -> list[bool]:
    """Return which layers see all tokens."""
    kinds = keys.any_of("layer_types")
    every = keys.family.global_layer_every
    for spelling in ("_sliding_window_pattern", "sliding_window_pattern"):
        every = keys.size(spelling, every)
    if kinds is None:
        return [layer % every == every - 1 for layer in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise keys.mistake("layer_types", kinds, f"a list of {layers} types")
    return [kind == "full_attention" for kind in kinds]


class _Rope:
    """A description of RoPE in config.json, which may lack everything."""

    def __init__(self, keys: _Keys, values: object) -> None:
        self._keys = keys
        self._values = keys.checked_mapping("rope_parameters", values)
        refuse_others(keys.path, "RoPE key", set(self._values), _ROPE_KEYS)

    def frequencies(self, head_dim: int, base: float) -> Frequencies:
        """Return the frequencies of a head; `base` is for a description that has none."""
        kind = self._values.get("rope_type", self._values.get("type", "default"))
        plain = rope_frequencies(head_dim, self._number("rope_theta", base))
        match kind:
            case "default":
                return plain
            case "linear":
                return plain / self._number("factor")
            case "llama3":
                return self._stretched(plain)
        raise self._keys.mistake("rope_type", kind, "default, linear, llama3")

    def _stretched(self, plain: Frequencies) -> Frequencies:
        low, high = self._number("low_freq_factor"), self._number("high_freq_factor")
        if low >= high:
            raise self._keys.mistake("low_freq_factor", low, f"below high_freq_factor, {high}")
        context = self._number("original_max_position_embeddings")
        return stretched_by_parts(plain, self._number("factor"), low, high, context)

    def _number(self, key: str, default: float | None = None) -> float:
        value = self._values.get(key, default)
        if type(value) not in (int, float) or not 0 < value < inf:
            raise self._keys.mistake(key, value, "a number above 0, finite")
        return float(value)


class _Shards:
    """The tensors of all .safetensors files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: dict[str, tuple[Path, Entry]] = {}
        for path in self.paths_of(folder):
            for name, entry in self._header(path).items():
                self._entries[name] = path, entry

    @staticmethod
    def paths_of(folder: Path) -> tuple[Path, ...]:
        """Return the files that hold tensors."""
        index = folder / _INDEX
        if not index.exists():
            return (folder / _WHOLE,)
        files = _read_json(index).get("weight_map")
        if not isinstance(files, dict) or not all(_is_beside(each) for each in files.values()):
            raise WorkloadError(f"{index}: 'weight_map' is not a mapping to files beside it")
        return tuple(folder / name for name in sorted(set(files.values())))

    def names(self) -> set[str]:
        """Return the names of all tensors."""
        return set(self._entries)

    def read(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a tensor as float32; raise WorkloadError unless it has `shape`, all finite."""
        if name not in self._entries:
            raise WorkloadError(f"{self._folder}: tensor '{name}' is missing")
        path, entry = self._entries[name]
        if entry.shape != shape:
            raise WorkloadError(
                f"{path}: tensor '{name}' has shape {list(entry.shape)}, expected {list(shape)}"
            )
        if entry.type_name not in _FLOATS:
            raise WorkloadError(
                f"{path}: tensor '{name}' has type {entry.type_name}, allowed: {', '.join(_FLOATS)}"
            )
        try:
            values = read_array(path, entry).astype(np.float32)
        except FILE_ERRORS as error:
            raise _unreadable(path, error) from error
        if not np.isfinite(values).all():
            raise WorkloadError(f"{path}: tensor '{name}' holds values that are not finite")
        return values

    @staticmethod
    def _header(path: Path) -> dict[str, Entry]:
        try:
            return read_header(path)
        except FILE_ERRORS as error:
            raise _unreadable(path, error) from error


def _is_beside(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (*FILE_ERRORS, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(contents, dict):
        raise WorkloadError(f"{path}: found no JSON object")
    return contents


def _unreadable(path: Path, error: BaseException) -> WorkloadError | ShortageError:
    is_missing = isinstance(error, FileNotFoundError)
    kind = ShortageError if is_refusal(error) and not is_missing else WorkloadError
    return kind(f"{path}: cannot be read ({error})")
