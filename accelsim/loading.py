"""Machines and workloads by shipped name or path."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelsim.hardware.machine import MachineSpec
    from accelsim.workload.problem import Workload


def load_machine(
    source: str | Path, overrides: Mapping[str, object] | None = None
) -> "MachineSpec":
    """Return the machine of a shipped name or a file, with dotted keys overridden.

    Raises ConfigError with every mistake of the file and of the overrides.
    """
    from accelsim.config.loader import load_spec
    from accelsim.hardware.machine import MachineSpec

    return load_spec(MachineSpec, source, kind="machine", overrides=overrides)


def load_workload(source: str | Path, overrides: Mapping[str, object] | None = None) -> "Workload":
    """Return the workload of a shipped name or a file, with dotted keys overridden.

    Raises ConfigError with every mistake of the file and of the overrides.
    """
    from pydantic import TypeAdapter

    from accelsim.config.loader import load_spec
    from accelsim.workload.problem import Workload

    adapter: TypeAdapter[Workload] = TypeAdapter(Workload)
    return load_spec(adapter, source, kind="workload", overrides=overrides)
