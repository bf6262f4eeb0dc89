"""The move engine of one core, from the accumulator, whose rate is its own, to the scratchpad."""

from collections.abc import Mapping
from typing import NamedTuple

from accelsim.config.spec import Bytes, BytesPerCycle
from accelsim.hardware.units.base import (
    ACCUMULATOR_READ,
    SCRATCHPAD_WRITE,
    Sram,
    UnitModel,
    UnitSpec,
)
from accelsim.hardware.units.cycles import ceil_cycles
from accelsim.program.ops import Unit
from accelsim.runtime.jit import jit_inner


class AccumulatorSpec(UnitSpec):
    """SRAM beside the matrix unit that holds its 32-bit results."""

    capacity: Bytes
    """Size per core, in bytes."""
    bandwidth: BytesPerCycle
    """Rate of the move engine from the accumulator to the scratchpad, in bytes per cycle."""

    @property
    def srams(self) -> Mapping[str, Sram]:
        """The accumulator."""
        return {"accumulator": Sram(("capacity",), self.capacity)}


class MoveShape(NamedTuple):
    """What compiled code needs of the unit."""

    accumulator_bytes_per_cycle: float
    port_bytes_per_cycle: float


def _shape_of(spec: AccumulatorSpec, port_bytes_per_cycle: float) -> MoveShape:
    return MoveShape(float(spec.bandwidth), port_bytes_per_cycle)


@jit_inner
def _busy_cycles(op, shape):
    """Cycles to read an accumulator tile or to write it to the scratchpad."""
    reading = ceil_cycles(float(op.c), shape.accumulator_bytes_per_cycle)
    return max(reading, ceil_cycles(float(op.d), shape.port_bytes_per_cycle))


@jit_inner
def _count(op, shape, counts):
    counts[ACCUMULATOR_READ] += op.c
    counts[SCRATCHPAD_WRITE] += op.d


MOVE = UnitModel(Unit.MOVE, "accumulator", _shape_of, _busy_cycles, _count)
