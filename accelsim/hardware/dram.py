"""What a DRAM standard is: the shape of its channels, its timing and its energy per command.

Names are those of JEDEC (JESD235 for HBM2, JESD238 for HBM3, JESD209-5 for LPDDR5): `t_rp` is tRP.
"""

from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from accelsim.config.spec import (
    Bytes,
    ExtendableSpec,
    Name,
    Picojoules,
    PicojoulesPerByte,
    Seconds,
    Spec,
    Watts,
)

Clocks = Annotated[int, Field(ge=0, le=2**20)]
HalfClocks = Annotated[float, Field(ge=0.5, le=16, multiple_of=0.5)]
Level = Annotated[int, Field(gt=0, le=2**20)]
MOST_GROUP_SLOTS = 32
"""Bursts on the pins from one of a bank group to the next, at most; standards have 2 to 4."""


class DramShape(Spec):
    """How many there are of everything in one stack, or in one device."""

    channels: Level
    """Independent channels, each with its own command buses."""
    pseudo_channels: Level
    """Halves of a channel with banks and data pins of their own behind common command buses."""
    ranks: Level
    """Sets of banks that share the data pins of a pseudo-channel: ranks, or stack IDs, of which a
    stack of twelve dies has three."""
    bank_groups: Level
    """Groups of banks of a rank; columns of different groups may follow each other faster."""
    banks: Level
    """Banks of a group."""
    rows: Level
    """Rows of a bank."""
    columns: Level
    """Bursts of a row."""
    burst: Bytes
    """Bytes of one burst."""

    @property
    def banks_of_pseudo_channel(self) -> int:
        """Banks behind the same data pins."""
        return self.ranks * self.bank_groups * self.banks

    @property
    def rank_places(self) -> int:
        """Ranks that the bits of a rank can name, a power of two; those beyond `ranks` are not
        there."""
        return 1 << (self.ranks - 1).bit_length()

    @property
    def bank_places_of_channel(self) -> int:
        """Banks that the bits of a bank can name behind the same controller, a power of two."""
        return self.pseudo_channels * self.rank_places * self.bank_groups * self.banks

    @model_validator(mode="after")
    def _sizes_are_powers_of_two(self) -> "DramShape":
        for name in ("pseudo_channels", "bank_groups", "banks", "columns", "burst"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"found {name} = {value}, allowed: a power of two")
        return self


class DramTiming(Spec):
    """Least times between commands, in clocks of the memory."""

    t_ck: Seconds = Field(gt=0)
    """Time of one clock, in seconds."""
    burst: Clocks = Field(gt=0)
    """Clocks that a burst occupies the data pins."""
    t_cl: Clocks
    """Read to its first data."""
    t_cwl: Clocks
    """Write to its first data."""
    t_rcd_read: Clocks
    """Activation to a read of the row."""
    t_rcd_write: Clocks
    """Activation to a write to the row."""
    t_rp: Clocks
    """Precharge to the next activation of the bank."""
    t_ras: Clocks
    """Activation to precharge of the row."""
    t_rc: Clocks
    """Activation to the next activation of the bank."""
    t_ccd_s: Clocks
    """Column to column in different bank groups."""
    t_ccd_l: Clocks
    """Column to column in one bank group."""
    t_ccd_r: Clocks
    """Column to column in different ranks."""
    t_rrd_s: Clocks
    """Activation to activation in different bank groups."""
    t_rrd_l: Clocks
    """Activation to activation in one bank group."""
    t_faw: Clocks
    """Window in which a pseudo-channel may see four activations."""
    t_rtp: Clocks
    """Read to precharge."""
    t_wr: Clocks
    """End of write data to precharge."""
    t_wtr_s: Clocks
    """End of write data to a read in another bank group."""
    t_wtr_l: Clocks
    """End of write data to a read in the same bank group."""
    t_rtw: Clocks
    """Read to write."""
    t_ppd: Clocks
    """Precharge to precharge."""
    t_refi: Clocks = Field(gt=0)
    """From one refresh of all banks to the next; single banks are refreshed as often in all."""
    t_rfc: Clocks
    """Refresh of all banks of a pseudo-channel."""
    t_rfc_bank: Clocks
    """Refresh of one bank."""
    activate_width: HalfClocks
    """Clocks that an activation occupies the row command bus."""
    precharge_width: HalfClocks
    """Clocks that a precharge occupies the row command bus."""

    @model_validator(mode="after")
    def _refresh_leaves_time(self) -> "DramTiming":
        if self.t_rfc + max(self.t_rc, self.t_rp) >= self.t_refi:
            raise ValueError(
                f"found t_rfc = {self.t_rfc}, allowed: less than t_refi = {self.t_refi} with room "
                f"for a row in between, t_rc = {self.t_rc} and t_rp = {self.t_rp}"
            )
        return self

    @model_validator(mode="after")
    def _groups_take_turns(self) -> "DramTiming":
        most = MOST_GROUP_SLOTS * max(self.burst, self.t_ccd_s)
        if self.t_ccd_l > most:
            raise ValueError(
                f"found t_ccd_l = {self.t_ccd_l}, allowed: at most {most}, the time of "
                f"{MOST_GROUP_SLOTS} bursts in different groups"
            )
        return self


