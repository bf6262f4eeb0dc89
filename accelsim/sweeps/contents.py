"""What the names in a sweep stand for: the contents of files, checked, with settings applied."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from accelsim.errors import AccelsimError, ShortageError, WorkloadError
from accelsim.sweeps.spec import SweepSpec

Contents = dict[str, Any]
"""Plain data of one document, as JSON could hold it."""

SOURCE = "source_digest"
"""Key of the contents of a kernel from outside accelsim: the digest of its own code."""

ReadContents = Callable[[str, str, Mapping[str, Any]], Contents]
"""(kind, name, settings) -> contents; kind is machine, technology, workload or kernel."""


def load_sweep(source: str | Path) -> SweepSpec:
    """Return the sweep that a file describes; raises ConfigError with all its mistakes."""
    from accelsim.config.loader import load_spec

    return load_spec(SweepSpec, source, kind="sweep")


def read_contents(kind: str, name: str, settings: Mapping[str, Any]) -> Contents:
    """Return the contents of `name` with `settings`, dotted keys below the document, applied.

    Raises an AccelsimError for an unknown name, an unknown key or a value that is not allowed.
    """
    return _READERS[kind](name, settings)


def _read_machine(name: str, settings: Mapping[str, Any]) -> Contents:
    from accelsim.loading import load_machine

    machine = load_machine(name, settings, label="machine.", needs_costs=False)
    return machine.model_dump(mode="json")


def _read_technology(name: str, _settings: Mapping[str, Any]) -> Contents:
    from accelsim.loading import load_technology

    return load_technology(name).model_dump(mode="json")


def _read_workload(name: str, settings: Mapping[str, Any]) -> Contents:
    from accelsim.loading import load_workload

    workload = load_workload(name, settings, label="workload.")
    contents: Contents = workload.problem.model_dump(mode="json")
    digests = [each for source in _sources(contents) for each in _read_by(source, workload.folder)]
    return contents | {"file_digests": digests}


def _read_kernel(name: str, settings: Mapping[str, Any]) -> Contents:
    from accelsim.library.recipe import LIBRARY, Recipe
    from accelsim.runtime.sources import class_digest

    if name == LIBRARY:
        return {}
    recipe = Recipe.parse(name).updated(settings)
    kernel, parameters = recipe.algorithm, recipe.parameters(label="")
    contents: Contents = parameters.model_dump(mode="json")
    digests = list(_parameter_digests(parameters.model_dump()))
    source = class_digest(kernel)
    return (
        contents
        | ({"file_digests": digests} if digests else {})
        | ({SOURCE: source} if source else {})
    )


_READERS: dict[str, Callable[[str, Mapping[str, Any]], Contents]] = {
    "machine": _read_machine,
    "technology": _read_technology,
    "workload": _read_workload,
    "kernel": _read_kernel,
}


def _sources(contents: Any) -> Iterator[Contents]:
    """Sources of tensors in a workload, its parts included."""
    if isinstance(contents, Mapping):
        if "source" in contents:
            yield dict(contents)
        for value in contents.values():
            yield from _sources(value)
    elif isinstance(contents, list):
        for value in contents:
            yield from _sources(value)


def _read_by(source: Contents, folder: Path) -> Iterator[str]:
    """Yield the digest of everything that a source of tensors reads."""
    from accelsim.workload.archives import find_file

    if source["source"] == "file":
        yield _digest(partial(find_file, source["path"], folder))
    elif source["source"] == "model":
        yield _model_digest(source["model"], folder)
        text = source["text"]
        yield _digest(partial(find_file, text, folder)) if text else _default_text_digest()


def _model_digest(model: str, folder: Path) -> str:
    from accelsim.workload.model.place import find_model

    try:
        return find_model(model, folder).digest()
    except AccelsimError as error:
        return str(error)


@cache
def _default_text_digest() -> str:
    from accelsim.workload.model.language import default_text

    return hashlib.sha256(default_text().encode()).hexdigest()


def _parameter_digests(values: Any) -> Iterator[str]:
    """Yield the digest of every file that parameters name: a path, or text that is one."""
    from accelsim.kernels.files import find_parameter_file

    if isinstance(values, Path):
        yield _digest(partial(find_parameter_file, values))
    elif isinstance(values, str):
        path = None
        with suppress(WorkloadError, OSError):
            path = find_parameter_file(Path(values))
        if path is not None:
            yield file_digest(path)
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _parameter_digests(value)
    elif isinstance(values, list | tuple | set | frozenset):
        for value in values:
            yield from _parameter_digests(value)


def _digest(find: Callable[[], Path]) -> str:
    """Hash of a file's bytes, or why there is none: running the point explains it better.

    Raises ShortageError for a file that is there and cannot be read.
    """
    try:
        path = find()
    except AccelsimError as error:
        return str(error)
    return file_digest(path)


def file_digest(path: Path) -> str:
    """Return the hash of a file; raises ShortageError for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ShortageError(f"{path}: cannot be read ({reason})") from error
