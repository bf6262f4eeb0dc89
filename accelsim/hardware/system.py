"""A system: devices and the host that drives them."""

from typing import Literal

from accelsim.config.spec import ExtendableSpec, Name, Seconds, Spec
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
    """Devices of one kind and their host."""

    name: Name
    """Name shown in reports."""
    description: str = ""
    """What this system stands for."""
    machine: str
    """Name or path of the machine file of a device."""
    devices: Literal[1] = 1
    """Devices; plans for more are not known yet."""
    host: HostSpec
    """What the host adds to the time of a step."""
