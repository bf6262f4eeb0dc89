"""GGUF model files, which may be damaged or hostile.

The `gguf` package knows the tensor formats and dequantizes them. Its reader trusts every count,
length and offset of a file, so the header is parsed here, each number checked against the size of
the file before it is used. Layout: the GGUF specification, github.com/ggml-org/ggml, docs/gguf.md.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import WorkloadError
from accelsim.workload.extras import import_extra

READABLE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    30: "BF16",
}
"""GGML type number -> name of the tensor formats that are read."""

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
"""Version 3 brought files of big-endian machines, and nothing else."""
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT_BYTES = 32
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where one tensor lies in the file."""

    ggml_type: int
    shape: tuple[int, ...]
    """Slowest dimension first, unlike in the file."""
    start_bytes: int
    """Offset from the start of the tensor data."""


class GgufFile:
    """Metadata and tensors of one file; tensors are read on demand."""

    def __init__(self, path: Path) -> None:
        """Parse the header. Raises WorkloadError if the file is missing or damaged."""
        self.path = path
        self._gguf = import_extra("gguf", "a GGUF model")
        self._data = _map_file(path)
        cursor = _Cursor(path, self._data)
        num_tensors, num_fields = cursor.preamble()
        self.metadata = {cursor.text("a key"): cursor.field() for _ in range(num_fields)}
        self.tensors = dict(cursor.tensor_entry() for _ in range(num_tensors))
        alignment_bytes = self.metadata.get("general.alignment", _DEFAULT_ALIGNMENT_BYTES)
        if not isinstance(alignment_bytes, int) or alignment_bytes < 1:
            raise cursor.damaged(f"general.alignment is {alignment_bytes}")
        self._data_start = -(-cursor.position // alignment_bytes) * alignment_bytes

    def value(self, key: str, kind: type) -> Any:
        """Return the metadata value `key`; raise WorkloadError unless it is there as a `kind`."""
        found = self.metadata.get(key)
        if type(found) is not kind:
            raise WorkloadError(
                f"{self.path}: metadata '{key}' is {_type_name(found)}, expected {kind.__name__}"
            )
        return found

    def optional(self, key: str, kind: type, default: Any) -> Any:
        """Return the metadata value `key`, or `default` if there is none."""
        return self.value(key, kind) if key in self.metadata else default

    def names(self) -> set[str]:
        """Return the names of all tensors."""
        return set(self.tensors)

    def read(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return a tensor as float32; raise WorkloadError unless it has `shape`, all finite."""
        entry = self.tensors.get(name)
        if entry is None:
            raise WorkloadError(f"{self.path}: tensor '{name}' is missing")
        if entry.shape != shape:
            raise WorkloadError(
                f"{self.path}: tensor '{name}' has shape {list(entry.shape)}, "
                f"expected {list(shape)}"
            )
        raw = self._raw_rows(name, entry)
        ggml_type = self._gguf.GGMLQuantizationType(entry.ggml_type)
        with np.errstate(all="ignore"):
            values = np.asarray(self._gguf.dequantize(raw, ggml_type), np.float32)
        if not np.isfinite(values).all():
            raise WorkloadError(f"{self.path}: tensor '{name}' holds values that are not finite")
        return values.reshape(shape)

    def _raw_rows(self, name: str, entry: TensorEntry) -> NDArray[np.uint8]:
        if entry.ggml_type not in READABLE_TYPES:
            raise WorkloadError(
                f"{self.path}: tensor '{name}' has GGML type {entry.ggml_type}, "
                f"allowed: {', '.join(READABLE_TYPES.values())}"
            )
        block, block_bytes = self._gguf.GGML_QUANT_SIZES[entry.ggml_type]
        if entry.shape[-1] % block:
            raise WorkloadError(
                f"{self.path}: tensor '{name}' has rows of {entry.shape[-1]} elements, "
                f"allowed for {READABLE_TYPES[entry.ggml_type]}: multiples of {block}"
            )
        num_bytes = prod(entry.shape) // block * block_bytes
        start = self._data_start + entry.start_bytes
        if start + num_bytes > len(self._data):
            raise WorkloadError(
                f"{self.path}: damaged or truncated: tensor '{name}' ends at byte "
                f"{start + num_bytes}, the file has {len(self._data)}"
            )
        return self._data[start : start + num_bytes].reshape(*entry.shape[:-1], -1)


def _map_file(path: Path) -> NDArray[np.uint8]:
    try:
        return np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise WorkloadError(f"{path}: cannot be read ({error})") from error


def _type_name(value: object) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"


class _Cursor:
    """Reads a header front to back and never past the end of the file."""

    def __init__(self, path: Path, data: NDArray[np.uint8]) -> None:
        self.path = path
        self.data = data
        self.position = 0

    def damaged(self, why: str) -> WorkloadError:
        return WorkloadError(f"{self.path}: damaged or not a GGUF file: {why}")

    def preamble(self) -> tuple[int, int]:
        """Return the numbers of tensors and of metadata fields."""
        if (magic := self.take(len(_MAGIC), "the magic")) != _MAGIC:
            raise self.damaged(f"it begins with {magic!r}")
        if (version := self.number("<u4")) not in _VERSIONS:
            raise self.damaged(f"version is {version}, allowed: 2, 3")
        return self.number("<u8"), self.number("<u8")

    def take(self, num_bytes: int, what: str) -> bytes:
        left_bytes = len(self.data) - self.position
        if num_bytes > left_bytes:
            raise self.damaged(
                f"{what} at byte {self.position} has {num_bytes} bytes, {left_bytes} are left"
            )
        self.position += num_bytes
        return self.data[self.position - num_bytes : self.position].tobytes()

    def numbers(self, dtype: str, count: int) -> list[Any]:
        raw = self.take(count * np.dtype(dtype).itemsize, "a number")
        values: list[Any] = np.frombuffer(raw, dtype).tolist()
        return values

    def number(self, dtype: str) -> Any:
        return self.numbers(dtype, 1)[0]

    def text(self, what: str) -> str:
        raw = self.take(self.number("<u8"), what)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"{what} before byte {self.position} is not UTF-8") from error

    def field(self) -> Any:
        """Return one metadata value: a number, a text or a list of either."""
        kind = self.number("<u4")
        if kind == _ARRAY:
            item_kind, count = self.number("<u4"), self.number("<u8")
            return self.values(item_kind, count)
        return self.values(kind, 1)[0]

    def values(self, kind: int, count: int) -> list[Any]:
        if kind == _STRING:
            return [self.text("a text") for _ in range(count)]
        if kind not in _SCALARS:
            raise self.damaged(f"a field before byte {self.position} has type {kind}")
        return self.numbers(_SCALARS[kind], count)

    def tensor_entry(self) -> tuple[str, TensorEntry]:
        name = self.text("a tensor name")
        num_dimensions = self.number("<u4")
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise self.damaged(f"tensor '{name}' has {num_dimensions} dimensions")
        shape = tuple(reversed(self.numbers("<u8", num_dimensions)))
        return name, TensorEntry(self.number("<u4"), shape, self.number("<u8"))
