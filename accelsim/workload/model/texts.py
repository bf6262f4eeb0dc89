"""Texts of several kinds that a model can read: what one kind says of a kernel, another may not.

They lie in `accelsim/workload/texts`, their origins in NOTICE there, and never change: a text is
known by its content, and what was measured on it can be measured again under any Python.
"""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from accelsim.errors import AccelsimError, WorkloadError
from accelsim.workload.model.language import read_text

KINDS = ("reference", "code", "novel", "legal", "manual", "play", "science", "c")
"""The language reference of Python, sources of its library, a novel with much dialogue, licences, a
technical manual, a play, a book of physics, sources in C."""
EVERY_KIND = "all"
"""Stands for all kinds."""
DEFAULT_KIND = "reference"
"""What is read if nothing else is asked for."""
CALIBRATED_KINDS = ("reference", "code", "novel")
"""What a calibration reads if nothing else is asked for; on the others it is judged."""


Sources = str | Path | Sequence[str | Path]
"""One or several kinds or files."""


class Text(NamedTuple):
    """What a model reads."""

    name: str
    """The kind, or the file."""
    content: str

    @property
    def sha256(self) -> str:
        """Hash of the content in UTF-8, which is what a text is known by."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def read_texts(sources: Sources) -> list[Text]:
    """Return texts by kind or file, `all` being every kind.

    A name that is no kind is a file; `./legal` is a file too. Raises WorkloadError for none and for
    the same text twice, and what `read_text` raises.
    """
    given = [sources] if isinstance(sources, str | Path) else sources
    names = [str(name) for source in given for name in _each(source)]
    if not names:
        raise WorkloadError(f"found no text; allowed: {', '.join(KINDS)}, or a file")
    texts = [Text(name, _content(name)) for name in names]
    first: dict[str, str] = {}
    for name, content in texts:
        if content in first:
            raise WorkloadError(
                f"text {name}: found the text of {first[content]} again; allowed: every text once"
            )
        first[content] = name
    return texts


def _each(source: str | Path) -> Sequence[str | Path]:
    return list(KINDS) if source == EVERY_KIND else [source]


def _content(name: str) -> str:
    if name in KINDS:
        return (files("accelsim.workload") / "texts" / f"{name}.txt").read_text(encoding="utf-8")
    try:
        return read_text(Path(name))
    except AccelsimError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise WorkloadError(
            f"text {name}: found no such kind and no such file; "
            f"allowed: {', '.join(KINDS)}, {EVERY_KIND}, or a file of UTF-8 text"
        ) from error
