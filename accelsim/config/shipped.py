"""Where the files that ship with accelsim are, by kind and name."""

import os
from functools import cache
from pathlib import Path
from typing import Literal

from accelsim.errors import ConfigError, unknown_name

Kind = Literal["machine", "technology", "memory", "workload", "sweep", "model", "system"]

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = {
    "machine": "configs/machines",
    "technology": "configs/technology",
    "memory": "configs/memories",
    "workload": "workloads",
    "model": "configs/models",
    "system": "configs/systems",
}
_SUFFIXES = {"model": (".json",)}
_YAML = (".yaml", ".yml")


def known_names(kind: Kind) -> list[str]:
    """Return the sorted names of the shipped files of `kind`."""
    return sorted(_shipped(kind))


def locate(source: str | Path, kind: Kind, folder: Path = Path()) -> Path:
    """Return the file that `source` means: the name of a shipped file, or a path from `folder` on.

    Raises UnknownNameError for a word that is neither, ConfigError when there is no such file.
    """
    path = folder / source
    if isinstance(source, str) and source in _shipped(kind):
        return _shipped(kind)[source]
    if os.path.exists(path):  # unlike those of Path, these never raise
        if os.path.isfile(path):
            return path
        found = "a folder" if os.path.isdir(path) else "a device or pipe"
        language = "JSON" if kind == "model" else "YAML"
        raise ConfigError([f"{path}: found {found}, expected a {language} file"])
    named, suffixes = Path(source), _SUFFIXES.get(kind, _YAML)
    is_path = isinstance(source, Path) or len(named.parts) > 1 or named.suffix in suffixes
    if is_path or kind not in _FOLDERS:
        raise ConfigError([f"{path}: no such file"])
    raise unknown_name(kind, str(source), known_names(kind))


def shipped_folder(kind: Kind) -> Path:
    """Return the folder with the shipped files of `kind`; raises KeyError for `sweep`."""
    return _root() / _FOLDERS[kind]


@cache
def _shipped(kind: Kind) -> dict[str, Path]:
    """Name -> file. The name is the stem, in whatever subfolder the file is."""
    if kind not in _FOLDERS:
        return {}
    suffix = _SUFFIXES.get(kind, _YAML)[0]
    return {path.stem: path for path in sorted(shipped_folder(kind).rglob(f"*{suffix}"))}


def _root() -> Path:
    """The folder that a wheel carries inside the package, or the checkout around the package."""
    inside = _PACKAGE / "_data"
    return inside if inside.is_dir() else _PACKAGE.parent
