"""What one NPU is: the specs of its units and memories. Nothing here knows a machine's name."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accelsim.config.spec import (
    Bytes,
    BytesPerCycle,
    ExtendableSpec,
    Factor,
    Hertz,
    Name,
    Seconds,
    Spec,
    Watts,
)
from accelsim.errors import DoesNotFitError
from accelsim.hardware.counts import Count, Cycles
from accelsim.hardware.hbm import HbmSpec
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.matrix import Cube
from accelsim.numerics.formats import Format

PE_BITS = 4
"""Bits of both operands of one processing element of an integer array."""


class IntMacSpec(Spec):
    """Output-stationary array of 4-bit multipliers whose accumulators can be doubled in place.

    After the Multi-Scale Systolic Array of Tender (ISCA 2024, arXiv 2406.12930): operands of 8 bits
    take two rows or columns of elements, so that INT8 x INT8 runs on 2 x 2 of them.
    """

    rows: Count
    """Rows of processing elements; each takes 4 bits of a row of the left operand."""
    cols: Count
    """Columns of processing elements; each takes 4 bits of a column of the right operand."""
    formats: tuple[Literal[Format.INT4, Format.INT8], ...] = Field(
        default=(Format.INT4, Format.INT8), min_length=1
    )
    """Operand formats; both operands of a product may differ."""
    accumulator_bits: Annotated[int, Field(ge=8, le=32)] = 32
    """Bits of an accumulator."""
    overflow: Literal["wrap", "saturate"] = "wrap"
    """What an accumulator does with a sum that it cannot hold; either is counted."""
    can_shift: bool = True
    """Whether accumulators can be doubled in place, in one cycle."""
    pipeline_depth_cycles: Cycles
    """Cycles from the last step of an op until its result can be read by another unit."""
    index_buffer: Bytes
    """Capacity of the memory for the order of channels, in bytes."""

    def block(self, bits: int) -> int:
        """Return the rows or columns of elements that an operand of `bits` takes."""
        return -(-bits // PE_BITS)


class VectorCosts(Spec):
    """Passes of all lanes that one vector op takes per group of lanes, in cycles."""

    add: Factor
    """Addition or subtraction."""
    multiply: Factor
    """Multiplication."""
    maximum: Factor
    """Element-wise maximum."""
    divide: Factor
    """Division."""
    exp: Factor
    """Exponential."""
    reduce: Factor
    """Sum or maximum along a row, per input element."""
    select: Factor
    """Masking: choose between a value and a constant."""
    convert: Factor
    """Change of number format."""
    fill: Factor
    """Write of a constant."""
    compact: Factor | None = None
    """Columns of a mask moved to the front, with their numbers; absent: the unit cannot."""
    exchange: Factor | None = None
    """One pass of a sort: every element is compared and moved; absent: the unit cannot."""
    histogram: Factor | None = None
    """One pass of counting digits; absent: the unit cannot."""
    square_root: Factor | None = None
    """Square root; absent: the unit cannot."""


class VectorSpec(Spec):
    """Element-wise and reduction unit."""

    lanes: dict[Format, Count] = Field(min_length=1)
    """Elements processed per cycle for each format the unit supports."""
    issue_cycles: Cycles
    """Fixed cycles an op occupies the unit before its first element."""
    pipeline_depth_cycles: Cycles
    """Cycles from the last element of an op until its result can be read by another unit."""
    costs: VectorCosts
    """Cost table per operation."""


class ScratchpadSpec(Spec):
    """Software-managed SRAM that kernels allocate buffers from."""

    capacity: Bytes
    """Size per core, in bytes."""
    bandwidth: BytesPerCycle
    """What each compute unit can read and write together, in bytes per cycle."""


class AccumulatorSpec(Spec):
    """SRAM beside the matrix unit that holds its 32-bit results."""

    capacity: Bytes
    """Size per core, in bytes."""
    bandwidth: BytesPerCycle
    """Rate of the move engine from the accumulator to the scratchpad, in bytes per cycle."""


class DmaSpec(Spec):
    """One in-order queue between HBM and the scratchpad."""

    bandwidth: BytesPerCycle
    """Peak rate of the queue of one core, in bytes per cycle."""
    in_flight: Count
    """Transfers that may be outstanding at once."""


class PowerSpec(Spec):
    """What the board lets a machine draw, and how energy follows the clock."""

    cap: Watts
    """Mean power of a run; the clock falls until the modeled power is at most this."""
    rails: Literal["board", "chip"] = "board"
    """What the cap is of: all of the machine, or all but its memory devices."""
    burst: Watts | None = None
    """What the chip, without its memory devices, may draw in a run of some milliseconds, before the
    cap takes hold; absent: the cap."""
    duty: Literal["single", "sustained"] = "single"
    """Whether a run stands alone and may draw the burst, or is one of many under the cap."""
    lowest_clock: Hertz
    """Clock below which the cap does not push."""
    reference_clock: Hertz
    """Clock that the energies of the technology are for."""
    energy_exponent: Annotated[float, Field(ge=0, le=2)]
    """Dynamic energy of an action grows with the clock to this power; 0: constant voltage."""

    @property
    def in_force(self) -> "PowerSpec":
        """The same, with what holds for a run of this duty as its cap."""
        if self.burst is None or self.duty == "sustained":
            return self
        return self.model_copy(update={"cap": self.burst, "rails": "chip"})


class MachineSpec(ExtendableSpec):
    """One NPU: a number of equal cores in front of a shared HBM."""

    name: Name
    """Name shown in reports."""
    description: str = ""
    """What this machine stands for."""
    technology: str
    """Name of the technology file with energy and area per action."""
    library: str = "npu"
    """Name of the library that picks the kernel of an operation and what it is told."""
    clock: Hertz
    """Frequency of all units, in hertz."""
    launch: Seconds = 0.0
    """Time from the launch of a kernel, or the end of a phase, to the first claim of an item."""
    cores: Count
    """Equal cores that share the HBM."""
    items_in_flight: Literal[1, 2] = 2
    """Work items a core holds at once: with 2, the next item's loads overlap the current one."""
    placement: Literal["greedy", "static"] = "greedy"
    """Work items go to the next free core, or item i to core i modulo the number of cores."""
    cube: Cube | None = None
    """Matrix unit of one core; absent: the machine has none."""
    int_mac: IntMacSpec | None = None
    """Shift-capable integer array of one core; absent: the machine has none."""
    vector: VectorSpec
    """Vector unit of one core."""
    scratchpad: ScratchpadSpec
    """Software-managed SRAM of one core."""
    accumulator: AccumulatorSpec
    """Accumulator SRAM of one core."""
    load: DmaSpec
    """Queue from HBM to the scratchpad of one core."""
    store: DmaSpec
    """Queue from the scratchpad of one core to HBM."""
    l2: L2Spec | None = None
    """Cache that all cores share in front of the HBM; absent: the machine has none."""
    hbm: HbmSpec
    """Shared off-chip memory."""
    power: PowerSpec | None = None
    """Limit of power; absent: none, and energy does not depend on the clock."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Key path (or a prefix of it) -> where the number comes from, or `assumption: <reason>`."""

    @model_validator(mode="after")
    def _latency_is_at_least_a_cycle(self) -> "MachineSpec":
        if self.hbm_latency_cycles < 1:
            raise ValueError(
                f"found hbm.latency = {self.hbm.latency:g} s with clock = {self.clock:g} Hz, "
                f"allowed: a latency of at least one cycle of the clock"
            )
        return self

    def cube_for(self, work: str) -> Cube:
        """Return the matrix unit; raises DoesNotFitError if there is none for `work`."""
        if self.cube is None:
            raise DoesNotFitError(
                f"machine {self.name} has no cube, which {work} uses; give machine.cube to add one"
            )
        return self.cube

    def int_mac_for(self, work: str) -> IntMacSpec:
        """Return the integer array; raises DoesNotFitError if there is none for `work`."""
        if self.int_mac is None:
            raise DoesNotFitError(
                f"machine {self.name} has no int_mac, which {work} uses; "
                f"give machine.int_mac to add one"
            )
        return self.int_mac

    @property
    def hbm_latency_cycles(self) -> int:
        """Latency of the HBM in whole cycles of the clock."""
        return round(self.hbm.latency * self.clock)

    @property
    def dynamic_energy_factor(self) -> float:
        """Dynamic energy of an action at this clock, over what the technology says."""
        if self.power is None:
            return 1.0
        return float((self.clock / self.power.reference_clock) ** self.power.energy_exponent)

    @property
    def l2_latency_cycles(self) -> int:
        """Latency of a hit in whole cycles of the clock, at least one; 0 without an L2."""
        return max(1, round(self.l2.latency * self.clock)) if self.l2 else 0

    @property
    def hbm_bytes_per_cycle(self) -> float:
        """Peak HBM bytes per cycle of the clock, all channels together."""
        return self.hbm.bandwidth / self.clock
