"""What every unit of a core tells the engine, the accounts and the report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from accelsim.config.spec import Spec
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity
from accelsim.program.ops import OPERAND_SHIFT, Unit
from accelsim.program.program import Program

Path = tuple[str, ...]
"""Keys that lead to a field of a machine, or of one of its units."""
Counts = npt.NDArray[np.int64]

# Columns of a unit's row of actions: bytes of the memories that units share, then its own.
SCRATCHPAD_READ, SCRATCHPAD_WRITE, ACCUMULATOR_READ, ACCUMULATOR_WRITE, FIRST_OWN = range(5)
NUM_FORMATS = len(Format)
ACCUMULATOR_BYTES = 4
"""Bytes of a sum."""


class Sram(NamedTuple):
    """A memory of a unit; an `Activity` has the bytes that are read and written under its name."""

    path: Path
    """Field of the unit with the capacity."""
    capacity_bytes: int


class Technology(Protocol):
    """What a unit asks of a technology."""

    def cost_of(self, unit: str, number_format: Format | None = None) -> Any:
        """Return the costs of a unit by its key, or those for one format; raises if unknown."""


class UnitSpec(Spec):
    """A unit of a machine. What is said here holds for a unit that does not say otherwise."""

    @property
    def latency_cycles(self) -> int:
        """Cycles from the end of an op on the unit until other units see its result."""
        return 0

    @property
    def setup_s(self) -> float:
        """What a launch takes longer when items of its phase use the unit, in seconds."""
        return 0.0

    @property
    def number_formats(self) -> tuple[Format, ...]:
        """Formats of the operands that the unit takes."""
        return tuple(Format)

    @property
    def srams(self) -> Mapping[str, Sram]:
        """Memories that are the unit's own, by component."""
        return {}

    def check(self, program: Program, machine: str) -> None:
        """Raise DoesNotFitError if the unit lacks what an op of the program needs.

        Formats are checked without its help. machine: the name of its machine.
        """


class ArithmeticSpec(UnitSpec):
    """A unit that computes: its logic has energy and area, and it may do multiply-accumulates."""

    @property
    def costed(self) -> Mapping[Path, Format | None]:
        """Fields that need costs of the technology, with the format whose costs they need."""
        raise NotImplementedError

    @property
    def costed_elsewhere(self) -> Mapping[Path, tuple[str, Format | None]]:
        """Fields that need costs under another key of the technology: the key, and the format."""
        return {}

    def energy_pj(self, activity: Activity, technology: Technology) -> float:
        """Return the energy of the logic, in pJ."""
        raise NotImplementedError

    def area_mm2(self, technology: Technology) -> float:
        """Return the area of the logic of one core, in mm2."""
        raise NotImplementedError

    def peak_cycles(self, activity: Activity) -> float:
        """Return the cycles of one unit at its peak rate for its multiply-accumulates."""
        del activity
        return 0.0

    @property
    def idle_macs_per_cycle(self) -> float:
        """Peak rate of one unit that has nothing to do."""
        return 0.0


@dataclass(frozen=True, eq=False)
class UnitModel:
    """How a unit takes part in a run. All of it holds without the unit too, whose spec is None."""

    unit: Unit
    key: str
    """Of its spec in a machine, and of its costs in a technology."""
    shape_of: Callable[[Any, float], NamedTuple]
    """Spec and rate of the scratchpad's port, in bytes per cycle, to what compiled code needs."""
    busy_cycles: Callable[..., int]
    """Words of an op and shape to the cycles that the op occupies the unit; compiled."""
    count: Callable[..., None]
    """Adds the actions of an op to the row of the unit: words, shape and the row; compiled."""
    num_actions: int = 0
    """Columns of its own, from FIRST_OWN on."""
    named_actions: Mapping[str, int] = field(default_factory=dict)
    """Names under which an `Activity` has some of these columns."""
    actions: Callable[[Counts], dict[str, Any]] = lambda _: {}
    """The row of the unit to other fields of an `Activity`."""
    second_format_shift: int = OPERAND_SHIFT
    """Field of the head with the format of the right operand, if it may be another."""
