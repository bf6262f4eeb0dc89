"""What a process technology costs: energy per action, area and static power, each with a source."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from pydantic import Field, PrivateAttr, model_validator

from accelsim.config.spec import (
    Bytes,
    Name,
    Picojoules,
    PicojoulesPerByte,
    Size,
    Spec,
    SquareMillimetres,
    Watts,
)
from accelsim.errors import ConfigError, UnknownNameError, unknown_name
from accelsim.numerics.formats import Format

ASSUMPTION = "assumption: "
UNVERIFIED = "from memory, unverified: "

T = TypeVar("T")


class Sourced(Spec, Generic[T]):
    """A physical constant together with where it comes from."""

    value: T
    """The constant with its unit."""
    source: str = Field(min_length=1)
    """Key of `references` with details, `assumption: ...` or `from memory, unverified: ...`."""


class MacCost(Spec):
    """One multiply-accumulate unit of the cube for one format of its operands."""

    multiply: Sourced[Picojoules]
    """Energy of one product, in picojoules."""
    accumulate: Sourced[Picojoules]
    """Energy of adding one product to a 32-bit sum, in picojoules."""
    area: Sourced[SquareMillimetres]
    """Area of one multiplier and its 32-bit adder, in mm2."""


class IntMacCost(Spec):
    """One processing element of the integer array: a 4-bit multiplier and its accumulator.

    A product of wider operands takes one multiplier for each pair of 4-bit parts, adds their
    results in half as wide adders, and the sum to one accumulator.
    """

    multiply: Sourced[Picojoules]
    """Energy of one 4-bit product, in picojoules."""
    accumulate: Sourced[Picojoules]
    """Energy of adding one product to a 32-bit accumulator, in picojoules."""
    shift: Sourced[Picojoules]
    """Energy of doubling one accumulator, in picojoules."""
    area: Sourced[SquareMillimetres]
    """Area of one multiplier and its accumulator, in mm2."""
    shift_area: Sourced[SquareMillimetres]
    """Area of what lets one accumulator shift, in mm2."""


class VectorLaneCost(Spec):
    """One lane of the vector unit for one format."""

    area: Sourced[SquareMillimetres]
    """Area of one lane with all its operations, in mm2."""
    add: Sourced[Picojoules]
    """Energy of one addition or subtraction, in picojoules."""
    multiply: Sourced[Picojoules]
    """Energy of one multiplication, in picojoules."""
    maximum: Sourced[Picojoules]
    """Energy of one maximum, in picojoules."""
    divide: Sourced[Picojoules]
    """Energy of one division, in picojoules."""
    exp: Sourced[Picojoules]
    """Energy of one exponential, in picojoules."""
    reduce: Sourced[Picojoules]
    """Energy per input element of a sum or maximum along a row, in picojoules."""
    select: Sourced[Picojoules]
    """Energy of one choice between two values, in picojoules."""
    convert: Sourced[Picojoules]
    """Energy of one change of number format, in picojoules."""
    fill: Sourced[Picojoules]
    """Energy of writing one constant, in picojoules."""
    compact: Sourced[Picojoules]
    """Energy per input element of moving kept columns to the front, in picojoules."""
    exchange: Sourced[Picojoules]
    """Energy per element of one pass of a sort, in picojoules."""
    histogram: Sourced[Picojoules]
    """Energy per element of one pass of counting digits, in picojoules."""
    square_root: Sourced[Picojoules]
    """Energy of one square root, in picojoules."""


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
    """Part of `energy` that the memory devices draw, which have power rails of their own; absent:
    not known, and counted as the chip's."""
    channel_area: Sourced[SquareMillimetres]
    """Area of the controller and physical interface of one channel on the die, in mm2."""
    channel_static_power: Sourced[Watts]
    """Power of one idle channel and the memory behind it, in watts."""

    @model_validator(mode="after")
    def _devices_draw_at_most_all(self) -> "DramCost":
        if self.device_energy and self.device_energy.value > self.energy.value:
            raise ValueError(
                f"found device_energy = {self.device_energy.value:g} pJ/B, which is a part of "
                f"energy, allowed: at most {self.energy.value:g} pJ/B"
            )
        return self


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
    vector: dict[Format, VectorLaneCost] = Field(min_length=1)
    """Vector lanes by format."""
    logic_static_power_per_mm2: Sourced[Watts]
    """Static power of one mm2 of arithmetic, in watts."""
    sram: SramTable
    """Scratchpads, accumulators and operand buffers."""
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

    def mac(self, operand: Format) -> MacCost:
        """Return the costs of a cube whose operands are `operand`; raises UnknownNameError."""
        return self._named(self.cube, "cube format", operand)

    def processing_element(self) -> IntMacCost:
        """Return the costs of an element of an integer array; raises ConfigError without them."""
        if self.int_mac is None:
            raise ConfigError([f"technology '{self.name}' has no int_mac, which the machine needs"])
        return self.int_mac

    def vector_lane(self, number_format: Format) -> VectorLaneCost:
        """Return the costs of a vector lane; raises UnknownNameError."""
        return self._named(self.vector, "vector format", number_format)

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
