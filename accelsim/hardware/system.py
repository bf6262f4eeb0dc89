"""A system: devices, the links between them, and the host that drives them."""

from math import prod

from pydantic import Field, model_validator

from accelsim.config.spec import ExtendableSpec, Name, Seconds, Size, Spec
from accelsim.hardware.links import LinkSpec
from accelsim.hardware.sourced import Sourced


class HostSpec(Spec):
    """What the host adds to the time of a step, where the device waits for it."""

    step: Sourced[Seconds]
    """Time for each step: inputs in, tokens out, the scheduler."""
    layer: Sourced[Seconds]
    """Time for each layer of the model."""
    request: Sourced[Seconds]
    """Time for each sequence of a step."""
    launch: Sourced[Seconds]
    """Time for each kernel beside what `launch` of the machine says."""


class SystemSpec(ExtendableSpec):
    """Devices of one kind, their links and their host."""

    name: Name
    """Name shown in reports."""
    description: str = ""
    """What this system stands for."""
    machine: str
    """Name or path of the machine file of a device."""
    devices: Size = 1
    """Devices that the links join."""
    links: dict[Name, LinkSpec] = Field(default_factory=dict)
    """By name, from the level that joins devices to the one that joins the largest groups."""
    host: HostSpec
    """What the host adds to the time of a step."""

    @model_validator(mode="after")
    def _links_join_the_devices(self) -> "SystemSpec":
        joined = prod(level.joins for level in self.links.values())
        if joined != self.devices:
            levels = " x ".join(f"{level.joins} by {name}" for name, level in self.links.items())
            raise ValueError(
                f"found devices = {self.devices} with links that join {joined}"
                f"{f' ({levels})' if levels else ''}, allowed: as many devices as links join"
            )
        return self
