"""Collectives: what devices of a system hand to each other."""

from dataclasses import dataclass
from typing import Literal

from accelsim.errors import WorkloadError

CollectiveKind = Literal[
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send"
]


@dataclass(frozen=True, slots=True)
class Collective:
    """What groups of devices do together, all groups of a system at once.

    all_reduce: each device has `size_bytes`, and then the sum of all. reduce_scatter: each then has
    its part of the sum. all_gather: each has a part, and then all `size_bytes`. all_to_all: each
    has `size_bytes`, a part for each device of the group. broadcast, send: the first device has
    them.
    """

    kind: CollectiveKind
    name: str
    size_bytes: int
    devices: int
    """Devices of a group."""
    stride: int = 1
    """Numbers of devices from one of a group to the next one."""

    def __post_init__(self) -> None:
        """Refuse what no collective can be; raises WorkloadError."""
        for name, least in (("size_bytes", 0), ("devices", 1), ("stride", 1)):
            found = getattr(self, name)
            if found < least:
                raise WorkloadError(f"{self.name}: {name}: found {found}, allowed: {least} or more")
        if self.kind == "send" and self.devices != 2:
            raise WorkloadError(
                f"{self.name}: found a send among {self.devices} devices, allowed: 2"
            )
