"""The memory system: one function, `request`, that both engines call in the order of time.

A transfer requested at time t is answered with the cycle at which its last byte has arrived. The
state lives in plain integer arrays, so that the compiled engine can carry it.
"""

from math import ceil
from typing import NamedTuple

import numpy as np

from accelsim.engine.memory.arrivals import begin_transfer, end_transfer
from accelsim.engine.memory.blocks import columns_of, note_blocks, use_blocks
from accelsim.engine.memory.hbm.banked import BankedHbm, counted
from accelsim.engine.memory.hbm.door import (
    BEGIN,
    END,
    Hbm,
    borrowed_hbm,
    new_hbm,
    serve_pieces,
    serve_transfer,
)
from accelsim.engine.memory.hbm.flat import FlatChannels, borrowed_flat, new_slices, serve_flat
from accelsim.engine.memory.l2 import (
    Cache,
    borrowed_cache,
    dirty_bytes,
    dirty_lines,
    fetch_run,
    new_cache,
    pass_run,
    read_run,
    write_run,
)
from accelsim.engine.memory.l2 import let_go as let_cache_go
from accelsim.engine.memory.lone import Lone, borrowed_lone, nothing_alone
from accelsim.engine.memory.sets import NO_LINE, begin_row, begin_shares, end_shares
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.activity import DramCommands, MemoryTraffic
from accelsim.program.ops import FIRST_MEMORY_UNIT, B, C
from accelsim.program.program import Program, Words
from accelsim.program.totals import Requested
from accelsim.program.transfer import row_address
from accelsim.runtime.jit import borrow, chosen_by_type, jit, jit_inline, jit_inner

_ROWS_AHEAD = 2
"""Rows of a transfer after the one that is looked up whose lines the processor fetches already."""


class Direct(NamedTuple):
    """The HBM behind the DMA queues, without an L2."""

    latency_cycles: int
    """Cycles that a byte travels."""
    hbm: Hbm


class Cached(NamedTuple):
    """An L2 between the DMA queues and the HBM: parameters and state."""

    latency_cycles: int
    """Cycles that a byte travels from the L2."""
    hbm: Hbm
    cache: Cache
    slices: FlatChannels
    """The ports of the cache, which serve like channels."""
    tensor_begins: Words
    """First address of every tensor, ascending."""
    tensor_bytes: Words
    """HBM bytes of every tensor."""
    lone: Lone
    """Tensors that go past the cache."""


Memory = Direct | Cached
"""Everything between the DMA queues and the DRAM cells. Its type decides what is compiled."""


class Ended(NamedTuple):
    """What a run was, as the memory knows it, in the order of the fields of a schedule."""

    cycles: int
    traffic: MemoryTraffic
    dram: DramCommands | None


class Room(NamedTuple):
    """The most that one transfer can ask of a memory."""

    bursts: int
    """Of a banked HBM."""
    pieces: int
    """Of bytes that a cache fetches or evicts."""


def room_for(machine: MachineSpec, program: Program) -> Room:
    """Return the room that the largest transfer of a program takes."""
    bursts = pieces = 0
    if isinstance(machine.hbm, BankedHbmSpec):
        bursts = _most_bursts(program, machine.hbm.dram.shape.burst, machine.l2)
    if machine.l2 is not None:
        pieces = 2 * _most_pieces(program, machine.l2.sector)
    return Room(bursts, pieces)


def new_memory(
    machine: MachineSpec, program: Program, room: Room | None = None, lone: Lone | None = None
) -> Memory:
    """Return the idle memory of a machine for the transfers of a program, or others of a size.

    lone: tensors that go past a cache, if all transfers are those of the program.
    """
    room = room or room_for(machine, program)
    hbm = new_hbm(machine, program.gathered_rows, room.bursts)
    if machine.l2 is None:
        return Direct(machine.hbm_latency_cycles, hbm)
    begins = [tensor.address for tensor in program.tensors] or [0]
    return Cached(
        machine.l2_latency_cycles,
        hbm,
        new_cache(machine.l2, room.pieces),
        new_slices(machine.l2, machine.clock),
        np.array(begins, np.int64),
        np.zeros(len(begins), np.int64),
        lone or nothing_alone(len(begins)),
    )


