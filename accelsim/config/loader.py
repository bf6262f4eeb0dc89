"""Files and overrides to frozen specs, with every mistake of a file reported at once."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from accelsim.config.document import Document, parse, plain_settings
from accelsim.config.extending import base_of, check_ends, extended
from accelsim.config.mistakes import explain, show
from accelsim.config.plain import MAX_BYTES
from accelsim.config.shipped import Kind, locate
from accelsim.config.spec import UNITS_REQUIRED
from accelsim.errors import FILE_ERRORS, ConfigError, ShortageError, reason_of

T = TypeVar("T")
_FILES: ContextVar[tuple[dict[Path, Document], ...]] = ContextVar("files", default=())
"""Those who note which files are read."""


def load_spec(
    model: type[T] | TypeAdapter[T],
    source: str | Path | Document,
    *,
    kind: Kind,
    overrides: Mapping[str, Any] | None = None,
    label: str = "--set ",
) -> T:
    """Return the `model` that a file describes.

    `source` is a path, the name of a shipped file of `kind`, or what was read of one. `overrides`
    maps dotted keys to text, read as YAML, or to plain values; a quantity needs its unit there too.
    Messages about an overridden key start with `label` and the key. A union of models comes as a
    TypeAdapter.

    Raises ConfigError with all mistakes, UnknownNameError for a name that nobody knows,
    ShortageError for a file that cannot be read now.
    """
    document = source if isinstance(source, Document) else read_document(source, kind=kind)
    settings = plain_settings(overrides or {}, label)
    place = _place_of(cast(Any, model), document, json.dumps(settings))
    if place.is_current:
        return cast(T, place.spec)
    with _noted() as files:
        spec = validate(model, document.with_overrides(settings, label))
    place.keep(spec, files)
    return spec


def read_document(source: str | Path, *, kind: Kind) -> Document:
    """Return the data of a file and the places of its keys, before any check against a model.

    Of a file that extends another, the data of both; keys have their places in either.

    An unchanged file is read once in a process, however many points of a sweep use it, so the
    data is shared: change it through `with_overrides`, never in place.
    Raises ConfigError, UnknownNameError.
    """
    return _read_chain((locate(source, kind),), kind)


def _read_chain(files: tuple[Path, ...], kind: Kind) -> Document:
    """Return what the last of `files` says with all that it extends; each extends the next."""
    document = _read_file(files[-1])
    base = base_of(document, files[-1], kind)
    if base is None:
        return document
    check_ends(document, (*files, base))
    return _extended(_read_chain((*files, base), kind), document)


def _read_file(path: Path) -> Document:
    try:
        status = path.stat()
    except FILE_ERRORS as error:
        raise ConfigError([f"{path}: cannot be read: {reason_of(error)}"]) from None
    version = (status.st_dev, status.st_ino, status.st_mtime_ns)
    document = _read(path, status.st_size, version)
    for files in _FILES.get():
        files[path] = document
    return document


def validate(model: type[T] | TypeAdapter[T], document: Document) -> T:
    """Return the `model` that `document` describes; raises ConfigError with all mistakes."""
    if not isinstance(document.value, dict):
        found = show(document.value)
        raise ConfigError([document.message((), f"found {found}, expected a mapping of keys")])
    adapter: TypeAdapter[T] = (
        model if isinstance(model, TypeAdapter) else _adapter_of(cast(Any, model))
    )
    try:
        # Strict JSON, because Python input would let `true` pass for 1 and '16' for 16.
        data = to_json(document.value, inf_nan_mode="constants")
        spec = adapter.validate_json(data, strict=True, context=UNITS_REQUIRED)
    except ValidationError as error:
        raise ConfigError([*document.mistakes, *explain(error, document, adapter)]) from None
    if document.mistakes:
        raise ConfigError(document.mistakes)
    return spec


@cache
def _adapter_of(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


class _Place:
    """Where a spec is kept, with the files that were read while it was made.

    Specs are frozen, so every point of a sweep can share the one of unchanged files.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, Mapping[Path, Document]] | None = None

    @property
    def spec(self) -> Any:
        """What is kept here, if anything is."""
        return self._kept and self._kept[0]

    @property
    def is_current(self) -> bool:
        """Whether a spec is kept whose files are what they were."""
        files = self._kept and self._kept[1]
        return files is not None and all(_read_file(each) is own for each, own in files.items())

    def keep(self, spec: Any, files: Mapping[Path, Document]) -> None:
        """Keep a spec in the place of what was here."""
        self._kept = spec, files


@lru_cache(maxsize=256)
def _place_of(_model: Any, _document: Document, _settings: str) -> _Place:
    """Return the place of a document with these settings; unchanged files are one document."""
    return _Place()


@contextmanager
def _noted() -> Iterator[dict[Path, Document]]:
    """Yield what comes to hold each file that is read meanwhile, for whoever asks outside too."""
    files: dict[Path, Document] = {}
    before = _FILES.set((*_FILES.get(), files))
    try:
        yield files
    finally:
        _FILES.reset(before)


@lru_cache(maxsize=256)
def _extended(base: Document, document: Document) -> Document:
    """Documents of unchanged files are the same, and so is what they make together."""
    return extended(base, document) if isinstance(base.value, dict) else base


@lru_cache(maxsize=256)
def _read(path: Path, size_bytes: int, _version: tuple[int, ...]) -> Document:
    if size_bytes > MAX_BYTES:
        raise ConfigError([f"{path}: found {size_bytes} bytes, allowed are {MAX_BYTES}"])
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ShortageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: byte {error.start} is not text in UTF-8"]) from None
    return parse(text, lambda line, column: f"{path}:{line}:{column}: ")
