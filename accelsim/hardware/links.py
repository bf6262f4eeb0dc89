"""The links between the devices of a system, and how fast a library moves messages over them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accelsim.config.spec import BytesPerSecond, Name, PicojoulesPerByte, Seconds, Size, Spec
from accelsim.hardware.sourced import Sourced

AlgorithmName = Literal[
    "ring", "tree", "halving_doubling", "one_shot", "two_shot", "in_switch", "direct"
]
"""Ways to run a collective; `accelsim.collectives.algorithms` has one file for each."""
Topology = Literal["switch", "mesh", "ring"]
Share = Annotated[float, Field(gt=0, le=1)]


class ProtocolSpec(Spec):
    """One way in which kernels of a library hand messages over links."""

    name: Name
    """Name shown in reports."""
    carries: tuple[AlgorithmName, ...] = Field(min_length=1)
    """Algorithms that have kernels with this protocol."""
    start: Sourced[Seconds]
    """Time of a collective of no bytes in no rounds: the kernel and the meeting of the devices."""
    step: Sourced[Seconds]
    """Latency of a round: from the last byte there to the first of the next message."""
    share: Sourced[Share]
    """Payload over what a link can carry: flags, headers, and what the cores can issue."""
    message: Sourced[Seconds] | None = None
    """Time for each message that a device sends in a round; absent: none."""
    message_bandwidth: Sourced[BytesPerSecond] | None = None
    """Fastest rate of one message; absent: that of the link."""


class LinkSpec(Spec):
    """A level of links: they join devices, or groups of devices that a level before has joined."""

    topology: Topology
    """switch: each device has a port; mesh: a link for each two; ring: a link to either side."""
    joins: Size
    """Devices that are joined, or groups of the level before."""
    bandwidth: Sourced[BytesPerSecond]
    """Each direction: of the port of a device at a switch, of one link elsewhere."""
    energy: Sourced[PicojoulesPerByte]
    """Of a byte over a link; of a switch over both ports and the switch."""
    copy_bandwidth: Sourced[BytesPerSecond] | None = None
    """Rate at which a device puts its own part where the parts of others arrive; absent: under the
    messages."""
    meeting: Sourced[Seconds] | None = None
    """Time that devices wait for each other before a collective, where they come from work of their
    own; absent: none."""
    protocols: tuple[ProtocolSpec, ...] = Field(min_length=1)
    """A collective over several levels has one whose name all of them know."""

    @model_validator(mode="after")
    def _names_differ(self) -> "LinkSpec":
        names = [each.name for each in self.protocols]
        if twice := sorted({each for each in names if names.count(each) > 1}):
            raise ValueError(f"found several protocols {', '.join(twice)}, allowed: one of a name")
        return self

    def protocol(self, name: str) -> ProtocolSpec | None:
        """Return the protocol of a name, if these links have it."""
        return next((each for each in self.protocols if each.name == name), None)
