"""Which code made a result: digests of sources, blind to comments, docstrings and layout.

A stored result is worth keeping as long as the code that made it is the same. The version does not
say so: a checkout changes without it. Used by every store of results.
"""

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from accelsim.version import STARTED_NS

PACKAGE = Path(__file__).parents[1]
_CLOCK_NS = 50_000_000
"""The time of a file may be this much behind the clock."""

_APART = (
    "cli",
    "exploring",
    "plotting",
    "quality",
    "sweeps",
    "validation",
    "_data",
    "runtime/interruption.py",
    "runtime/workers.py",
    "__main__.py",
)
"""What cannot move a number of a simulation. Shipped files count where a point names them."""
_LIBRARIES = ("numpy", "numba", "ml_dtypes")
"""Libraries that compute: random values and references, compiled code, number formats."""


@cache
def accelsim_digest() -> str:
    """Return the digest of all of accelsim that decides a result, and of what computes it.

    That is its sources, the versions of the libraries that compute, and of Python. A process has
    one, that of the sources it found first.
    """
    return package_digest(PACKAGE)


def package_digest(package: Path) -> str:
    """Return the digest of the files of `package` that decide results; fast once it is known."""
    files = {str(path.relative_to(package)): path.read_bytes() for path in deciding(package)}
    versions = [sys.version_info[:2], *(f"{name} {version(name)}" for name in _LIBRARIES)]
    return _remembered(_digest([repr(versions), *_bytes_of(files)]), files, repr(versions))


def deciding(package: Path) -> list[Path]:
    """Return the files of `package` that can move a number, in order."""
    return sorted(Path(path) for path in _files_below(str(package), ""))


def _files_below(folder: str, inside: str) -> Iterator[str]:
    """Yield the paths of files that can move a number; inside: from the package to the folder."""
    for entry in os.scandir(folder):
        name = f"{inside}{entry.name}"
        if name in _APART or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            yield from _files_below(entry.path, f"{name}/")
        elif entry.is_file():
            yield entry.path


def is_as_digested() -> bool:
    """Return whether this process runs the code that `accelsim_digest` is of.

    It does if no file is younger than the process, whatever was imported when.
    """
    return _is_older_than_process(len(sys.modules))


@cache
def _is_older_than_process(_modules: int) -> bool:
    """Look again where modules were imported since: until then no other code can run."""
    newest = max(os.stat(path).st_ctime_ns for path in _files_below(str(PACKAGE), ""))
    return newest < STARTED_NS - _CLOCK_NS


@cache
def class_digest(cls: type[Any]) -> str:
    """Return the digest of the module of a class and of the user's modules that it imports.

    Empty for classes of accelsim, which `accelsim_digest` covers. A class without a file, as of a
    notebook, gets a digest that no other process has: nothing is known of its source.
    """
    if cls.__module__.split(".")[0] == PACKAGE.name:
        return ""
    files = sorted(_users_files(cls.__module__, _file_of(cls)))
    if not files:
        return uuid.uuid4().hex
    return _digest([source_digest(path.read_bytes()) for path in files])


def source_digest(source: bytes) -> str:
    """Return the digest of Python code without comments, docstrings, line numbers and layout.

    Of what does not parse, the digest of its bytes.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return hashlib.sha256(source).hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Texts that stand alone, docstrings of attributes among them, do nothing.
            node.body = [each for each in node.body if not _is_text(each)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _bytes_of(files: dict[str, bytes]) -> Iterator[str]:
    for name, content in files.items():
        yield f"{name} {hashlib.sha256(content).hexdigest()}"


def _meaning_of(files: dict[str, bytes]) -> Iterator[str]:
    for name, content in files.items():
        is_code = name.endswith(".py")
        found = source_digest(content) if is_code else hashlib.sha256(content).hexdigest()
        yield f"{name} {found}"


def _remembered(key: str, files: dict[str, bytes], versions: str) -> str:
    """Return the digest of `files`, kept in the user's cache under that of their bytes.

    To parse all sources takes most of a second, to hash their bytes a few milliseconds.
    """
    path = _cache_folder() / key
    with suppress(OSError):
        return path.read_text()
    found = _digest([versions, *_meaning_of(files)])
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{key}.{os.getpid()}")
        draft.write_text(found)
        draft.replace(path)
    return found


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "accelsim" / "sources"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _file_of(cls: type[Any]) -> Path | None:
    with suppress(TypeError, OSError):
        return Path(inspect.getfile(cls))
    return None


def _users_files(name: str, file: Path | None) -> set[Path]:
    """Return the files of a module and of all that it imports, but for installed packages."""
    found: set[Path] = set()
    waiting = [(name, file)]
    while waiting:
        name, file = waiting.pop()
        if file is not None and file not in found and _is_users(file):
            found.add(file)
            waiting += [(each, _origin(each)) for each in _imports(file, name)]
    return found


def _origin(name: str) -> Path | None:
    """Return the file of a module, or None for one that is not the user's.

    To find a part of a package runs the package, so others' packages are not asked.
    """
    whole = _location(name.partition(".")[0])
    return None if whole is not None and not _is_users(whole) else _location(name)


def _location(name: str) -> Path | None:
    spec = _spec(name)
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def _is_users(file: Path) -> bool:
    places = (PACKAGE, *map(Path, sysconfig.get_paths().values()))
    resolved = file.resolve()
    return file.is_file() and not any(
        resolved.is_relative_to(place) or file.is_relative_to(place) for place in places
    )


def _imports(file: Path, name: str) -> Iterator[str]:
    """Yield the dotted names that a file imports; of `from a import b` both a and a.b."""
    spec = _spec(name)
    package = name if spec and spec.submodule_search_locations else name.rpartition(".")[0]
    with suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                with suppress(ImportError):
                    origin = resolve_name("." * node.level + (node.module or ""), package)
                    yield origin
                    yield from (f"{origin}.{alias.name}" for alias in node.names)


def _spec(name: str) -> ModuleSpec | None:
    """Return where a module comes from, as far as it can be told without running it."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return getattr(loaded, "__spec__", None)
    with suppress(ImportError, AttributeError, ValueError):
        return find_spec(name)
    return None
