"""Config files as they come from a hub: a file, a folder with one, or a name that ships."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelsim.config.shipped import known_names, locate
from accelsim.errors import (
    FILE_ERRORS,
    ConfigError,
    ShortageError,
    is_refusal,
    printable,
    reason_of,
)
from accelsim.models.architecture import Architecture
from accelsim.models.families.registry import read_architecture

MAX_BYTES = 16 * 1024 * 1024
"""Of a file; lists of quantized modules are the longest part."""
_CONFIG, _QUANTIZATION = "config.json", "hf_quant_config.json"
_SEPARATORS = str.maketrans("", "", "-_. ")


def load_architecture(source: str | Path) -> Architecture:
    """Return the model of a `config.json`, of the folder that has one, or of a shipped name.

    A name may be written with other separators: `llama3_8b` is `llama-3-8b`. Raises ConfigError
    with every key that is missing, wrong or not understood, UnknownNameError, ShortageError.
    """
    path = located(source)
    values = _read_json(path)
    beside = path.parent / _QUANTIZATION
    if path.name == _CONFIG and beside.is_file() and "quantization_config" not in values:
        values = {**values, "quantization_config": _quantization_beside(beside)}
    own = path.resolve().parent.name if path.name == _CONFIG else path.stem
    on_one_line = " ".join(printable(own).split())
    return replace(read_architecture(values, f"{path}: "), file_name=on_one_line)


def located(source: str | Path) -> Path:
    """Return the config file of a model; raises ConfigError, UnknownNameError."""
    if Path(source).is_dir():
        path = Path(source) / _CONFIG
        if not path.is_file():
            raise ConfigError([f"{source}: found a folder without {_CONFIG}"])
        return path
    return locate(_shipped_name(source), "model")


def _shipped_name(source: str | Path) -> str | Path:
    """Return the shipped name that a word stands for, or the word itself."""
    if isinstance(source, Path) or Path(source).exists():
        return source
    names = {_bare(name): name for name in known_names("model")}
    return names.get(_bare(source), source)


def _bare(name: str) -> str:
    return name.lower().translate(_SEPARATORS)


def _quantization_beside(path: Path) -> dict[str, Any]:
    """Return what a file of NVIDIA's Model Optimizer says, in the keys of a config file."""
    found = _read_json(path)
    quantization = found.get("quantization", found)
    if not isinstance(quantization, dict):
        raise ConfigError([f"{path}: quantization: expected a mapping"])
    return {"quant_method": "modelopt", **quantization}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except FILE_ERRORS as error:
        kind = ShortageError if is_refusal(error) else None
        text = f"{path}: cannot be read: {reason_of(error)}"
        raise (kind(text) if kind else ConfigError([text])) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([f"{path}: found {len(data)} bytes, allowed are {MAX_BYTES}"])
    try:
        values = json.loads(data, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise ConfigError([f"{place}: is not JSON: {error.msg}"]) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError([f"{path}: is not JSON: {error}"]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: found no mapping, expected the keys of a config"])
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key '{repeated}' is there twice")
    return values
