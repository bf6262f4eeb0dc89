"""The memory system: one function, `request`, that both engines call in the order of time.

A transfer requested at time t is answered with the cycle at which its last byte has arrived. The
state lives in plain integer arrays, so that the compiled engine can carry it.
"""

from typing import NamedTuple

import numpy as np

from accelsim.engine.banked.hbm import counted
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
from accelsim.engine.flat import FlatChannels, borrowed_flat, new_slices, serve_flat
from accelsim.engine.hbm import Hbm, borrowed_hbm, new_hbm, serve_pieces, serve_transfer
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.jit import borrow, jit, jit_inner
from accelsim.program.activity import DramCommands, MemoryTraffic
from accelsim.program.ops import B, C
from accelsim.program.program import Program, Words
from accelsim.program.transfer import row_address


class Memory(NamedTuple):
    """Everything between the DMA queues and the DRAM cells: parameters and state."""

    latency_cycles: int
    """Cycles that a byte travels from the first memory that may have it."""
    cache: Cache
    slices: FlatChannels
    """The ports of the cache, which serve like channels."""
    hbm: Hbm


def new_memory(machine: MachineSpec, program: Program) -> Memory:
    """Return the idle memory of a machine for the transfers of a program."""
    most_bursts = 0
    if isinstance(machine.hbm, BankedHbmSpec):
        most_bursts = _most_bursts(program, machine.hbm.dram.shape.burst, machine.l2)
    most_pieces = _most_pieces(program, machine.l2.sector) if machine.l2 else 0
    return Memory(
        machine.l2_latency_cycles if machine.l2 else machine.hbm_latency_cycles,
        new_cache(machine.l2, 2 * most_pieces),
        new_slices(machine),
        new_hbm(machine, program.gathered_rows, most_bursts),
    )


def _most_bursts(program: Program, burst_bytes: int, l2: L2Spec | None) -> int:
    """Return the most bursts that one transfer can cause, with whole lines that it evicts."""
    bursts = _most_pieces(program, burst_bytes)
    if l2 is None:
        return bursts
    per_line = l2.line // burst_bytes + 2
    return bursts + 2 * _most_pieces(program, l2.line) * per_line


def dram_commands(memory: Memory, machine: MachineSpec, cycles: int) -> DramCommands | None:
    """Return what a banked memory did in a run of `cycles`, with the writes that still wait.

    None where the memory is flat.
    """
    hbm = machine.hbm
    if not isinstance(hbm, BankedHbmSpec):
        return None
    channels, timing = counted(memory.hbm.banked), hbm.dram.timing
    burst_bytes = hbm.dram.shape.burst
    intervals = int(cycles / machine.clock / (timing.t_refi * timing.t_ck))
    return DramCommands(
        activations=int(channels["activates"].sum()),
        read_bursts=int(channels["read_bursts"].sum()),
        # What is dirty in the cache at the end is written without new rows.
        write_bursts=int(channels["write_bursts"].sum()) + dirty_bytes(memory.cache) // burst_bytes,
        row_hits=int(channels["row_hits"].sum()),
        refreshes=intervals * hbm.channels * hbm.dram.shape.pseudo_channels,
    )


def _most_pieces(program: Program, piece_bytes: int) -> int:
    """Return the most pieces of aligned bytes that any transfer touches, counted row by row."""
    transfers = program.ops[program.hbm_bytes > 0]
    pieces: Words = transfers[:, B] * (transfers[:, C] // piece_bytes + 2)
    return int(pieces.max(initial=0))


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

    Requests must come in the order of time.
    """
    if memory.cache.state[0].num_sets == 0:
        return serve_transfer(memory.hbm, time_cycles, transfer)
    return _request_cached(memory, time_cycles, transfer)


@jit_inner
def _request_cached(memory, time_cycles, transfer):
    cache = borrowed_cache(memory.cache)
    state = cache.state[0]
    begin_transfer(cache, time_cycles)
    arrived = np.int64(0)
    slices, gathered_rows = borrowed_flat(memory.slices), borrow(memory.hbm.gathered_rows)
    num_bytes = transfer.rows * transfer.row_bytes
    # As in the flat HBM: no pitch of rows keeps a transfer on a few of the slices.
    served = serve_flat(slices, time_cycles, row_address(transfer, 0, gathered_rows), num_bytes)
    for row in range(transfer.rows):
        address = row_address(transfer, row, gathered_rows)
        if transfer.is_write:
            write_run(cache, address, transfer.row_bytes)
        else:
            arrived = max(arrived, read_run(cache, address, transfer.row_bytes))
    fetched = serve_pieces(
        memory.hbm,
        time_cycles,
        cache.pieces,
        state.num_pieces,
        state.writes_through and transfer.is_write,
    )
    end_transfer(cache, fetched)
    return max(served + memory.latency_cycles, fetched, arrived)


@jit_inner
def borrowed_memory(memory):
    """Return the same memory, its state as borrowed views."""
    return Memory(
        memory.latency_cycles,
        borrowed_cache(memory.cache),
        borrowed_flat(memory.slices),
        borrowed_hbm(memory.hbm),
    )
