"""The cache between the cores and the off-chip memory."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from accelsim.config.spec import Bytes, BytesPerSecond, Seconds, Spec

_MAX_SECTORS = 63
"""Sectors of a line are bits of one 64-bit integer."""


class L2Spec(Spec):
    """Sectored, set-associative cache with LRU replacement, shared by all cores."""

    capacity: Bytes
    """Size of all slices, in bytes."""
    line: Bytes
    """Bytes that share a tag."""
    sector: Bytes
    """Bytes that are fetched and written back together; divides the line."""
    ways: Annotated[int, Field(gt=0, le=64)]
    """Lines of a set."""
    slices: Annotated[int, Field(gt=0, le=2**12)]
    """Equal parts that serve at the same time; lines go to them in turn."""
    bandwidth: BytesPerSecond
    """Peak rate of all slices together, in bytes per second."""
    latency: Seconds
    """Time from a request to the first byte of a hit on an idle cache, in seconds."""
    writes: Literal["back", "through"] = "back"
    """Stores reach the memory when their line is evicted, or at once; then they wait until it has
    taken them, but not for its latency."""

    @field_validator("sector")
    @classmethod
    def _sectors_fill_a_line(cls, sector: int, info: ValidationInfo) -> int:
        line = info.data.get("line", sector)
        if line % sector or line // sector > _MAX_SECTORS:
            raise ValueError(
                f"found {sector} B, allowed: a divisor of the line of {line} B, "
                f"with at most {_MAX_SECTORS} sectors in it"
            )
        return sector

    @model_validator(mode="after")
    def _lines_fill_the_sets(self) -> "L2Spec":
        if self.capacity % (self.line * self.ways):
            raise ValueError(
                f"found capacity = {self.capacity} B, allowed: a multiple of "
                f"line x ways = {self.line * self.ways} B"
            )
        return self

    @property
    def sets(self) -> int:
        """Sets of `ways` lines."""
        return self.capacity // (self.line * self.ways)

    @property
    def sector_mask(self) -> int:
        """All sectors of a line, as bits."""
        return (1 << (self.line // self.sector)) - 1
