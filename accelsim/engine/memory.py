"""The memory system: one function, `request`, that both engines call in the order of time.

A transfer requested at time t is answered with the cycle at which its last byte has arrived. The
state lives in plain integer arrays, so that the compiled engine can carry it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.cache import (
    Cache,
    begin_transfer,
    borrowed_cache,
    dirty_bytes,
    end_transfer,
    new_cache,
    read_run,
    write_run,
)
from accelsim.engine.flat import FlatChannels, borrowed_flat, new_flat_hbm, new_slices, serve_flat
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import borrow, jit, jit_inner
from accelsim.program.activity import MemoryTraffic
from accelsim.program.program import Program
from accelsim.program.transfer import row_address

_NO_ROWS = np.zeros(0, np.int64)


class Memory(NamedTuple):
    """Everything between the DMA queues and the DRAM cells: parameters and state."""

    latency_cycles: int
    """Cycles that a byte travels from the first memory that may have it."""
    hbm_latency_cycles: int
    """Cycles that a byte of the HBM travels."""
    gathered_rows: npt.NDArray[np.int64]
    """Row numbers of all gathers of the program."""
    cache: Cache
    slices: FlatChannels
    """The ports of the cache, which serve like channels."""
    flat: FlatChannels


def new_memory(machine: MachineSpec, gathered_rows: npt.NDArray[np.int64] = _NO_ROWS) -> Memory:
    """Return the idle memory of a machine, for a program with these `gathered_rows`."""
    return Memory(
        machine.l2_latency_cycles if machine.l2 else machine.hbm_latency_cycles,
        machine.hbm_latency_cycles,
        gathered_rows,
        new_cache(machine.l2, machine.hbm_latency_cycles),
        new_slices(machine),
        new_flat_hbm(machine),
    )


def traffic_of(memory: Memory, program: Program) -> MemoryTraffic:
    """Return the bytes that went over each level; dirty lines count as written back at the end."""
    counts = memory.cache.state[0]
    if counts.num_sets == 0:
        return MemoryTraffic(hbm_read_bytes=program.read_bytes, hbm_write_bytes=program.write_bytes)
    return MemoryTraffic(
        hbm_read_bytes=int(counts.fetched_bytes),
        hbm_write_bytes=int(counts.written_back_bytes) + dirty_bytes(memory.cache),
        l2_read_bytes=int(counts.read_bytes),
        l2_write_bytes=int(counts.write_bytes),
        l2_hit_bytes=int(counts.hit_bytes),
    )


@jit
def request(memory, time_cycles, transfer):
    """Serve a transfer requested at `time_cycles`; return the cycle at which it is complete.

    Requests must come in the order of time. In the flat HBM the rows of a strided or gathered
    transfer are taken to spread over the channels like a contiguous run of the same size; behind a
    cache every row is a run of its own.
    """
    if memory.cache.state[0].num_sets == 0:
        num_bytes = transfer.rows * transfer.row_bytes
        served = serve_flat(memory.flat, time_cycles, transfer.address, num_bytes)
        return served + memory.hbm_latency_cycles
    return _request_cached(memory, time_cycles, transfer)


@jit_inner
def _request_cached(memory, time_cycles, transfer):
    ways, state, arrivals = memory.cache.ways, memory.cache.state[0], memory.cache.arrivals
    hbm = memory.flat
    begin_transfer(memory.cache)
    here, fetched = time_cycles, np.int64(0)
    for row in range(transfer.rows):
        address, num_bytes = row_address(transfer, row, memory.gathered_rows), transfer.row_bytes
        here = max(here, serve_flat(memory.slices, time_cycles, address, num_bytes))
        if transfer.is_write:
            end = write_run(ways, state, hbm, time_cycles, address, num_bytes)
        else:
            end = read_run(ways, state, arrivals, hbm, time_cycles, address, num_bytes)
        fetched = max(fetched, end)
    end_transfer(memory.cache, fetched)
    return max(here + memory.latency_cycles, fetched)


@jit_inner
def borrowed_memory(memory):
    """Return the same memory, its state as borrowed views."""
    return Memory(
        memory.latency_cycles,
        memory.hbm_latency_cycles,
        borrow(memory.gathered_rows),
        borrowed_cache(memory.cache),
        borrowed_flat(memory.slices),
        borrowed_flat(memory.flat),
    )
