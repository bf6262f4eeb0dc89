"""What the names in a sweep stand for: the contents of files, checked, with settings applied."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accelsim.errors import WorkloadError
from accelsim.sweeps.spec import SweepSpec

Contents = dict[str, Any]
"""Plain data of one document, as JSON could hold it."""

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

    return load_machine(name, settings, label="machine.").model_dump(mode="json")


def _read_technology(name: str, _settings: Mapping[str, Any]) -> Contents:
    from accelsim.loading import load_technology

    return load_technology(name).model_dump(mode="json")


def _read_workload(name: str, settings: Mapping[str, Any]) -> Contents:
    from accelsim.loading import load_workload
    from accelsim.workload.archives import find_file

    workload = load_workload(name, settings, label="workload.")
    contents = workload.problem.model_dump(mode="json")
    digests = [_digest(partial(find_file, path, workload.folder)) for path in _files(contents)]
    return {**contents, "file_digests": digests}


def _read_kernel(name: str, settings: Mapping[str, Any]) -> Contents:
    from accelsim.kernels.files import find_parameter_file
    from accelsim.library.recipe import Recipe

    if not name:  # the library of the machine picks it
        return {}
    parameters = Recipe.parse(name).updated(settings).parameters(label="")
    contents: Contents = parameters.model_dump(mode="json")
    digests = [
        _digest(partial(find_parameter_file, value))
        for _, value in parameters
        if isinstance(value, Path)
    ]
    return contents | ({"file_digests": digests} if digests else {})


_READERS: dict[str, Callable[[str, Mapping[str, Any]], Contents]] = {
    "machine": _read_machine,
    "technology": _read_technology,
    "workload": _read_workload,
    "kernel": _read_kernel,
}


def _files(contents: Any) -> Iterator[str]:
    """Paths of the tensor files that a workload names, its parts included."""
    if isinstance(contents, Mapping):
        if contents.get("source") == "file":
            yield contents["path"]
        for value in contents.values():
            yield from _files(value)
    elif isinstance(contents, list):
        for value in contents:
            yield from _files(value)


def _digest(find: Callable[[], Path]) -> str:
    """Hash of a file's bytes, or why there is none: running the point explains it better."""
    try:
        return hashlib.sha256(find().read_bytes()).hexdigest()
    except (WorkloadError, OSError) as error:
        return str(error)
