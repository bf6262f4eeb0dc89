"""Compiled code on disk: one file for each function, types of its arguments and processor.

A file is named by a hash of all that its machine code follows from, so no file is ever stale and
none is overwritten with something else. It begins with a hash of the rest: a torn file counts as
missing and is made again. Who compiles holds a lock; others that want the same wait for the file.
See docs/decisions/0003-compiled-cache.md.
"""

import contextlib
import fcntl
import hashlib
import os
import pickle
import re
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import numba
import numpy as np
from numba.core import event
from numba.core.caching import _Cache
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from accelsim.runtime.closure import UnknownDependencyError, closure_digest, describe_class
from accelsim.runtime.compilers import rebuilt
from accelsim.runtime.folders import code_folder

_types: Any = numba.types
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_DIGEST_BYTES = 32
_POLL_S, _LONGEST_WAIT_S = 0.05, 300.0
"""How often to look whether another process is done, and when to compile all the same."""
_UNUSED_S = 60 * 24 * 3600.0
"""Age at which a file that nobody has read is removed."""
_VERSIONS = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)


class CodeCache(_Cache):  # type: ignore[misc]
    """The compiled versions of one function, as Numba's dispatcher asks for them.

    options: what the function is compiled with.
    """

    def __init__(self, function: FunctionType, options: dict[str, Any]) -> None:
        self._function, self._options = function, options
        self._locks: dict[Path, int] = {}
        self._enabled = True

    @property
    def cache_path(self) -> str:
        """Folder of the files."""
        return str(code_folder())

    def enable(self) -> None:
        """Use the files from now on."""
        self._enabled = True

    def disable(self) -> None:
        """Use no files from now on."""
        self._enabled = False

    def flush(self) -> None:
        """Nothing is kept in memory."""

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the code for the types of `signature`; None: the caller has to compile it.

        If another process is compiling the same, its result is waited for.
        """
        target.refresh()
        path = self._path(signature, target.codegen())
        if path is None:
            return None
        payload = _read(path) or self._wait_for(path)
        if payload is None:
            return None
        self._release(path)
        return rebuilt(target, pickle.loads(payload))

    def save_overload(self, signature: Any, result: Any) -> None:
        """Write the code of a function that was compiled; raises OSError where it cannot."""
        path = self._path(signature, result.codegen)
        if path is None:
            return
        try:
            if not (result.lifted or result.library.has_dynamic_globals):
                _write(path, dumps(result._reduce()))
        finally:
            self._release(path)

    def release(self) -> None:
        """Let other processes compile what this one has failed to."""
        for path in list(self._locks):
            self._release(path)

    def _path(self, signature: Any, codegen: Any) -> Path | None:
        """Return the file of the code, or None if it must not be kept."""
        if not self._enabled:
            return None
        arguments, result = normalize_signature(signature)
        try:
            depends_on = (
                closure_digest(self._function),
                [_describe_type(each) for each in (*arguments, result)],
            )
        except UnknownDependencyError:
            return None
        options = sorted(self._options.items())
        text = repr((_VERSIONS, options, codegen.magic_tuple(), *depends_on))
        digest = hashlib.sha256(text.encode()).hexdigest()
        return code_folder() / f"{self._function.__name__.strip('<>')}-{digest[:40]}.code"

    def _wait_for(self, path: Path) -> bytes | None:
        """Take the lock of a file, or wait until whoever has it has written the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
        until = time.monotonic() + _LONGEST_WAIT_S
        while not _is_locked(lock) and time.monotonic() < until:
            time.sleep(_POLL_S)
        self._locks[path] = lock
        return _read(path)

    def _release(self, path: Path) -> None:
        lock = self._locks.pop(path, None)
        if lock is not None:
            path.with_suffix(".lock").unlink(missing_ok=True)
            os.close(lock)


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> bytes | None:
    """Return the content of a whole file; None if there is none, or only a part of one."""
    try:
        content = path.read_bytes()
        payload = content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:_DIGEST_BYTES]:
            return None
        os.utime(path)  # it is in use
    except OSError:
        return None
    return payload


def _write(path: Path, payload: bytes) -> None:
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        draft.write_bytes(hashlib.sha256(payload).digest() + payload)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _remove_unused(path.parent)


@cache
def _remove_unused(folder: Path) -> None:
    """Remove what nobody has read for long; looked for once by a process that compiles."""
    oldest = time.time() - _UNUSED_S
    for path in folder.glob("*.*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _describe_type(kind: Any) -> str:
    """Return a type of Numba as text, with what its own text leaves out."""
    # The text of a function has its address, which is another one in each process.
    return " ".join([_ADDRESS.sub("", str(kind)), *_hidden(kind)])


def _hidden(kind: Any) -> Iterator[str]:
    """Yield names of fields, which code turns into places, and the code of functions."""
    if isinstance(kind, _types.BaseNamedTuple):
        yield describe_class(kind.instance_class)
    if isinstance(kind, _types.Dispatcher):
        yield closure_digest(kind.dispatcher.py_func)
    for each in getattr(kind, "types", ()) if isinstance(kind, _types.BaseTuple) else ():
        yield from _hidden(each)


class _FailureListener(event.Listener):  # type: ignore[misc]
    """Frees the lock of a function that could not be compiled."""

    def on_start(self, started: Any) -> None:
        """Nothing to do."""

    def on_end(self, ended: Any) -> None:
        """Free what the function of this event holds."""
        own = ended.data["dispatcher"]._cache
        # Numba's `is_failed` is true of what went well.
        if any(ended._exc_details or ()) and isinstance(own, CodeCache):
            own.release()


event.register("numba:compile", _FailureListener())


def cached(dispatcher: Any) -> Any:
    """Return a compiled function that keeps its code on disk."""
    dispatcher._cache = CodeCache(dispatcher.py_func, dispatcher.targetoptions)
    return dispatcher
