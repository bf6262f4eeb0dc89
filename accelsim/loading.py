"""Names and paths to checked objects."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from accelsim.config.loader import load_spec
from accelsim.config.shipped import locate
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

    Raises ConfigError, UnknownNameError.
    """
    return load_spec(MachineSpec, source, kind="machine", overrides=overrides, label=label)


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
