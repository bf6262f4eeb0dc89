"""What a process technology costs: energy per action, area and static power, each with a source."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import Field, PrivateAttr, model_validator

from accelsim.config.spec import (
    Bytes,
    BytesPerSecond,
    Name,
    PicojoulesPerByte,
    Size,
    Spec,
    SquareMillimetres,
    Watts,
)
from accelsim.errors import ConfigError, UnknownNameError, unknown_name
from accelsim.hardware.sourced import Sourced
from accelsim.hardware.units.cube import MacCost
from accelsim.hardware.units.int_mac import IntAlignCost, IntMacCost
from accelsim.hardware.units.shared_scales import ScaleCost
from accelsim.hardware.units.vector import VectorLaneCost
from accelsim.numerics.formats import Format

ASSUMPTION = "assumption: "
UNVERIFIED = "from memory, unverified: "

T = TypeVar("T")


class SramPoint(Spec):
    """One SRAM macro of the table."""

    capacity: Bytes
    """Size of the macro, in bytes."""
    read: PicojoulesPerByte
    """Energy of reading one byte, in pJ."""
    write: PicojoulesPerByte
    """Energy of writing one byte, in pJ."""
    area: SquareMillimetres
    """Area of the macro, in mm2."""
    leakage: Watts
    """Static power of the macro, in watts."""


class SramTable(Spec):
    """SRAM costs against capacity; between two points they follow a power law."""

    source: str = Field(min_length=1)
    """Where all points come from."""
    points: tuple[SramPoint, ...] = Field(min_length=2)
    """Macros in the order of their capacity."""
    _known: dict[int, SramPoint] = PrivateAttr(default_factory=dict)
    """What was interpolated before, by capacity."""

    @model_validator(mode="after")
    def _capacities_rise(self) -> "SramTable":
        capacities = [point.capacity for point in self.points]
        if sorted(set(capacities)) != capacities:
            raise ValueError("the capacities of the points must rise from each to the next")
        if any(cost == 0 for point in self.points for cost in point.model_dump().values()):
            raise ValueError("every cost of a point must be greater than 0")
        return self

    def at(self, capacity_bytes: int) -> SramPoint:
        """Return the costs of `capacity_bytes`, log-log interpolated between two points.

        Raises ValueError outside the table: a power law fitted to the last two macros can be wrong
        by several times one table length further, and would not look wrong.
        """
        if capacity_bytes in self._known:
            return self._known[capacity_bytes]
        capacities = [point.capacity for point in self.points]
        if not capacities[0] <= capacity_bytes <= capacities[-1]:
            raise ValueError(f"its table goes from {capacities[0]} to {capacities[-1]} bytes")
        above = max(bisect_left(capacities, capacity_bytes), 1)
        point = _interpolated(self.points[above - 1], self.points[above], capacity_bytes)
        return self._known.setdefault(capacity_bytes, point)


def _interpolated(low: SramPoint, high: SramPoint, capacity_bytes: int) -> SramPoint:
    share = math.log(capacity_bytes / low.capacity) / math.log(high.capacity / low.capacity)

    def between(cost: Callable[[SramPoint], float]) -> float:
        return math.exp((1 - share) * math.log(cost(low)) + share * math.log(cost(high)))

    return SramPoint(
        capacity=capacity_bytes,
        read=between(lambda point: point.read),
        write=between(lambda point: point.write),
        area=between(lambda point: point.area),
        leakage=between(lambda point: point.leakage),
    )


class DramCost(Spec):
    """Off-chip memory of one standard, with its interface on the die."""

    energy: Sourced[PicojoulesPerByte]
    """Energy of moving one byte in or out, in pJ."""
    device_energy: Sourced[PicojoulesPerByte] | None = None
    """Part of `energy` that the memory devices draw, which have rails and a clock of their own;
    absent: not known, and counted as the chip's."""
    channel_area: Sourced[SquareMillimetres]
    """Area of the controller and physical interface of one channel on the die, in mm2."""
    channel_static_power: Sourced[Watts]
    """Power of one idle channel and the memory behind it, in watts."""
    channel_bandwidth: Sourced[BytesPerSecond] | None = None
    """Peak rate of one channel with the fastest pins of the standard, in bytes per second: a higher
    rate of a machine takes more channels. Absent: not known, and the rate has no area."""

    @model_validator(mode="after")
    def _devices_draw_at_most_all(self) -> "DramCost":
        if self.device_energy and self.device_energy.value > self.energy.value:
            raise ValueError(
                f"found device_energy = {self.device_energy.value:g} pJ/B, which is a part of "
                f"energy, allowed: at most {self.energy.value:g} pJ/B"
            )
        return self


