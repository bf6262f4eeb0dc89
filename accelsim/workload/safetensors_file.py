"""Reading .safetensors files, whose format is a length, a JSON header and plain data.

Needs nothing but NumPy, so that weights that ship with accelsim can be read by every installation.
Format: https://huggingface.co/docs/safetensors, section "Format".
"""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_METADATA = "__metadata__"
_LARGEST_HEADER_BYTES = 100_000_000  # the format's own limit
_TYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}
_ML_TYPES = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
TYPE_NAMES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8")
"""Types that can be read."""


class Entry(NamedTuple):
    """What the header says of one array; `begin` and `end` are bytes from the start of the file."""

    type_name: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """Return what a file holds. Raises ValueError if it is damaged, OSError if unreadable."""
    header, data_start = _read_json(path)
    header.pop(_METADATA, None)
    file_bytes = path.stat().st_size
    return {name: _entry(name, about, data_start, file_bytes) for name, about in header.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts that the writer of a file left in it; raises as `read_header` does."""
    found = _read_json(path)[0].get(_METADATA, {})
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ValueError("the metadata is not a mapping of texts")
    return found


def read_array(path: Path, entry: Entry) -> NDArray[Any]:
    """Return the array of an entry whose type is one of TYPE_NAMES.

    Raises ValueError if its shape and its bytes contradict each other.
    """
    dtype = _dtype(entry.type_name)
    expected = prod(entry.shape) * dtype.itemsize
    if entry.end - entry.begin != expected:
        raise ValueError(f"{entry.end - entry.begin} bytes for an array of {expected} bytes")
    with path.open("rb") as file:
        file.seek(entry.begin)
        return np.frombuffer(file.read(expected), dtype).reshape(entry.shape)


def _read_json(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header, and where in the file the data starts."""
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else file_bytes
        if length > min(file_bytes - 8, _LARGEST_HEADER_BYTES):
            raise ValueError("the header is longer than the file")
        try:
            header = json.loads(file.read(length))
        except (UnicodeDecodeError, RecursionError) as error:
            raise ValueError("the header is not JSON") from error
    if not isinstance(header, dict):
        raise ValueError("the header is not a mapping")
    return header, 8 + length


def _entry(name: str, about: Any, data_start: int, file_bytes: int) -> Entry:
    try:
        type_name, shape = about["dtype"], about["shape"]
        begin, end = (data_start + offset for offset in about["data_offsets"])
        sizes = [*shape, begin, end]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"array '{name}' is not described") from error
    if not all(type(size) is int and size >= 0 for size in sizes) or type(type_name) is not str:
        raise ValueError(f"array '{name}' is not described")
    if not data_start <= begin <= end <= file_bytes:
        raise ValueError(f"array '{name}' lies outside the file")
    return Entry(type_name, tuple(shape), begin, end)


def _dtype(type_name: str) -> np.dtype[Any]:
    if type_name in _ML_TYPES:
        import ml_dtypes

        small_float: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_TYPES[type_name]))
        return small_float
    return np.dtype(_TYPES[type_name])
