"""The memory system: one function, `request`, that both engines call in the order of time.

A transfer requested at time t is answered with the cycle at which its last byte has arrived. The
state lives in plain integer arrays, so that the compiled engine can carry it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.banked.hbm import (
    BankedHbm,
    borrowed_banked_hbm,
    new_banked_hbm,
    no_banked_hbm,
    serve_banked,
)
from accelsim.engine.flat import (
    FlatHbm,
    borrowed_flat_hbm,
    new_flat_hbm,
    no_flat_hbm,
    serve_flat,
)
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import borrow, jit, jit_inner
from accelsim.program.ops import B, C
from accelsim.program.program import Program, Words


class Memory(NamedTuple):
    """Everything between the DMA queues and the DRAM cells: parameters and state."""

    latency_cycles: int
    """Cycles that a byte travels after it has been served."""
    gathered_rows: npt.NDArray[np.int64]
    """Row numbers of all gathers of the program."""
    is_banked: bool
    """Whether `banked` serves, or `flat`; both have one type, so that engines compile once."""
    flat: FlatHbm
    banked: BankedHbm


def new_memory(machine: MachineSpec, program: Program) -> Memory:
    """Return the idle memory of a machine for the transfers of a program."""
    hbm = machine.hbm
    is_banked = isinstance(hbm, BankedHbmSpec)
    if isinstance(hbm, BankedHbmSpec):
        most_bursts = _most_pieces(program, hbm.dram.shape.burst)
        flat, banked = no_flat_hbm(), new_banked_hbm(hbm, machine.clock, most_bursts)
    else:
        flat, banked = new_flat_hbm(machine), no_banked_hbm()
    return Memory(machine.hbm_latency_cycles, program.gathered_rows, is_banked, flat, banked)


def _most_pieces(program: Program, piece_bytes: int) -> int:
    """Return the most pieces of aligned bytes that any transfer touches, counted row by row."""
    transfers = program.ops[program.hbm_bytes > 0]
    pieces: Words = transfers[:, B] * (transfers[:, C] // piece_bytes + 2)
    return int(pieces.max(initial=0))


@jit
def request(memory, time_cycles, transfer):
    """Serve a transfer requested at `time_cycles`; return the cycle at which it is complete.

    Requests must come in the order of time. In the flat HBM the rows of a strided or gathered
    transfer are taken to spread over the channels like a contiguous run of the same size.
    """
    if memory.is_banked:
        served = serve_banked(memory.banked, time_cycles, transfer, memory.gathered_rows)
    else:
        num_bytes = transfer.rows * transfer.row_bytes
        served = serve_flat(memory.flat, time_cycles, transfer.address, num_bytes)
    return served + memory.latency_cycles


@jit_inner
def borrowed_memory(memory):
    """Return the same memory, its state as borrowed views."""
    return Memory(
        memory.latency_cycles,
        borrow(memory.gathered_rows),
        memory.is_banked,
        borrowed_flat_hbm(memory.flat),
        borrowed_banked_hbm(memory.banked),
    )
