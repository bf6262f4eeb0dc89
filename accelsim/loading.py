"""Names and paths to checked objects."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from accelsim.config.document import Document, KeyPath
from accelsim.config.loader import load_spec, read_document
from accelsim.config.shipped import locate, shipped_folder
from accelsim.errors import AccelsimError, ConfigError, UnknownNameError, did_you_mean
from accelsim.hardware.costs import missing_costs
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.system import SystemSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.workload.generation import GENERATION
from accelsim.workload.problem import LayerProblem, Problem, Workload

_OF_SYSTEM = ("host", "links")
"""Keys of a system beside its machine, which settings may begin with."""


@dataclass(frozen=True, slots=True)
class LoadedWorkload:
    """A workload and the folder that relative paths of its tensors start from."""

    problem: Problem | LayerProblem
    folder: Path


@dataclass(frozen=True, slots=True)
class LoadedSystem:
    """A system and the machine of its devices."""

    spec: SystemSpec
    machine: MachineSpec


def load_machine(
    source: str | Path,
    overrides: Mapping[str, Any] | None = None,
    label: str = "--set ",
    *,
    needs_costs: bool = True,
) -> MachineSpec:
    """Return the machine of a file or a shipped name, with dotted keys replaced by `overrides`.

    With `needs_costs` the technology must know the energy and area of all that the machine has.
    Raises ConfigError, UnknownNameError.
    """
    machine = load_spec(MachineSpec, source, kind="machine", overrides=overrides, label=label)
    missing = _missing_costs(machine) if needs_costs else ()
    if missing:
        document = read_document(source, kind="machine").with_overrides(overrides or {}, label)
        raise ConfigError([document.message(path, text) for path, text in missing])
    return machine


def _missing_costs(machine: MachineSpec) -> Sequence[tuple[KeyPath, str]]:
    """Return the fields that its technology has no costs for, each with the reason."""
    try:
        technology = load_technology(machine.technology)
    except AccelsimError as error:
        return [(("technology",), str(error))]
    return missing_costs(machine, technology)


def load_workload(
    source: str | Path, overrides: Mapping[str, Any] | None = None, label: str = "--set "
) -> LoadedWorkload:
    """Return the workload of a file or a name, with dotted keys replaced by `overrides`.

    A name is that of a shipped file, or of a layer of a shipped model or one of its operations,
    such as `llama-3-8b/prefill-4096` or `llama-3-8b/decode-4096x8/qkv`. Raises ConfigError,
    UnknownNameError, WorkloadError.
    """
    document = workload_document(source)
    if document.at(("kind",)) == GENERATION:
        text = f"found '{GENERATION}', which `accelsim sweep` runs, and `accelsim infer` one of"
        raise ConfigError([document.message(("kind",), text)])
    problem = load_spec(
        _workload_adapter(), document, kind="workload", overrides=overrides, label=label
    )
    return LoadedWorkload(problem, _folder_of(source))


def workload_document(source: str | Path) -> Document:
    """Return what a workload says, before any check: a file, or a layer of a model by its name.

    Raises ConfigError, UnknownNameError, WorkloadError.
    """
    if _is_layer_name(source):
        return _layer_document(str(source))
    try:
        return read_document(source, kind="workload")
    except UnknownNameError as error:
        raise _unknown_workload(str(source), error) from None


def _unknown_workload(name: str, error: UnknownNameError) -> UnknownNameError:
    """Return an error that also speaks of the names of layers, of which the first had none."""
    from accelsim.models.layer_names import FORMS, renamed

    new = renamed(name)
    if new is None:
        return UnknownNameError(f"{error}; and layers of models: {FORMS}")
    return UnknownNameError(
        f"unknown workload '{name}', did you mean '{new}'? Layers of models are named: {FORMS}"
    )


def _folder_of(workload: str | Path) -> Path:
    """Return where relative paths of tensors start from."""
    if _is_layer_name(workload):
        return shipped_folder("workload")
    return locate(workload, "workload").parent


def _is_layer_name(source: str | Path) -> bool:
    if not isinstance(source, str) or "/" not in source or os.path.exists(source):
        return False
    # What a layer of a model is takes a while to import, and most workloads are files.
    from accelsim.models.layer_names import is_layer_name

    return is_layer_name(source)


@lru_cache(256)
def _layer_document(name: str) -> Document:
    """Documents of one name are the same, as those of an unchanged file."""
    from accelsim.models.layer_names import named_problem

    return Document(named_problem(name).to_document(), {(): f"{name}: "})


def load_system(
    source: str | Path, overrides: Mapping[str, Any] | None = None, label: str = "--set "
) -> SystemSpec:
    """Return the system of a file or a shipped name, with dotted keys replaced by `overrides`.

    Raises ConfigError, UnknownNameError.
    """
    return load_spec(SystemSpec, source, kind="system", overrides=overrides, label=label)


def load_devices(
    source: str | Path, overrides: Mapping[str, Any] | None = None, label: str = "--set "
) -> LoadedSystem:
    """Return a system with the machine of its devices.

    Keys of `overrides` are fields of the machine, or begin with `host.` or `links.`. Raises
    ConfigError, UnknownNameError.
    """
    settings = dict(overrides or {})
    of_system = {
        key: settings.pop(key) for key in list(settings) if key.split(".")[0] in _OF_SYSTEM
    }
    _check_links(of_system, load_system(source), label)
    spec = load_system(source, of_system, label)
    return LoadedSystem(spec, load_machine(spec.machine, settings, label))


def _check_links(settings: Mapping[str, Any], system: SystemSpec, label: str) -> None:
    """Refuse settings of links that a system does not have."""
    for key in settings:
        level, _, name = key.partition(".")
        name = name.partition(".")[0]
        if level == "links" and name not in system.links:
            hint = did_you_mean(name, system.links) or ","
            known = ", ".join(system.links) or "none"
            raise ConfigError(
                [
                    f"{label}{key}: found no links '{name}' in system {system.name}{hint} "
                    f"allowed: {known}"
                ]
            )


def load_technology(name: str) -> TechnologySpec:
    """Return a technology by the name or path that a machine file gives."""
    return load_spec(TechnologySpec, name, kind="technology")


@cache
def _workload_adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Workload)
