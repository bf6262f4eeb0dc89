"""Kernels from outside accelsim: of a file of the user, or of an installed package."""

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

from accelsim.errors import ConfigError, did_you_mean
from accelsim.kernels.base import Kernel

GROUP = "accelsim.kernels"
"""Group of entry points, `name = "package.module:Class"`, by which packages add kernels."""
KERNEL_FILE = ".py"
"""End of the name of a file; a colon and a class follow."""
_EXAMPLE = "path/to/file.py:Class"
_NEEDED = ("name", "summary", "problem_kind", "parameters")


def is_in_file(name: str) -> bool:
    """Whether a kernel is named by its file, as `path/to/file.py:Class`."""
    return f"{KERNEL_FILE}:" in name


def kernel_of_file(name: str) -> type[Kernel]:
    """Return the kernel `path/to/file.py:Class`; raises ConfigError.

    The file is imported once in a process, and may import what lies beside it.
    """
    file, _, class_name = name.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ConfigError([f"kernel '{name}': found no file {file}; allowed: {_EXAMPLE}"])
    module = _module_of(path.resolve())
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, Kernel):
        known = sorted(_kernels_in(module))
        hint = did_you_mean(class_name, known)
        raise ConfigError(
            [
                f"kernel '{name}': found no kernel '{class_name}' in {file}{hint or ','} allowed: "
                f"{', '.join(known) or 'a subclass of accelsim.language.Kernel'}"
            ]
        )
    return complete(f"kernel '{name}'", found)


def packaged_kernels() -> dict[str, EntryPoint]:
    """Return where installed packages have kernels, by their names."""
    return {each.name: each for each in entry_points(group=GROUP)}


def kernel_of_package(entry: EntryPoint) -> type[Kernel]:
    """Return the kernel of an installed package; raises ConfigError."""
    where = f"kernel '{entry.name}' of {entry.dist.name if entry.dist else entry.value}"
    try:
        found = entry.load()
    except Exception as error:
        raise ConfigError([f"{where}: {entry.value} cannot be imported: {_told(error)}"]) from error
    if not isinstance(found, type) or not issubclass(found, Kernel) or found.name != entry.name:
        raise ConfigError(
            [f"{where}: found {entry.value}; allowed: a kernel whose name is '{entry.name}'"]
        )
    return complete(where, found)


def complete(where: str, kernel: type[Kernel]) -> type[Kernel]:
    """Return a kernel that has all that one needs; raises ConfigError with what is missing."""
    missing = [each for each in _NEEDED if not hasattr(kernel, each)]
    if isabstract(kernel):
        missing += sorted(kernel.__abstractmethods__)
    if missing:
        raise ConfigError(
            [f"{where}: {kernel.__name__} has no {', '.join(missing)}; a kernel needs all of them"]
        )
    return kernel


@cache
def _module_of(path: Path) -> ModuleType:
    """Import a file; raises ConfigError."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    loaded = sys.modules.get(path.stem)
    if loaded is not None and _is_of(loaded, path):
        return loaded
    name = path.stem if loaded is None else f"{path.stem} of {folder}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError([f"{path}: found no Python file; allowed: {_EXAMPLE}"])
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError([f"{path}{_line_of(error, path)}: {_told(error)}"]) from error
    return module


def _is_of(module: ModuleType, path: Path) -> bool:
    return Path(getattr(module, "__file__", None) or "").resolve() == path


def _kernels_in(module: ModuleType) -> Iterator[str]:
    """Yield the names of the kernels that a module defines."""
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", None) == module.__name__
        if is_own and isinstance(value, type) and issubclass(value, Kernel):
            yield name


def _line_of(error: Exception, path: Path) -> str:
    """Return `:line` of the file in which an error arose."""
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    lines = [
        each.lineno
        for each in traceback.extract_tb(error.__traceback__)
        if Path(each.filename) == path
    ]
    return f":{lines[-1]}" if lines else ""


def _told(error: Any) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"
