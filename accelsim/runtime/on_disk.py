"""Texts kept on disk: one file each, named by a hash of all that its text follows from.

So no file is ever stale, and whoever writes a file writes the same as everybody else. A file begins
with a hash of the rest: a torn one counts as missing, and is made again. Where nothing can be
written nothing is kept.
"""

import hashlib
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import numba
from llvmlite.binding import get_host_cpu_name  # type: ignore[import-untyped]

from accelsim.runtime.code_cache import cache_folder

_UNUSED_S = 60 * 24 * 3600.0
"""Age at which a text that nobody has read is removed."""
_SETTLED_S = 24 * 3600.0
"""Age up to which a text counts as just read."""


def name_of(*parts: str) -> str:
    """Return a name that only these texts, in this order, have on processors like this one.

    Compiled code may round otherwise on another one, or where it is interpreted.
    """
    lengths = " ".join(str(len(part)) for part in parts)
    parts = _processor(), str(numba.config.DISABLE_JIT), *parts
    return hashlib.sha256("\n".join((lengths, *parts)).encode()).hexdigest()


_processor = cache(get_host_cpu_name)


def kept(kind: str, name: str) -> str | None:
    """Return a text of some kind, or None if there is none, or only a part of one."""
    path = _folder(kind) / name
    try:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        age_s = time.time() - path.stat().st_mtime
    except (OSError, UnicodeDecodeError):
        return None
    if digest != _digest(text):
        return None
    if age_s > _SETTLED_S:
        with suppress(OSError):
            os.utime(path)
    return text


def keep(kind: str, name: str, text: str) -> None:
    """Keep a text; nothing happens where it cannot be written."""
    path = _folder(kind) / name
    draft = path.with_name(f"{name}.{os.getpid()}.draft")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
    _remove_unused(path.parent)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(kind: str) -> Path:
    return cache_folder().parent / kind


@cache
def _remove_unused(folder: Path) -> None:
    """Remove what nobody has read for long; looked for once by a process that keeps something."""
    oldest = time.time() - _UNUSED_S
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
