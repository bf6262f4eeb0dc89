"""How often each action happened: what a run hands to the energy account."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from accelsim.numerics.formats import Format


@dataclass(frozen=True, kw_only=True)
class DramCommands:
    """Commands of a banked memory over a whole run."""

    activations: int
    """Rows opened."""
    read_bursts: int
    write_bursts: int
    row_hits: int
    """Bursts whose row had been opened for an earlier one."""
    refreshes: int
    """Refreshes of all banks of a pseudo-channel; those of single banks count as their share."""


@dataclass(frozen=True, kw_only=True)
class MemoryTraffic:
    """Bytes that all DMA queues together moved over each level of the memory."""

    hbm_read_bytes: int
    """Bytes read from HBM."""
    hbm_write_bytes: int
    """Bytes written to HBM."""
    hbm_bytes_by_tensor: tuple[int, ...] = ()
    """The sum of both for each tensor of the program."""
    l2_read_bytes: int = 0
    """Bytes that load queues read from the L2."""
    l2_write_bytes: int = 0
    """Bytes that store queues wrote to the L2."""
    l2_hit_bytes: int = 0
    """Bytes of the reads that were in the L2, or on the way to it."""


@dataclass(frozen=True, kw_only=True)
class Activity(MemoryTraffic):
    """Action counts of all cores together, over a whole run."""

    macs: Mapping[Format, int]
    """Multiply-accumulates of the cube by format of the operands."""
    int_macs: Mapping[tuple[Format, Format], int] = field(default_factory=dict)
    """Multiply-accumulates of the integer array by format of the left and the right operand."""
    index_buffer_read_bytes: int = 0
    """Bytes of channel numbers that the integer array read from its index buffer."""
    actions: Mapping[str, int] = field(default_factory=dict)
    """Other actions of single units by name, such as `accumulator_shifts` of the integer array."""
    vector_elements: Mapping[tuple[str, Format], int]
    """Elements by vector op, named as a field of `VectorCosts`, and format."""
    widened_elements: Mapping[tuple[Format, Format], int] = field(default_factory=dict)
    """Elements that the vector unit converted to a wider format, by both formats; they count among
    those of `convert`, too."""
    scratchpad_read_bytes: int
    """Bytes that units and store queues read from the scratchpads."""
    scratchpad_write_bytes: int
    """Bytes that units and load queues wrote to the scratchpads."""
    operand_buffer_read_bytes: int
    """Bytes that the cube read from the buffers next to its array."""
    operand_buffer_write_bytes: int
    """Bytes written to the buffers next to the cube's array."""
    accumulator_read_bytes: int
    """Bytes read from the accumulators, by the cube to add to and by the move engine."""
    accumulator_write_bytes: int
    """Bytes written to the accumulators."""
    seconds: float
    """Duration of the run."""
    dram: DramCommands | None = None
    """Commands of a banked memory; None where the memory is flat."""