class NetworkCost(Spec):
    """What leads from the cores of a die to its L2, or to its memory where it has none."""

    energy: Sourced[PicojoulesPerByte]
    """Energy of moving one byte to a core or from it, in pJ: wires, switches, the L2 that serves
    it, the queue that takes it."""


class TechnologySpec(Spec):
    """Energy per action, area and static power of one process node and the memories around it."""

    name: Name
    """Name of the technology."""
    description: str = ""
    """What the numbers stand for and how far to trust them."""
    node_nm: Size
    """Process node, in nanometres."""
    references: dict[str, str]
    """Short name of a publication or data set -> what it is."""
    cube: dict[Format, MacCost] = Field(min_length=1)
    """Multiply-accumulate units by format of the operands."""
    int_mac: IntMacCost | None = None
    """Processing element of an integer array; absent: machines of this technology have none."""
    block_scale: dict[Format, ScaleCost] = Field(default_factory=dict)
    """Scales that a matrix unit applies to the sums of blocks, by format; absent: none can."""
    int_align: IntAlignCost | None = None
    """What aligns the sums of blocks in an integer array; absent: none can."""
    vector: dict[Format, VectorLaneCost] = Field(min_length=1)
    """Vector lanes by format."""
    logic_static_power_per_mm2: Sourced[Watts]
    """Static power of one mm2 of arithmetic, in watts."""
    sram: SramTable
    """Scratchpads, accumulators and operand buffers."""
    network: NetworkCost | None = None
    """Way of a byte between a core and what the cores share; absent: its energy is in that of the
    memory, or unknown."""
    dram: dict[str, DramCost] = Field(min_length=1)
    """Off-chip memories by standard, such as hbm2e."""

    @model_validator(mode="after")
    def _sources_are_known(self) -> "TechnologySpec":
        for source in _sources(self.model_dump()):
            known = source.split(":")[0].split(",")[0] in self.references
            if not known and not source.startswith((ASSUMPTION, UNVERIFIED)):
                raise ValueError(
                    f"the source '{source}' names none of the references "
                    f"({', '.join(self.references)}) and does not start with "
                    f"'{ASSUMPTION}' or '{UNVERIFIED}'"
                )
        return self

    def cost_of(self, unit: str, number_format: Format | None = None) -> Any:
        """Return the costs of a unit, by its key, or those for one format.

        Raises ConfigError for a unit without costs, UnknownNameError for a format without them.
        """
        costs = getattr(self, unit)
        if costs is None:
            found = f"technology '{self.name}' has no {unit}, which the machine needs"
            raise ConfigError([found])
        if number_format is None:
            return costs
        return self._named(costs, f"{unit} format", number_format)

    def memory(self, standard: str) -> DramCost:
        """Return the costs of an off-chip memory; raises UnknownNameError."""
        return self._named(self.dram, "memory standard", standard)

    def sram_of(self, memory: str, capacity_bytes: int) -> SramPoint:
        """Return the costs of the on-chip `memory`; raises ConfigError outside the table."""
        try:
            return self.sram.at(capacity_bytes)
        except ValueError as error:
            found = f"{memory} of {capacity_bytes} bytes"
            raise ConfigError([f"technology '{self.name}' has no {found}: {error}"]) from None

    def _named(self, table: Mapping[Any, T], kind: str, name: str) -> T:
        if name not in table:
            error = unknown_name(kind, name, table)
            raise UnknownNameError(f"technology '{self.name}': {error}")
        return table[name]


def _sources(node: Any) -> list[str]:
    """Every value of a key `source`, at any depth of plain data."""
    if isinstance(node, list | tuple):
        return [source for item in node for source in _sources(item)]
    if not isinstance(node, dict):
        return []
    own = [node["source"]] if isinstance(node.get("source"), str) else []
    return own + [source for item in node.values() for source in _sources(item)]
