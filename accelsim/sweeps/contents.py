"""What the names in a sweep stand for: the contents of files, checked, with settings applied."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from accelsim.errors import ConfigError, WorkloadError
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
    from accelsim.config.loader import load_spec
    from accelsim.hardware.machine import MachineSpec

    machine = load_spec(MachineSpec, name, kind="machine", overrides=settings, label="machine.")
    return machine.model_dump(mode="json")


def _read_technology(name: str, settings: Mapping[str, Any]) -> Contents:
    from accelsim.config.loader import load_spec
    from accelsim.hardware.technology import TechnologySpec

    return load_spec(TechnologySpec, name, kind="technology", overrides=settings).model_dump(
        mode="json"
    )


def _read_workload(name: str, settings: Mapping[str, Any]) -> Contents:
    from pydantic import TypeAdapter

    from accelsim.config.loader import load_spec
    from accelsim.config.shipped import locate
    from accelsim.workload.problem import Workload

    adapter: TypeAdapter[Any] = TypeAdapter(Workload)
    workload = load_spec(adapter, name, kind="workload", overrides=settings, label="workload.")
    contents: Contents = adapter.dump_python(workload, mode="json")
    folder = locate(name, "workload").parent
    return {**contents, "file_digests": [_digest(path, folder) for path in _files(contents)]}


def _read_kernel(name: str, settings: Mapping[str, Any]) -> Contents:
    from pydantic import ValidationError

    from accelsim.kernels.registry import get_kernel

    try:
        parameters: Contents = get_kernel(name).parameters(**settings).model_dump(mode="json")
    except ValidationError as error:
        raise ConfigError(
            f"{'.'.join(map(str, each['loc']))}: found {each['input']!r}; {each['msg']}"
            for each in error.errors()
        ) from None
    return parameters


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


def _digest(path: str, folder: Path) -> str:
    """Hash of a file's bytes, or why there is none: running the point explains it better."""
    from accelsim.workload.archives import find_file

    try:
        return hashlib.sha256(find_file(path, folder).read_bytes()).hexdigest()
    except (WorkloadError, OSError) as error:
        return str(error)
