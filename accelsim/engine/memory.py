"""The memory system: one function, `request`, that both engines call in the order of time.

A transfer requested at time t is answered with the cycle at which its last byte has arrived. The
state lives in plain integer arrays, so that the compiled engine can carry it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.flat import FlatHbm, borrowed_flat_hbm, new_flat_hbm, serve_flat
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import borrow, jit, jit_inner

_NO_ROWS = np.zeros(0, np.int64)


class Memory(NamedTuple):
    """Everything between the DMA queues and the DRAM cells: parameters and state."""

    latency_cycles: int
    """Cycles that a byte travels after it has been served."""
    gathered_rows: npt.NDArray[np.int64]
    """Row numbers of all gathers of the program."""
    flat: FlatHbm


def new_memory(machine: MachineSpec, gathered_rows: npt.NDArray[np.int64] = _NO_ROWS) -> Memory:
    """Return the idle memory of a machine, for a program with these `gathered_rows`."""
    return Memory(machine.hbm_latency_cycles, gathered_rows, new_flat_hbm(machine))


@jit
def request(memory, time_cycles, transfer):
    """Serve a transfer requested at `time_cycles`; return the cycle at which it is complete.

    Requests must come in the order of time. In the flat HBM the rows of a strided or gathered
    transfer are taken to spread over the channels like a contiguous run of the same size.
    """
    num_bytes = transfer.rows * transfer.row_bytes
    served = serve_flat(memory.flat, time_cycles, transfer.address, num_bytes)
    return served + memory.latency_cycles


@jit_inner
def borrowed_memory(memory):
    """Return the same memory, its state as borrowed views."""
    return Memory(
        memory.latency_cycles, borrow(memory.gathered_rows), borrowed_flat_hbm(memory.flat)
    )
