"""The memory system: one function, `request`, that both engines call in the order of time.

A transfer requested at time t is answered with the cycle at which its last byte has arrived. The
state lives in plain integer arrays, so that the compiled engine can carry it.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine import cache as l2
from accelsim.engine.cache import (
    FETCHED_BYTES,
    HIT_BYTES,
    READ_BYTES,
    WRITE_BYTES,
    WRITTEN_BACK_BYTES,
    Cache,
    borrowed_cache,
    new_cache,
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
        new_cache(machine.l2),
        new_slices(machine),
        new_flat_hbm(machine),
    )


def traffic_of(memory: Memory, program: Program) -> MemoryTraffic:
    """Return the bytes that went over each level; dirty lines count as written back at the end."""
    if memory.cache.sets == 0:
        return MemoryTraffic(hbm_read_bytes=program.read_bytes, hbm_write_bytes=program.write_bytes)
    counts = [int(count) for count in memory.cache.counts]
    dirty = int(sum(int(mask).bit_count() for mask in memory.cache.dirty[memory.cache.dirty != 0]))
    left_bytes = dirty * memory.cache.sector_bytes
    return MemoryTraffic(
        hbm_read_bytes=counts[FETCHED_BYTES],
        hbm_write_bytes=counts[WRITTEN_BACK_BYTES] + left_bytes,
        l2_read_bytes=counts[READ_BYTES],
        l2_write_bytes=counts[WRITE_BYTES],
        l2_hit_bytes=counts[HIT_BYTES],
    )


@jit
def request(memory, time_cycles, transfer):
    """Serve a transfer requested at `time_cycles`; return the cycle at which it is complete.

    Requests must come in the order of time. In the flat HBM the rows of a strided or gathered
    transfer are taken to spread over the channels like a contiguous run of the same size; behind a
    cache every row is a run of its own.
    """
    if memory.cache.sets == 0:
        num_bytes = transfer.rows * transfer.row_bytes
        served = serve_flat(memory.flat, time_cycles, transfer.address, num_bytes)
        return served + memory.hbm_latency_cycles
    return _request_cached(memory, time_cycles, transfer)


@jit_inner
def _request_cached(memory, time_cycles, transfer):
    cache = memory.cache
    l2.begin_transfer(cache)
    here, fetched = time_cycles, np.int64(0)
    for row in range(transfer.rows):
        address = row_address(transfer, row, memory.gathered_rows)
        served = serve_flat(memory.slices, time_cycles, address, transfer.row_bytes)
        here = max(here, served + memory.latency_cycles)
        if transfer.is_write:
            fetched = max(fetched, _write_row(memory, time_cycles, address, transfer.row_bytes))
        else:
            fetched = max(fetched, _read_row(memory, time_cycles, address, transfer.row_bytes))
    l2.end_transfer(cache, fetched)
    return max(here, fetched)


@jit_inner
def _read_row(memory, time_cycles, address, num_bytes):
    """Return the cycle in which the sectors of a run of bytes that were not there have arrived."""
    cache = memory.cache
    line_bytes, sector_bytes = cache.line_bytes, cache.sector_bytes
    end = address + num_bytes
    latest = np.int64(0)
    miss_begin = miss_end = np.int64(0)
    for line in range(address // line_bytes, (end + line_bytes - 1) // line_bytes):
        base = line * line_bytes
        first, stop = max(address, base), min(end, base + line_bytes)
        wanted = l2.sectors_of(first - base, stop - base, sector_bytes)
        index, way = _place(memory, time_cycles, line)
        missing = wanted & ~cache.valid[index, way]
        if missing != wanted:
            latest = max(latest, l2.arrival_of(cache, index, way))
        cache.counts[READ_BYTES] += stop - first
        if not missing:
            cache.counts[HIT_BYTES] += stop - first
            continue
        hit_bytes = l2.bytes_of(wanted & ~missing, sector_bytes)
        cache.counts[HIT_BYTES] += min(hit_bytes, stop - first)
        cache.valid[index, way] |= missing
        cache.fetched_by[index, way] = cache.clock[1]
        # Sectors that miss are fetched in runs as long as they come.
        sector = 0
        while missing >> sector:
            if (missing >> sector) & 1:
                begin = base + sector * sector_bytes
                if begin != miss_end:
                    latest = max(latest, _fetch(memory, time_cycles, miss_begin, miss_end))
                    miss_begin = begin
                miss_end = begin + sector_bytes
            sector += 1
    return max(latest, _fetch(memory, time_cycles, miss_begin, miss_end))


@jit_inner
def _write_row(memory, time_cycles, address, num_bytes):
    """Return the cycle in which a run of bytes is in the HBM, if stores go through to it."""
    cache = memory.cache
    line_bytes = cache.line_bytes
    end = address + num_bytes
    for line in range(address // line_bytes, (end + line_bytes - 1) // line_bytes):
        base = line * line_bytes
        first, stop = max(address, base), min(end, base + line_bytes)
        written = l2.sectors_of(first - base, stop - base, cache.sector_bytes)
        index, way = _place(memory, time_cycles, line)
        cache.valid[index, way] |= written
        if not cache.writes_through:
            cache.dirty[index, way] |= written
    cache.counts[WRITE_BYTES] += num_bytes
    if not cache.writes_through:
        return np.int64(0)
    cache.counts[WRITTEN_BACK_BYTES] += num_bytes
    return serve_flat(memory.flat, time_cycles, address, num_bytes) + memory.hbm_latency_cycles


@jit_inner
def _place(memory, time_cycles, line):
    """Return the set and way of a line, after making room for it where it was not there."""
    cache = memory.cache
    index, way = l2.find(cache, line)
    if way < 0:
        way = l2.victim(cache, index)
        _write_back(memory, time_cycles, index, way)
        l2.replace(cache, index, way, line)
    l2.touch(cache, index, way)
    return index, way


@jit_inner
def _write_back(memory, time_cycles, index, way):
    """Hand the dirty sectors of a way to the HBM; nobody waits for them."""
    cache = memory.cache
    dirty = cache.dirty[index, way]
    if not dirty:
        return
    num_bytes = l2.bytes_of(dirty, cache.sector_bytes)
    cache.counts[WRITTEN_BACK_BYTES] += num_bytes
    serve_flat(memory.flat, time_cycles, cache.tags[index, way] * cache.line_bytes, num_bytes)


@jit_inner
def _fetch(memory, time_cycles, begin, end):
    """Read a run of bytes from the HBM; return the cycle in which it is there."""
    if end == begin:
        return np.int64(0)
    memory.cache.counts[FETCHED_BYTES] += end - begin
    return serve_flat(memory.flat, time_cycles, begin, end - begin) + memory.hbm_latency_cycles


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
