"""The DMA queues of one core, from HBM to the scratchpad and back; the memory times their ops."""

from typing import NamedTuple

from accelsim.config.spec import BytesPerCycle
from accelsim.hardware.counts import Count
from accelsim.hardware.units.base import SCRATCHPAD_READ, SCRATCHPAD_WRITE, UnitModel, UnitSpec
from accelsim.program.ops import Unit
from accelsim.runtime.jit import jit_inner


class DmaSpec(UnitSpec):
    """One in-order queue between HBM and the scratchpad."""

    bandwidth: BytesPerCycle
    """Peak rate of the queue of one core, in bytes per cycle."""
    in_flight: Count
    """Transfers that may be outstanding at once."""


class QueueShape(NamedTuple):
    """Compiled code needs nothing of a queue here; its rate and limit are the engine's."""

    port_bytes_per_cycle: float


def _shape_of(_: DmaSpec, port_bytes_per_cycle: float) -> QueueShape:
    return QueueShape(port_bytes_per_cycle)


@jit_inner
def _busy_cycles(op, shape):
    return 0


@jit_inner
def _count_load(op, shape, counts):
    counts[SCRATCHPAD_WRITE] += op.b * op.c


@jit_inner
def _count_store(op, shape, counts):
    counts[SCRATCHPAD_READ] += op.b * op.c


LOAD = UnitModel(Unit.LOAD, "load", _shape_of, _busy_cycles, _count_load)
STORE = UnitModel(Unit.STORE, "store", _shape_of, _busy_cycles, _count_store)
