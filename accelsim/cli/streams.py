"""Standard streams that show any text, and whose failures are one message.

A terminal or a file may be unable to hold a character; it gets the nearest one of ASCII. A disk may
be full, a pipe closed, or a stream not there at all.
"""

import codecs
import io
import os
import select
import sys
import unicodedata
from contextlib import suppress
from typing import Any

from accelsim.errors import OutputError

_NEAREST = "accelsim.nearest"
"""Name of the error handler below."""
_NEAREST_OF = {
    "\u00b5": "u",
    "\u03bc": "u",
    "\u00b7": "*",
    "\u00d7": "x",
    "\u2013": "-",
    "\u2014": "-",
}
_HORIZONTAL, _VERTICAL = "─━═╸╺", "│┃║"


def prepare_streams() -> None:
    """Replace the standard streams of this process."""
    codecs.register_error(_NEAREST, _nearest)
    _occupy_missing()
    sys.stdout = _text_stream(_Output(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text_stream(_Messages(2, "w", closefd=False), sys.stderr)


def _occupy_missing() -> None:
    """Open a stand-in that cannot be written: no other file shall get the number of a stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


def _text_stream(raw: io.FileIO, before: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=_NEAREST,
        line_buffering=getattr(before, "line_buffering", False),
        write_through=getattr(before, "write_through", False),
    )


class _Waiting(io.FileIO):
    """A stream that waits for its reader, even where it is set up not to."""

    def write(self, data: Any) -> int:
        """Write some of the bytes; return how many."""
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written


class _Output(_Waiting):
    """Results: the first that cannot be written is an error, the rest is dropped."""

    _is_lost = False

    def write(self, data: Any) -> int:
        """Write some of the bytes; raise OutputError, or BrokenPipeError where nobody reads."""
        if self._is_lost:
            return len(data)
        try:
            return super().write(data)
        except OSError as error:
            self._is_lost = True
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(f"standard output: cannot be written: {error.strerror}") from error


class _Messages(_Waiting):
    """Messages: what cannot be written is dropped, as there is nowhere to say so."""

    def write(self, data: Any) -> int:
        """Write some of the bytes; return how many."""
        with suppress(OSError):
            return super().write(data)
        return len(data)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding does not have, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(map(_nearest_of, missing)), error.end


def _nearest_of(character: str) -> str:
    if character in _NEAREST_OF:
        return _NEAREST_OF[character]
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        return "-" if character in _HORIZONTAL else "|" if character in _VERTICAL else "+"
    if unicodedata.category(character) == "Cs":  # a byte of a file name that is no text
        return character.encode("unicode_escape").decode()
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"