class DramEnergy(Spec):
    """Energy per command, with what the interface adds, and power of a channel without any."""

    activate: Picojoules
    """Opening and closing a row, in picojoules."""
    read: PicojoulesPerByte
    """Moving one byte from an open row to the die, in pJ."""
    write: PicojoulesPerByte
    """Moving one byte from the die to an open row, in pJ."""
    refresh: Picojoules
    """Refreshing all banks of a pseudo-channel once, in picojoules."""
    standby: Watts
    """Power of a channel, in watts."""


class DramSpec(ExtendableSpec):
    """A DRAM standard in one speed and density."""

    name: Name
    """Name; also the key of the area of a channel in the technology file."""
    description: str = ""
    """What the numbers stand for and how far to trust them."""
    shape: DramShape
    """Channels, banks, rows and columns of one stack or device."""
    timing: DramTiming
    """Least times between commands."""
    energy: DramEnergy
    """Energy per command."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Key path (or a prefix of it) -> where the number comes from, or `assumption: <reason>`."""

    @property
    def capacity_bytes(self) -> int:
        """Size of one stack or device."""
        s = self.shape
        banks = s.channels * s.pseudo_channels * s.ranks * s.bank_groups * s.banks
        return banks * s.rows * s.columns * s.burst

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Rate of all data pins of one stack or device."""
        pseudo_channels = self.shape.channels * self.shape.pseudo_channels
        return pseudo_channels * self.shape.burst / (self.timing.burst * self.timing.t_ck)


class ControllerSpec(Spec):
    """The controller of a channel: what it can see and in which order it serves."""

    window: PositiveInt = Field(default=64, le=1024)
    """Read bursts of a channel among which the controller chooses: open rows first."""
    write_window: PositiveInt = Field(default=64, le=1024)
    """Write bursts of a channel that wait until enough of them make a turn worth while."""
    drain_above: float = Field(default=0.8, ge=0, le=1)
    """Share of the write window above which writes go before reads."""
    drain_below: float = Field(default=0.2, ge=0, le=1)
    """Share of the write window below which reads go before writes again."""
    max_row_hits: int = Field(default=16, ge=0, le=2**20)
    """Bursts of an open row before an older one for another row may close it; 0: any burst may."""

    @model_validator(mode="after")
    def _draining_ends_below_where_it_begins(self) -> "ControllerSpec":
        if self.drain_below > self.drain_above:
            raise ValueError(
                f"found drain_below = {self.drain_below:g}, allowed: at most drain_above = "
                f"{self.drain_above:g}"
            )
        return self
