"""What one NPU is: the specs of its units and memories. Nothing here knows a machine's name."""

from typing import Annotated, Literal, cast

from pydantic import Field, model_validator

from accelsim.config.spec import (
    Bytes,
    BytesPerCycle,
    ExtendableSpec,
    Hertz,
    Name,
    Seconds,
    Spec,
    Watts,
)
from accelsim.errors import DoesNotFitError
from accelsim.hardware.counts import Count
from accelsim.hardware.hbm import HbmSpec
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.units.base import UnitModel, UnitSpec
from accelsim.hardware.units.cube import CUBE, Cube
from accelsim.hardware.units.int_mac import INT_MAC, IntMacSpec
from accelsim.hardware.units.move import MOVE, AccumulatorSpec
from accelsim.hardware.units.queue import LOAD, STORE, DmaSpec
from accelsim.hardware.units.vector import VECTOR, VectorSpec
from accelsim.numerics.formats import Format
from accelsim.program.ops import Unit

__all__ = ["UNITS", "DmaSpec", "MachineSpec", "PowerSpec", "ScratchpadSpec"]

UNITS: tuple[UnitModel, ...] = (CUBE, INT_MAC, VECTOR, MOVE, LOAD, STORE)
"""The units of a core, in the order of a machine's file and of every account."""


class ScratchpadSpec(Spec):
    """Software-managed SRAM that kernels allocate buffers from."""

    capacity: Bytes
    """Size per core, in bytes."""
    bandwidth: BytesPerCycle
    """What each compute unit can read and write together, in bytes per cycle."""


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

    def at_clock(self, clock: float) -> "MachineSpec":
        """Return the machine with the clock of its die, in hertz, at another rate.

        An L2 has that clock, so it serves fewer bytes a second at a lower one, and a hit takes
        longer. The memory has a clock of its own.
        """
        changes: dict[str, object] = {"clock": clock}
        if self.l2:
            share = clock / self.clock
            rates = {"bandwidth": self.l2.bandwidth * share, "latency": self.l2.latency / share}
            changes["l2"] = self.l2.model_copy(update=rates)
        return self.model_copy(update=changes)

    @property
    def units(self) -> dict[UnitModel, UnitSpec]:
        """The units that a core has, in the order of `UNITS`."""
        found = {model: getattr(self, model.key) for model in UNITS}
        return {model: spec for model, spec in found.items() if spec is not None}

    @property
    def queues(self) -> dict[Unit, DmaSpec]:
        """The units whose ops take as long as the memory says."""
        found = {model.unit: spec for model, spec in self.units.items()}
        return {unit: spec for unit, spec in found.items() if isinstance(spec, DmaSpec)}

    def unit_for(self, model: UnitModel, work: str) -> UnitSpec:
        """Return a unit; raises DoesNotFitError if there is none for `work`."""
        spec: UnitSpec | None = getattr(self, model.key)
        if spec is None:
            raise DoesNotFitError(
                f"machine {self.name} has no {model.key}, which {work} uses; "
                f"give machine.{model.key} to add one"
            )
        return spec

    def cube_for(self, work: str) -> Cube:
        """Return the matrix unit; raises DoesNotFitError if there is none for `work`."""
        return cast(Cube, self.unit_for(CUBE, work))

    def takes_beside(self, kept: Format, other: Format) -> bool:
        """Whether the matrix unit takes elements of one format beside those of another as they are.

        Without a unit they are never converted for it.
        """
        is_taken = self.cube is None or (self.cube.mixes and kept in self.cube.rates)
        return kept == other or is_taken

    def int_mac_for(self, work: str) -> IntMacSpec:
        """Return the integer array; raises DoesNotFitError if there is none for `work`."""
        return cast(IntMacSpec, self.unit_for(INT_MAC, work))

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
