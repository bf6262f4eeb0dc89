"""Texts kept on disk: one file each, named by a hash of all that its text follows from.

So no file is ever stale, and whoever writes a file writes the same as everybody else. A file begins
with a hash of the rest: a torn one counts as missing, and is made again. Where nothing can be
written nothing is kept.
"""

import hashlib
import os
import platform
import time
from collections import Counter
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path

from accelsim.runtime.folders import kept_folder

_UNUSED_S = 60 * 24 * 3600.0
"""Age at which a text that nobody has read is removed."""
_SETTLED_S = 24 * 3600.0
"""Age up to which a text counts as just read."""
_MOST, _LEFT = 16_384, 12_288
"""Texts of a kind that are kept, and how many of them are left where there are more. A text takes
some kilobytes."""
_KEPT_BETWEEN_LOOKS = 4096
"""Texts of a kind that a process keeps until it looks again for what is too much."""
_kept: Counter[str] = Counter()
"""Texts of each kind that this process has kept."""
_PROCESSORS = Path("/proc/cpuinfo")
_TELLING = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
    *("isa", "uarch"),
)
"""Lines of this file that compiled code follows from, on x86, ARM and RISC-V."""
_NUMBA_FILE = Path(".numba_config.yaml")


def name_of(*parts: str) -> str:
    """Return a name that only these texts, in this order, have on processors like this one.

    Compiled code may round otherwise on another one, or where it is interpreted.
    """
    lengths = " ".join(str(len(part)) for part in parts)
    parts = _processor(), _settings_of_numba(), *parts
    return hashlib.sha256("\n".join((lengths, *parts)).encode()).hexdigest()


@cache
def _processor() -> str:
    """Return what tells processors apart. To ask Numba for it would take a second to load Numba."""
    with suppress(OSError):
        first, _, _ = _PROCESSORS.read_text(encoding="utf-8").partition("\n\n")
        lines = (line.partition(":") for line in first.splitlines())
        return "\n".join(
            f"{key.strip()}: {value.strip()}" for key, _, value in lines if key.strip() in _TELLING
        )
    return f"{platform.machine()} {platform.processor()}"


@cache
def _settings_of_numba() -> str:
    """Return what Numba is told by its environment, such as to compile nothing."""
    told = sorted(f"{name}={text}" for name, text in os.environ.items() if "NUMBA_" in name)
    with suppress(OSError, UnicodeDecodeError):
        told.append(_NUMBA_FILE.read_text(encoding="utf-8"))
    return "\n".join(told)


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
    if _kept[kind] % _KEPT_BETWEEN_LOOKS == 0:
        _remove_unused(path.parent)
    _kept[kind] += 1


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(kind: str) -> Path:
    return kept_folder() / kind


def _remove_unused(folder: Path) -> None:
    """Remove what nobody has read for long, and of too many texts those that were read first."""
    with suppress(OSError):
        found = sorted(_read_last(entry) for entry in os.scandir(folder))
        oldest = time.time() - _UNUSED_S
        spare = len(found) - (_MOST if len(found) <= _MOST else _LEFT)
        for place, (read_last, path) in enumerate(found):
            if read_last < oldest or place < spare:
                with suppress(OSError):
                    os.unlink(path)


def _read_last(entry: "os.DirEntry[str]") -> tuple[float, str]:
    """Return when a text was read last, and its path; of one that is gone, never."""
    with suppress(OSError):
        return entry.stat().st_mtime, entry.path
    return inf, entry.path
