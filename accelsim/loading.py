"""Names and paths to checked objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from accelsim.config.document import KeyPath
from accelsim.config.loader import load_spec, read_document
from accelsim.config.shipped import locate
from accelsim.errors import AccelsimError, ConfigError, UnknownNameError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.workload.problem import LayerProblem, Problem, Workload


@dataclass(frozen=True, slots=True)
class LoadedWorkload:
    """A workload and the folder that relative paths of its tensors start from."""

    problem: Problem | LayerProblem
    folder: Path


def load_machine(
    source: str | Path, overrides: Mapping[str, Any] | None = None, label: str = "--set "
) -> MachineSpec:
    """Return the machine of a file or a shipped name, with dotted keys replaced by `overrides`.

    The technology must exist and know the memory. Raises ConfigError, UnknownNameError.
    """
    machine = load_spec(MachineSpec, source, kind="machine", overrides=overrides, label=label)
    mistake = _unknown_to_technology(machine)
    if mistake is not None:
        document = read_document(source, kind="machine").with_overrides(overrides or {}, label)
        raise ConfigError([document.message(*mistake)])
    return machine


def _unknown_to_technology(machine: MachineSpec) -> tuple[KeyPath, str] | None:
    """Return the key whose value has no costs, and why; None where all is known."""
    try:
        technology = load_technology(machine.technology)
    except AccelsimError as error:
        return ("technology",), str(error)
    try:
        technology.memory(machine.hbm.technology_key)
    except UnknownNameError as error:
        return ("hbm", "standard"), str(error)
    return None


def load_workload(
    source: str | Path, overrides: Mapping[str, Any] | None = None, label: str = "--set "
) -> LoadedWorkload:
    """Return the workload of a file or a shipped name, with dotted keys replaced by `overrides`.

    Raises ConfigError, UnknownNameError.
    """
    problem = load_spec(
        _workload_adapter(), source, kind="workload", overrides=overrides, label=label
    )
    return LoadedWorkload(problem, locate(source, "workload").parent)


def load_technology(name: str) -> TechnologySpec:
    """Return a technology by the name or path that a machine file gives."""
    return load_spec(TechnologySpec, name, kind="technology")


@cache
def _workload_adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Workload)