def ended(memory: Memory, requested: Requested, machine: MachineSpec, last_end: int) -> Ended:
    """Return how long a run was and what it moved; last_end: of its ops.

    Nobody waits for what a cache writes back or a controller has queued. A run still lasts as long
    as the HBM needs for all of its bytes, as if those left at the end of a run were written during
    the next one, and those of the one before during this one.
    """
    traffic = traffic_of(memory, requested)
    moved_bytes = traffic.hbm_read_bytes + traffic.hbm_write_bytes
    cycles = max(last_end, ceil(moved_bytes / machine.hbm_bytes_per_cycle))
    return Ended(cycles, traffic, dram_commands(memory, machine, cycles))


def let_go(memory: Memory) -> None:
    """Tell that nobody uses a memory any more."""
    if isinstance(memory, Cached):
        let_cache_go(memory.cache)


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
    hbm, device = machine.hbm, memory.hbm.device
    if not isinstance(hbm, BankedHbmSpec) or not isinstance(device, BankedHbm):
        return None
    channels = counted(device)
    burst_bytes = hbm.dram.shape.burst
    dirty = dirty_bytes(memory.cache) if isinstance(memory, Cached) else 0
    return DramCommands(
        activations=int(channels["activates"].sum()),
        read_bursts=int(channels["read_bursts"].sum()),
        # What is dirty in the cache at the end is written without new rows.
        write_bursts=int(channels["write_bursts"].sum()) + dirty // burst_bytes,
        row_hits=int(channels["row_hits"].sum()),
        refreshes=refreshes_of(hbm, cycles / machine.clock),
    )


def refreshes_of(hbm: BankedHbmSpec, seconds: float) -> int:
    """Return the refreshes of all banks of a banked memory within some time."""
    timing = hbm.dram.timing
    intervals = int(seconds / (timing.t_refi * timing.t_ck))
    return intervals * hbm.channels * hbm.dram.shape.pseudo_channels


def _most_pieces(program: Program, piece_bytes: int) -> int:
    """Return the most pieces of aligned bytes that any transfer touches, counted row by row."""
    return int(_most_pieces_of(program.ops, program.units, piece_bytes))


