"""What one walk over the ops of a program finds: units, numbers of ops, bytes of transfers."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.program.ops import (
    FIELD_MASK,
    FIRST_MEMORY_UNIT,
    HEAD,
    NUM_OPS,
    NUM_UNITS,
    TENSOR_MASK,
    TENSOR_SHIFT,
    UNIT_OF_OP,
    B,
    C,
    Unit,
)
from accelsim.runtime.jit import jit

_STORE = Unit.STORE.value
_UNITS = np.array(UNIT_OF_OP, np.int8)
Words = npt.NDArray[np.int64]


class Requested(NamedTuple):
    """Bytes that the transfers of a program ask for."""

    read_bytes: int
    """Of all loads and gathers."""
    write_bytes: int
    """Of all stores."""
    bytes_by_tensor: tuple[int, ...]
    """Of both, for each tensor."""


class Totals(NamedTuple):
    """Of all ops of a program."""

    units: npt.NDArray[np.int8]
    """Unit of every op."""
    counts: Words
    """Ops of every op code."""
    read_bytes: Words
    """Bytes that loads and gathers move, by tensor."""
    write_bytes: Words
    """Bytes that stores move, by tensor."""
    most_bytes: int
    """Bytes of the largest transfer."""
    phases_with: npt.NDArray[np.bool_]
    """Whether a phase has an op of a unit: [phase, unit]."""

    @property
    def requested(self) -> Requested:
        """The bytes that all transfers ask for."""
        by_tensor = self.read_bytes + self.write_bytes
        read_bytes, write_bytes = int(self.read_bytes.sum()), int(self.write_bytes.sum())
        return Requested(read_bytes, write_bytes, tuple(by_tensor.tolist()))


def totals_of(
    ops: Words, item_start: Words, item_phase: Words, num_phases: int, num_tensors: int
) -> Totals:
    """Return the totals of the ops of all items, which begin at item_start."""
    units, counts = np.empty(len(ops), np.int8), np.zeros(NUM_OPS, np.int64)
    moved = np.zeros((2, num_tensors), np.int64)
    phases_with = np.zeros((num_phases, NUM_UNITS), np.bool_)
    most_bytes = _walk(ops, item_start, item_phase, units, counts, moved, phases_with)
    return Totals(units, counts, moved[0], moved[1], most_bytes, phases_with)


@jit
def _walk(ops, item_start, item_phase, units, counts, moved, phases_with):
    """Note and count all ops; return the bytes of the largest transfer."""
    most_bytes = 0
    for item in range(len(item_phase)):
        for i in range(item_start[item], item_start[item + 1]):
            op = ops[i, HEAD] & FIELD_MASK
            units[i] = _UNITS[op]
            counts[op] += 1
            phases_with[item_phase[item], units[i]] = True
            if units[i] >= FIRST_MEMORY_UNIT:
                tensor = (ops[i, HEAD] >> TENSOR_SHIFT) & TENSOR_MASK
                own = ops[i, B] * ops[i, C]
                most_bytes = max(most_bytes, own)
                if tensor < moved.shape[1]:  # The verifier tells of others.
                    moved[int(units[i] == _STORE), tensor] += own
    return most_bytes
