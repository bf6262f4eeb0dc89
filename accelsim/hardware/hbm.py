"""Off-chip memory, shared by all cores: flat, or with the banks of a standard."""

import itertools
import math
from typing import Annotated, Literal, cast

from pydantic import Field, ValidationInfo, field_validator
from pydantic.json_schema import SkipJsonSchema

from accelsim.config.loader import load_spec
from accelsim.config.spec import Bytes, BytesPerSecond, Seconds, Spec
from accelsim.errors import AccelsimError, ShortageError
from accelsim.hardware.counts import Count
from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.mapping import Digit, digits_of, field_sizes

Detail = Literal["bursts", "commands"]


class FlatHbmSpec(Spec):
    """Latency, and bandwidth shared evenly by the channels."""

    kind: Literal["flat"] = "flat"
    """Timing model: `flat` is latency plus bandwidth per channel."""
    standard: str
    """Key of the energy per bit in the technology file, such as hbm2e."""
    capacity: Bytes
    """Size of all stacks, in bytes."""
    bandwidth: BytesPerSecond
    """Peak rate of all channels together, in bytes per second."""
    channels: Count
    """Independent channels; bandwidth is divided evenly among them."""
    latency: Seconds
    """Time from a request to its first byte on an idle channel, in seconds."""
    interleave: Bytes
    """Consecutive bytes that lie in one channel before the next one follows, in bytes."""

    @property
    def technology_key(self) -> str:
        """Name of the memory in a technology file."""
        return self.standard

    @property
    def slowest_bytes_per_s(self) -> float:
        """Least rate at which a transfer can be served, through a single channel."""
        return self.bandwidth / self.channels


class BankedHbmSpec(Spec):
    """Banks, rows and refresh of a DRAM standard behind controllers that reorder."""

    kind: Literal["banked"]
    """Timing model: `banked` follows the rows, banks and refreshes of the DRAM."""
    standard: str
    """Name or path of a memory file, whose name is the key of the area in the technology file."""
    device: SkipJsonSchema[DramSpec | None] = Field(default=None, validate_default=True)
    """Contents of the memory file."""
    stacks: Count
    """Stacks or devices side by side."""
    mapping: tuple[str, ...] = Field(min_length=1)
    """Parts of an address from the top; `column:2` is the two lowest bits of the column left."""
    hashed: tuple[Literal["bank", "bank_group", "rank", "pseudo_channel", "channel"], ...] = ()
    """Parts that are mixed with the bits above them, so that no stride stays on one of them."""
    page: Literal["open", "closed"] = "open"
    """Rows stay open until another is wanted, or close when no burst for them is in sight."""
    refresh: Literal["all_bank", "per_bank"] = "all_bank"
    """All banks of a pseudo-channel stop for a refresh, or one after the other."""
    controller: ControllerSpec = ControllerSpec()
    """What the controller of a channel sees and in which order it serves."""
    detail: Detail = "bursts"
    """What is followed: `bursts`, each placed once as it comes, or `commands` of a controller."""
    latency: Seconds
    """Time on the way to the DRAM and back, on top of its own, in seconds."""

    @field_validator("standard")
    @classmethod
    def _standard_can_be_read(cls, standard: str) -> str:
        _read_device(standard)
        return standard

    @field_validator("device")
    @classmethod
    def _device_is_read(cls, device: DramSpec | None, info: ValidationInfo) -> DramSpec | None:
        standard = info.data.get("standard")
        return _read_device(standard) if device is None and standard else device

    @field_validator("mapping")
    @classmethod
    def _mapping_uses_every_part(
        cls, mapping: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        device, stacks = info.data.get("device"), info.data.get("stacks")
        if device and stacks:
            digits_of(mapping, field_sizes(device.shape, stacks * device.shape.channels))
        return mapping

    @property
    def technology_key(self) -> str:
        """Name of the memory in a technology file."""
        return self.dram.name

    @property
    def dram(self) -> DramSpec:
        """The standard, with its timing and energy."""
        return cast(DramSpec, self.device)

    @property
    def digits(self) -> list[Digit]:
        """Digits of an address in bursts, lowest first."""
        return digits_of(self.mapping, field_sizes(self.dram.shape, self.channels))

    @property
    def channels(self) -> int:
        """Channels of all stacks."""
        return self.stacks * self.dram.shape.channels

    @property
    def capacity(self) -> int:
        """Size of all stacks, in bytes."""
        return self.stacks * self.dram.capacity_bytes

    @property
    def bandwidth(self) -> float:
        """Peak rate of all data pins, in bytes per second."""
        return self.stacks * self.dram.bandwidth_bytes_per_s

    @property
    def interleave(self) -> int:
        """Consecutive bytes that lie in one channel before the next one follows."""
        below = itertools.takewhile(lambda digit: digit.field != "channel", self.digits)
        return self.dram.shape.burst * math.prod(digit.size for digit in below)

    @property
    def slowest_bytes_per_s(self) -> float:
        """Least rate at which a transfer can be served: each byte in a new row of one bank."""
        timing = self.dram.timing
        share = 1 - (timing.t_rfc + timing.t_rc) / timing.t_refi
        # A write with the turn of the data pins before and after it takes less than two cycles.
        return share / (2 * timing.t_rc * timing.t_ck)


HbmSpec = Annotated[FlatHbmSpec | BankedHbmSpec, Field(discriminator="kind")]


def _read_device(standard: str) -> DramSpec:
    try:
        return load_spec(DramSpec, standard, kind="memory")
    except ShortageError:
        raise
    except AccelsimError as error:
        raise ValueError(str(error)) from None
