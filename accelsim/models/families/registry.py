"""`model_type` of a config file -> how it is read."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from accelsim.errors import ConfigError, did_you_mean
from accelsim.models.architecture import Architecture
from accelsim.models.config import Config
from accelsim.models.families import deepseek, gemma, gpt_oss, llama, llama4, mimo_v2, mixture, opt
from accelsim.models.families.keys import read_common

Reader = Callable[[Config], Architecture]

_TEXT = "text_config"
_OTHER_PARTS = ("vision_config", "audio_config")
_INHERITED = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config")
"""Keys beside `text_config` that speak of the decoder."""


class _Wrapped(NamedTuple):
    """A file whose decoder is a section of its own."""

    text: Reader
    defaults: Mapping[str, Any] = MappingProxyType({})
    """Keys of the decoder where the file is silent."""


_DECODERS: dict[str, Reader] = {
    "llama": llama.read_llama,
    "mistral": llama.read_mistral,
    "qwen2": llama.read_qwen2,
    "qwen3": llama.read_qwen3,
    "mimo": llama.read_mimo,
    "phi3": llama.read_phi3,
    "mixtral": mixture.read_mixtral,
    "phimoe": mixture.read_phimoe,
    "qwen3_moe": mixture.read_qwen3_moe,
    "minimax_m2": mixture.read_minimax_m2,
    "gpt_oss": gpt_oss.read_gpt_oss,
    "gemma": gemma.read_gemma,
    "gemma2": gemma.read_gemma2,
    "gemma3_text": gemma.read_gemma3,
    "opt": opt.read_opt,
    "deepseek_v2": deepseek.read_deepseek,
    "deepseek_v3": deepseek.read_deepseek,
    "kimi_k2": deepseek.read_deepseek,
    "deepseek_v32": deepseek.read_deepseek_sparse,
    "glm_moe_dsa": deepseek.read_deepseek_sparse,
    "mimo_v2_flash": mimo_v2.read_mimo_v2,
    "llama4_text": llama4.read_llama4,
}
_WRAPPED = {
    "qwen3_vl": _Wrapped(llama.read_qwen3),
    "qwen3_vl_moe": _Wrapped(mixture.read_qwen3_moe),
    "kimi_k25": _Wrapped(deepseek.read_deepseek),
    "llama4": _Wrapped(llama4.read_llama4),
    "gemma3": _Wrapped(gemma.read_gemma3, gemma.GEMMA3_DEFAULTS),
}


def model_types() -> list[str]:
    """Return every `model_type` that is understood."""
    return sorted([*_DECODERS, *_WRAPPED])


def read_architecture(values: Mapping[str, Any], place: str) -> Architecture:
    """Return the model that the keys of a `config.json` describe.

    place: how a message begins, such as `config.json: `. Raises ConfigError with every key that is
    missing, wrong or not understood.
    """
    kind = values.get("model_type")
    if kind in _WRAPPED:
        return _wrapped(_WRAPPED[kind], values, place)
    if kind not in _DECODERS:
        raise ConfigError([_unknown(kind, place)])
    config = Config(values, place)
    found = _decoder(_DECODERS[kind], config)
    config.finish()
    return found


def _decoder(read: Reader, config: Config) -> Architecture:
    read_common(config)
    return read(config)


def _wrapped(wrapped: _Wrapped, values: Mapping[str, Any], place: str) -> Architecture:
    outer = Config(values, place)
    read_common(outer)
    outer.ignore(*_INHERITED, *_OTHER_PARTS)
    text = outer.mapping(_TEXT)
    inherited = {key: values[key] for key in _INHERITED if key in values}
    config = Config({**wrapped.defaults, **inherited, **text}, f"{place}{_TEXT}.")
    found = _decoder(wrapped.text, config)
    mistakes = [*outer.mistakes(), *config.mistakes()]
    if mistakes:
        raise ConfigError(mistakes)
    parts = (key.removesuffix("_config") for key in _OTHER_PARTS if values.get(key))
    return replace(found, family=values["model_type"], left_out=tuple(parts))


def _unknown(kind: Any, place: str) -> str:
    known = model_types()
    if kind is None:
        return f"{place}model_type: missing; understood: {', '.join(known)}"
    hint = did_you_mean(kind, known) if isinstance(kind, str) else ""
    return (
        f"{place}model_type: found {kind!r}, which is not understood{hint}; "
        f"understood: {', '.join(known)}"
    )
