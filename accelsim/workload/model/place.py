"""Where a model lies that is named by a release or by a path."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from accelsim.errors import (
    FILE_ERRORS,
    ShortageError,
    UnknownNameError,
    WorkloadError,
    did_you_mean,
    reason_of,
)
from accelsim.workload.model.checkpoint import checkpoint_files
from accelsim.workload.model.release import RELEASES, model_path

_NAME_DIGITS = 12
"""Digits of a digest in a name: enough to tell models apart, short enough for a title."""
_KEPT_DIGESTS = 16


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A file or a folder with a model."""

    path: Path
    is_release: bool
    name: str
    """What a calibration and a report know the model by."""
    files: tuple[Path, ...]
    """What is read of it."""

    def digest(self) -> str:
        """Return the SHA-256 of the file, or of the digests of several."""
        return _digest(self.files)

    def stamp(self) -> tuple[int, ...]:
        """Return what changes when a file does: times and sizes."""
        return _stamp(self.files)


def find_model(model: str, folder: Path = Path()) -> ModelPlace:
    """Return where the model is: a release by its name, anything else by its path.

    A path is relative to `folder` or to the working directory. Raises ShortageError for a release
    that was not fetched, UnknownNameError for what is neither and WorkloadError for a folder
    without a model.
    """
    if model in RELEASES:
        path = model_path(model)
        return ModelPlace(path, True, model, (path,))
    path = _existing(model, folder)
    files = checkpoint_files(path) if path.is_dir() else (path,)
    return ModelPlace(path, False, f"{path.name}@{_digest(files)[:_NAME_DIGITS]}", files)


def _existing(model: str, folder: Path) -> Path:
    for start in (folder, Path.cwd()):
        path = str(start / model)
        if model and (os.path.isfile(path) or os.path.isdir(path)):  # no pipe, no device
            return Path(path).resolve()
    raise UnknownNameError(
        f"unknown model '{model}'{did_you_mean(model, RELEASES)}; known: "
        f"{', '.join(sorted(RELEASES))}, or the path of a GGUF file or of a folder with config.json"
    )


def _digest(files: tuple[Path, ...]) -> str:
    parts = [_file_digest(path, _stamp((path,))) for path in files]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


@lru_cache(maxsize=_KEPT_DIGESTS)
def _file_digest(path: Path, _stamp: tuple[int, ...]) -> str:
    """Models are large and named often; a file is read again only if it was written again."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FILE_ERRORS as error:
        raise ShortageError(f"{path}: cannot be read ({reason_of(error)})") from error


def _stamp(files: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(number for path in files for number in _time_and_size(path))


def _time_and_size(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except FILE_ERRORS as error:
        raise WorkloadError(f"{path}: cannot be read ({reason_of(error)})") from error
    return state.st_mtime_ns, state.st_size
