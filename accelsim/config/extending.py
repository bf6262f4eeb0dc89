"""Files that build on another of their kind: `extends`, and how the keys of the two meet.

A key of the file replaces that of the base. Where both have a mapping, its keys are replaced one by
one, unless they differ in `kind`: then it is another thing, and nothing of the base's is left. A
source of the base goes when its key, or one above it, is replaced; one that covers more stays for
the rest.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accelsim.config.document import Document, KeyPath, dotted, replaced_at
from accelsim.config.mistakes import show
from accelsim.config.shipped import Kind, locate
from accelsim.config.spec import EXTENDS
from accelsim.errors import AccelsimError, ConfigError

_EXTENDABLE: frozenset[Kind] = frozenset({"machine", "memory", "system"})
"""Kinds of files that may extend another: descriptions that exist in variants."""
_SOURCES = "sources"


def base_of(document: Document, path: Path, kind: Kind) -> Path | None:
    """Return the file that the one at `path` extends, if it does; raises ConfigError.

    It is named like any file of its kind; a relative path starts at the folder of the file.
    """
    if kind not in _EXTENDABLE or not isinstance(document.value, dict):
        return None
    if EXTENDS not in document.value:
        return None
    name = document.value[EXTENDS]
    if not isinstance(name, str) or not name:
        text = f"found {show(name)}, expected the name or path of a {kind} file"
        raise ConfigError([document.message((EXTENDS,), text)])
    try:
        return locate(name, kind, path.parent)
    except AccelsimError as error:
        raise ConfigError([document.message((EXTENDS,), str(error))]) from None


def check_ends(document: Document, files: tuple[Path, ...]) -> None:
    """Raise ConfigError if the last of `files`, each of which extends the next, is met twice.

    document: the contents of the last but one.
    """
    if any(os.path.samefile(files[-1], file) for file in files[:-1]):
        circle = " extends ".join(str(file) for file in files)
        raise ConfigError([document.message((EXTENDS,), f"found a circle: {circle}")])


def extended(base: Document, document: Document) -> Document:
    """Return the document of a file that extends the one of `base`, which holds a mapping."""
    own = {key: value for key, value in document.value.items() if key != EXTENDS}
    changes = list(_changes(base.value, own))
    value = _without_sources(base.value, [dotted(path) for path, _ in changes])
    places = base.places
    for path, new in changes:
        value = replaced_at(value, path, new)
        places = {key: place for key, place in places.items() if key[: len(path)] != path}
    mistakes = (*base.mistakes, *document.mistakes)
    return Document(value, {**places, **document.places}, mistakes)


def _changes(
    base: Mapping[str, Any], own: Mapping[str, Any], path: KeyPath = ()
) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the paths at which something of `base` is replaced or added, with what comes there."""
    for key, value in own.items():
        old, here = base.get(key), (*path, key)
        if isinstance(old, dict) and isinstance(value, dict) and not _differ_in_kind(old, value):
            yield from _changes(old, value, here)
        else:
            yield here, value


def _differ_in_kind(base: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return "kind" in own and own["kind"] != base.get("kind")


def _without_sources(value: dict[str, Any], changed: list[str]) -> dict[str, Any]:
    """Return `value` without the sources of what stands at or below the keys `changed`."""
    sources = value.get(_SOURCES)
    if not isinstance(sources, dict):
        return value
    kept = {
        key: source
        for key, source in sources.items()
        if not any(key == each or key.startswith(f"{each}.") for each in changed)
    }
    return {**value, _SOURCES: kept}
