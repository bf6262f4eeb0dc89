"""A calibration in a .safetensors file: the arrays of every input, provenance in the metadata."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from accelsim.errors import FILE_ERRORS, QuantizationError, ShortageError, is_refusal, reason_of
from accelsim.quantization.calibration import Calibration, Provenance, StoredWeights
from accelsim.quantization.channel_groups import ChannelGroups
from accelsim.quantization.codes import check_finite, largest_code
from accelsim.workload.archives import Arrays, read_arrays, write_safetensors
from accelsim.workload.safetensors_file import read_header, read_metadata

ENDING = ".safetensors"
_KEY = "accelsim calibration"
_PROVENANCE = TypeAdapter(Provenance)
_PARTS = {
    "bias": np.float32,
    "group": np.uint8,
    "scale": np.float64,
    "channel_peaks": np.float32,
    "clipped": np.float64,
}
_WEIGHT_PARTS = {"weight_codes": np.int8, "weight_scale": np.float64}
"""Of every linear, if the file has codes of weights."""


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a file. Raises QuantizationError for another ending, OutputError if it cannot."""
    check_calibration_path(path)
    arrays = {
        f"{name}.{part}": getattr(groups, part)
        for name, groups in calibration.inputs.items()
        for part in _PARTS
    }
    for name, (codes, scale) in calibration.weights.items():
        arrays |= {f"{name}.weight_codes": codes, f"{name}.weight_scale": scale}
    provenance = _PROVENANCE.dump_json(calibration.provenance).decode()
    write_safetensors(path, arrays, {_KEY: provenance})


def load_calibration(path: Path) -> Calibration:
    """Return what `save_calibration` wrote. Raises an AccelsimError that begins with the path.

    The last files stay in memory, because every linear of a model asks for its own.
    """
    check_calibration_path(path)
    try:
        status = path.stat()
    except FILE_ERRORS as error:
        kind = ShortageError if is_refusal(error) else QuantizationError
        raise kind(f"{path}: cannot be read ({reason_of(error)})") from error
    return _load(path, status.st_mtime_ns, status.st_size)


def check_calibration_path(path: Path) -> None:
    """Raise QuantizationError unless the name ends as the name of a calibration does."""
    if path.suffix != ENDING:
        raise QuantizationError(f"{path}: found the ending '{path.suffix}', allowed: {ENDING}")


@lru_cache(maxsize=4)
def _load(path: Path, _modified_ns: int, _size_bytes: int) -> Calibration:
    try:
        shapes = {name: (entry.shape,) for name, entry in read_header(path).items()}
        metadata = read_metadata(path)
    except (ValueError, OSError) as damage:
        if is_refusal(damage):
            raise ShortageError(f"{path}: cannot be read ({damage})") from damage
        raise QuantizationError(f"{path}: damaged or not a safetensors file ({damage})") from damage
    provenance = _provenance(path, metadata)
    arrays = read_arrays(path, shapes)
    names = _names(arrays, is_of_weights=False)
    linears = _names(arrays, is_of_weights=True)
    try:
        inputs = {name: _groups(name, arrays, provenance) for name in names}
        weights = {name: _weights(name, arrays, provenance) for name in linears}
    except QuantizationError as error:
        raise QuantizationError(f"{path}: {error}") from error
    return Calibration(provenance, inputs, weights)


def _names(arrays: Arrays, *, is_of_weights: bool) -> list[str]:
    """Return the inputs, or the linears with weights, that the file has arrays of."""
    parts = [name.rpartition(".") for name in arrays]
    found = (name for name, _, part in parts if (part in _WEIGHT_PARTS) is is_of_weights)
    return list(dict.fromkeys(found))


def _provenance(path: Path, metadata: Mapping[str, str]) -> Provenance:
    if _KEY not in metadata:
        raise QuantizationError(
            f"{path}: found no calibration; allowed: what `accelsim calibrate` wrote"
        )
    if '"text_sha256"' in metadata[_KEY]:
        raise QuantizationError(
            f"{path}: found a calibration of accelsim 0.2.0 or before, which does not say what was "
            f"clipped; allowed: what `accelsim calibrate` writes now"
        )
    try:
        return _PROVENANCE.validate_json(metadata[_KEY])
    except (ValidationError, QuantizationError) as error:
        reason = error if isinstance(error, QuantizationError) else error.errors()[0]["msg"]
        raise QuantizationError(f"{path}: its provenance is damaged ({reason})") from error


def _groups(name: str, arrays: Arrays, provenance: Provenance) -> ChannelGroups:
    """Return the groups of one input, whose arrays are checked against each other."""
    parts = {part: _part(name, part, arrays) for part in _PARTS}
    chunks, k = parts["bias"].shape if parts["bias"].ndim == 2 else (0, 0)
    shapes = {"bias": (chunks, k), "group": (chunks, k), "scale": (chunks,), "channel_peaks": (k,)}
    shapes["clipped"] = (chunks,)
    for part, shape in shapes.items():
        if parts[part].shape != shape or not chunks * k:
            raise QuantizationError(
                f"{name}.{part} has shape {list(parts[part].shape)} "
                f"beside a bias of shape {list(parts['bias'].shape)}"
            )
        check_finite(parts[part], f"{name}.{part}")
    if parts["group"].max() >= provenance.options.groups or parts["scale"].min() <= 0:
        raise QuantizationError(
            f"{name}: found group {parts['group'].max()} and scale {parts['scale'].min()}, "
            f"allowed: groups below {provenance.options.groups} and scales above 0"
        )
    return ChannelGroups(options=provenance.options, **parts)


def _weights(name: str, arrays: Arrays, provenance: Provenance) -> StoredWeights:
    """Return the weights of one linear, whose arrays are checked against each other."""
    codes, scale = (_part(name, part, arrays) for part in _WEIGHT_PARTS)
    if codes.ndim != 2 or not codes.size or scale.shape != (1, codes.shape[1]):
        raise QuantizationError(
            f"{name}.weight_scale has shape {list(scale.shape)} "
            f"beside codes of shape {list(codes.shape)}"
        )
    check_finite(scale, f"{name}.weight_scale")
    if provenance.weight_bits is None:
        raise QuantizationError(f"{name}: found codes of weights, and no bits of them")
    largest, most = largest_code(provenance.weight_bits), int(np.abs(codes.astype(int)).max())
    if most > largest + 1 or scale.min() <= 0:
        raise QuantizationError(
            f"{name}: found a weight of {most} and scale {scale.min()}, "
            f"allowed: up to {largest + 1} and scales above 0"
        )
    return StoredWeights(codes, scale)


def _part(name: str, part: str, arrays: Arrays) -> NDArray[Any]:
    found = arrays.get(f"{name}.{part}")
    dtype = (_PARTS | _WEIGHT_PARTS)[part]
    if found is None or found.dtype != dtype:
        raise QuantizationError(
            f"array '{name}.{part}' is {'missing' if found is None else found.dtype}, "
            f"allowed: {np.dtype(dtype)}"
        )
    return found
