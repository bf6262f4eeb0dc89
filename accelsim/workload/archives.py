"""Arrays from .npz and .safetensors files, which may be damaged or hostile: nothing is unpickled,
and the shape in the header is compared with what is wanted before anything is allocated.
"""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import (
    FILE_ERRORS,
    AccelsimError,
    OutputError,
    ShortageError,
    WorkloadError,
    is_refusal,
)
from accelsim.workload.extras import import_extra
from accelsim.workload.safetensors_file import TYPE_NAMES, read_array, read_header

Arrays = dict[str, NDArray[Any]]
AllowedShapes = Mapping[str, tuple[tuple[int, ...], ...]]
"""Array name -> the shapes it may have."""

ENDINGS = (".npz", ".safetensors")

_NUMERIC_KINDS = "fiu"
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OSError,
    RuntimeError,  # encrypted
    NotImplementedError,  # compressed by an unknown method
)


def read_arrays(path: Path, wanted: AllowedShapes) -> Arrays:
    """Return the arrays `wanted` of the file, by the ending of its name.

    Raises WorkloadError when the file is damaged or of another kind, or an array is missing, has
    another shape or does not hold real numbers; ShortageError when it cannot be read now.
    """
    _check_ending(path)
    return _read_npz(path, wanted) if path.suffix == ".npz" else _read_safetensors(path, wanted)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays to an .npz or .safetensors file, by the ending of its name.

    Raises WorkloadError for another ending and OutputError if the file cannot be written.
    """
    _check_ending(path)
    if path.suffix == ".safetensors":
        write_safetensors(path, arrays)
        return
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    _write(path, content.getvalue())


def write_safetensors(
    path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays, and texts that say where they come from. Raises OutputError."""
    save = import_extra("safetensors.numpy", "a .safetensors file").save
    contiguous = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    _write(path, save(contiguous, metadata and dict(metadata)))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except FILE_ERRORS as error:
        raise OutputError(f"{path}: cannot be written ({error})") from error


def find_file(path: str, folder: Path) -> Path:
    """Return the file at `path`, relative to `folder` or to the working directory."""
    for start in (folder, Path.cwd()):
        if os.path.isfile(start / path):  # unlike Path.is_file, never raises
            return start / path
    places = " nor ".join(dict.fromkeys((str(folder.absolute()), str(Path.cwd()))))
    raise WorkloadError(f"found no file '{path}' in {places}")


def _check_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise WorkloadError(
            f"{path}: found the ending '{path.suffix}', allowed: {', '.join(ENDINGS)}"
        )


def _read_npz(path: Path, wanted: AllowedShapes) -> Arrays:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            names = [name.removesuffix(".npy") for name in members]
            _check_names(path, wanted, names)
            return {name: _read_npy(path, archive, name, wanted[name]) for name in wanted}
    except _DAMAGE as damage:
        raise _unreadable(path, "an npz", damage) from damage


def _read_npy(
    path: Path, archive: zipfile.ZipFile, name: str, allowed: tuple[tuple[int, ...], ...]
) -> NDArray[Any]:
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file:
        shape, dtype, header_bytes = _npy_header(file)
    _check_shape(path, name, shape, allowed)
    if dtype.kind not in _NUMERIC_KINDS:
        raise WorkloadError(
            f"{path}: array '{name}' has type {dtype}, allowed: integers and floats"
        )
    found_bytes = entry.file_size - header_bytes
    if found_bytes != prod(shape) * dtype.itemsize:
        raise ValueError(
            f"array '{name}' has {found_bytes} bytes of data, "
            f"its header says {prod(shape) * dtype.itemsize}"
        )
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the npy format")
    try:
        shape, _, dtype = readers[version](file)
    except (MemoryError, TokenError) as error:  # what NumPy lets through of deep nesting
        raise ValueError("unreadable npy header") from error
    return shape, dtype, file.tell()


def _read_safetensors(path: Path, wanted: AllowedShapes) -> Arrays:
    try:
        entries = read_header(path)
        _check_names(path, wanted, list(entries))
        for name, allowed in wanted.items():
            _check_shape(path, name, entries[name].shape, allowed)
            _check_safetensors_type(path, name, entries[name].type_name)
        return {name: read_array(path, entries[name]) for name in wanted}
    except (ValueError, OSError) as damage:
        raise _unreadable(path, "a safetensors", damage) from damage


def _unreadable(path: Path, kind: str, damage: Exception) -> AccelsimError:
    if is_refusal(damage):
        return ShortageError(f"{path}: cannot be read ({damage})")
    return WorkloadError(f"{path}: damaged or not {kind} file ({damage})")


def _check_safetensors_type(path: Path, name: str, found: str) -> None:
    if found not in TYPE_NAMES:
        allowed = ", ".join(TYPE_NAMES)
        raise WorkloadError(f"{path}: array '{name}' has type {found}, allowed: {allowed}")


def _check_names(path: Path, wanted: AllowedShapes, found: list[str]) -> None:
    for name in wanted:
        if name not in found:
            listed = ", ".join(sorted(found)) or "nothing"
            raise WorkloadError(f"{path}: array '{name}' is missing; the file holds {listed}")


def _check_shape(
    path: Path, name: str, found: tuple[int, ...], allowed: tuple[tuple[int, ...], ...]
) -> None:
    if found not in allowed:
        listed = " or ".join(str(list(shape)) for shape in allowed)
        raise WorkloadError(
            f"{path}: array '{name}' has shape {list(found)}, the workload says {listed}"
        )
