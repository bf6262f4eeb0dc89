"""A system as it is asked for: its devices, those of a plan, and changed fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelsim.config.document import plain_settings, settings_below
from accelsim.errors import ConfigError
from accelsim.loading import LoadedSystem, load_devices
from accelsim.models.parallel import ONE_DEVICE, Parallel, parse_parallel


@dataclass(frozen=True, slots=True)
class System:
    """Devices with their host, and what is asked of them in the place of what their files say."""

    source: str | Path
    """A shipped name or a file."""
    plan: Parallel | str | None = None
    """Over which devices a model is laid out, such as "tp=2"; None: one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values of `machine.<field>`, of the machine of a device, `machine.host.<field>` and
    `machine.links.<name>.<field>`; text as in a file is a value too."""

    devices: LoadedSystem = field(init=False, repr=False, compare=False)
    """The files with these settings."""
    parallel: Parallel = field(init=False, repr=False, compare=False)
    """The plan as a value."""

    def __post_init__(self) -> None:
        """Read the files and the plan; raises ConfigError, UnknownNameError, WorkloadError."""
        devices = load_devices(self.source, _of_machine(self.settings), "--set machine.")
        object.__setattr__(self, "devices", devices)
        object.__setattr__(self, "parallel", self._parsed())

    def _parsed(self) -> Parallel:
        if self.plan is None:
            return ONE_DEVICE
        return self.plan if isinstance(self.plan, Parallel) else parse_parallel(self.plan)


def _of_machine(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without `machine.`; raises ConfigError for others."""
    settings = plain_settings(settings, "--set ")
    for key in settings:
        if not key.startswith("machine."):
            raise ConfigError(
                [f"--set {key}: allowed: machine.<field> and machine.host.<field> of the system"]
            )
    return settings_below("machine", settings)