@jit
def _most_pieces_of(ops, units, piece_bytes):
    most = 0
    for i in range(len(ops)):
        if units[i] >= FIRST_MEMORY_UNIT and ops[i, C] > 0:
            most = max(most, ops[i, B] * (ops[i, C] // piece_bytes + 2))
    return most


def traffic_of(memory: Memory, requested: Requested) -> MemoryTraffic:
    """Return the bytes that went over each level; what is dirty counts as written back."""
    if isinstance(memory, Direct):
        return MemoryTraffic(
            hbm_read_bytes=requested.read_bytes,
            hbm_write_bytes=requested.write_bytes,
            hbm_bytes_by_tensor=requested.bytes_by_tensor,
        )
    counts = memory.cache.state[0]
    addresses, dirty = dirty_lines(memory.cache)
    return MemoryTraffic(
        hbm_read_bytes=int(counts.fetched_bytes),
        hbm_write_bytes=int(counts.written_back_bytes) + int(dirty.sum()),
        hbm_bytes_by_tensor=_bytes_by_tensor(memory, addresses, dirty),
        l2_read_bytes=int(counts.read_bytes),
        l2_write_bytes=int(counts.write_bytes),
        l2_hit_bytes=int(counts.hit_bytes),
    )


def _bytes_by_tensor(memory: Cached, addresses: Words, sizes: Words) -> tuple[int, ...]:
    """Return what was counted of every tensor, with the lines of it that are dirty."""
    moved = memory.tensor_bytes.copy()
    tensors = np.searchsorted(memory.tensor_begins, addresses, side="right") - 1
    np.add.at(moved, np.maximum(tensors, 0), sizes)
    return tuple(moved.tolist())


@jit_inner
def _count_by_tensor(begins, tensor_bytes, pieces, num_pieces):
    """Count the pieces that go to the HBM: each belongs to the tensor of its first byte."""
    for i in range(num_pieces):
        tensor = _tensor_at(begins, pieces[i, BEGIN])
        tensor_bytes[tensor] += pieces[i, END] - pieces[i, BEGIN]


@jit_inner
def _tensor_at(begins, address):
    """Return the number of the tensor of a byte."""
    tensor = 0
    while tensor + 1 < begins.size and begins[tensor + 1] <= address:
        tensor += 1
    return tensor


@jit_inline
def _respond_direct(memory, time_cycles, transfer):
    return serve_transfer(memory.hbm, time_cycles, transfer)


@jit_inline
def _respond_cached(memory, time_cycles, transfer):
    cache = borrowed_cache(memory.cache)
    state = cache.state[0]
    begin_transfer(cache, time_cycles)
    slices, gathered_rows = borrowed_flat(memory.slices), borrow(memory.hbm.gathered_rows)
    num_bytes = transfer.rows * transfer.row_bytes
    # As in the flat HBM: no pitch of rows keeps a transfer on a few of the slices.
    served = serve_flat(slices, time_cycles, row_address(transfer, 0, gathered_rows), num_bytes)
    begins, tensor_bytes = borrow(memory.tensor_begins), borrow(memory.tensor_bytes)
    lone = borrowed_lone(memory.lone)
    if lone.tensors[_tensor_at(begins, transfer.address)]:
        arrived = _pass_by(cache, lone, transfer)
    else:
        arrived = look_up(cache, transfer, gathered_rows)
    _count_by_tensor(begins, tensor_bytes, cache.pieces, state.num_pieces)
    fetched = serve_pieces(
        memory.hbm,
        time_cycles,
        cache.pieces,
        state.num_pieces,
        state.writes_through and transfer.is_write,
    )
    end_transfer(cache, fetched)
    return max(served + memory.latency_cycles, fetched, arrived)


@jit_inline
def _pass_by(cache, lone, transfer):
    """Read or write the rows of a transfer of a tensor that goes past the cache."""
    begin_shares(cache.sets, cache.state[0].num_transfers, False, False)
    for row in range(transfer.rows):
        address = transfer.address + row * transfer.step_bytes
        pass_run(cache, lone, address, transfer.row_bytes, transfer.is_write)
    end_shares(cache.sets, False, False)
    return np.int64(0)


@jit_inline
def look_up(cache, transfer, gathered_rows):
    """Read or write the rows of a transfer; return when what of them is on its way arrives."""
    arrived, is_tile = np.int64(0), not transfer.is_write and transfer.first_index < 0
    columns = columns_of(transfer, cache.state[0].line_bytes)
    if is_tile:
        arrived = use_blocks(cache, transfer, columns)
        if arrived >= 0:
            return arrived
        arrived = np.int64(0)
    has_left, has_right = is_tile and columns.left, is_tile and columns.right
    begin_shares(cache.sets, cache.state[0].num_transfers, has_left, has_right)
    step_lines = columns.step_bytes // cache.state[0].line_bytes
    for row in range(transfer.rows):
        address = row_address(transfer, row, gathered_rows)
        ahead = row + _ROWS_AHEAD
        if ahead < transfer.rows:
            fetch_run(cache, row_address(transfer, ahead, gathered_rows), transfer.row_bytes)
        if columns.is_grid:
            first = columns.first_line + row * step_lines
            left = first if has_left else NO_LINE
            right = first + columns.lines - 1 if has_right else NO_LINE
            begin_row(cache.sets.state[0], row, left, right)
        if transfer.is_write:
            write_run(cache, address, transfer.row_bytes)
        else:
            arrived = max(arrived, read_run(cache, address, transfer.row_bytes))
    if columns.is_grid:
        begin_row(cache.sets.state[0], transfer.rows, NO_LINE, NO_LINE)
    if is_tile:
        note_blocks(cache, transfer, columns)
    end_shares(cache.sets, has_left, has_right)
    return arrived


@jit_inner
def _borrowed_direct(memory):
    return Direct(memory.latency_cycles, borrowed_hbm(memory.hbm))


@jit_inner
def _borrowed_cached(memory):
    return Cached(
        memory.latency_cycles,
        borrowed_hbm(memory.hbm),
        borrowed_cache(memory.cache),
        borrowed_flat(memory.slices),
        borrow(memory.tensor_begins),
        borrow(memory.tensor_bytes),
        borrowed_lone(memory.lone),
    )


respond = chosen_by_type({Direct: _respond_direct, Cached: _respond_cached})
"""As `request`, for compiled code."""
borrowed_memory = chosen_by_type({Direct: _borrowed_direct, Cached: _borrowed_cached})
"""The same memory, its state as borrowed views; for compiled code."""


@jit
def request(memory, time_cycles, transfer):
    """Serve a transfer, in order of time; return the cycle at which it is complete."""
    return respond(memory, time_cycles, transfer)
