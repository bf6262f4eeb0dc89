"""The HBM, flat or banked, behind one function for whole transfers and one for pieces of bytes."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.memory.hbm.banked import (
    BankedHbm,
    borrowed_banked_hbm,
    finished,
    new_banked_hbm,
    nothing_taken,
    serve_banked,
    take,
)
from accelsim.engine.memory.hbm.flat import (
    FlatChannels,
    borrowed_flat,
    new_flat_hbm,
    serve_flat,
)
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.runtime.jit import borrow, chosen_by_type, jit_inline, jit_inner

NUM_FIELDS = 3
BEGIN, END, IS_WRITE = range(NUM_FIELDS)
"""Fields of a piece: its first byte, its end, and whether it is written."""


class Hbm(NamedTuple):
    """Parameters and state. Compiled code is specialised for the type of `device`."""

    latency_cycles: int
    """Cycles that a byte travels after it has been served."""
    gathered_rows: npt.NDArray[np.int64]
    """Row numbers of all gathers of the program."""
    device: FlatChannels | BankedHbm


def new_hbm(machine: MachineSpec, gathered_rows: npt.NDArray[np.int64], most_bursts: int) -> Hbm:
    """Return the idle HBM of a machine; most_bursts: served at once, by a banked one."""
    hbm, device = machine.hbm, None
    if isinstance(hbm, BankedHbmSpec):
        device = new_banked_hbm(hbm, machine.clock, most_bursts)
    return Hbm(machine.hbm_latency_cycles, gathered_rows, device or new_flat_hbm(machine))


_borrowed_device = chosen_by_type({FlatChannels: borrowed_flat, BankedHbm: borrowed_banked_hbm})


@jit_inner
def borrowed_hbm(hbm):
    """Return the same HBM, its state as borrowed views."""
    return Hbm(hbm.latency_cycles, borrow(hbm.gathered_rows), _borrowed_device(hbm.device))


@jit_inline
def _serve_flat(channels, time_cycles, transfer, gathered_rows):
    """Serve a transfer, whose rows are taken to spread over the channels like one run of bytes."""
    return serve_flat(channels, time_cycles, transfer.address, transfer.rows * transfer.row_bytes)


_serve = chosen_by_type({FlatChannels: _serve_flat, BankedHbm: serve_banked})


@jit_inline
def serve_transfer(hbm, time_cycles, transfer):
    """Serve a transfer requested at `time_cycles`; return the cycle at which it is complete."""
    served = _serve(hbm.device, time_cycles, transfer, hbm.gathered_rows)
    return served + hbm.latency_cycles


@jit_inner
def _serve_pieces_flat(channels, latency_cycles, time_cycles, pieces, num_pieces, waits_for_writes):
    """Serve the reads, then the writes, each like a contiguous run from its first piece on."""
    read_bytes = written_bytes = read_begin = write_begin = np.int64(0)
    for i in range(num_pieces - 1, -1, -1):
        begin, num_bytes = pieces[i, BEGIN], pieces[i, END] - pieces[i, BEGIN]
        if pieces[i, IS_WRITE]:
            written_bytes, write_begin = written_bytes + num_bytes, begin
        else:
            read_bytes, read_begin = read_bytes + num_bytes, begin
    done = np.int64(0)
    if read_bytes > 0:
        done = serve_flat(channels, time_cycles, read_begin, read_bytes) + latency_cycles
    if written_bytes > 0:
        written = serve_flat(channels, time_cycles, write_begin, written_bytes)
        # The memory has it then; no answer travels back.
        done = max(done, written) if waits_for_writes else done
    return done


@jit_inner
def _serve_pieces_banked(banked, latency_cycles, time_cycles, pieces, num_pieces, waits_for_writes):
    # As in `serve_banked`: borrowed here, the code below counts no references.
    banked, pieces = borrowed_banked_hbm(banked), borrow(pieces)
    taken, has_reads = nothing_taken(banked, time_cycles), False
    for i in range(num_pieces):
        has_reads |= not pieces[i, IS_WRITE]
        taken = take(banked, taken, pieces[i, BEGIN], pieces[i, END], pieces[i, IS_WRITE])
    served = finished(banked, taken)
    if has_reads:
        return served + latency_cycles
    return served if waits_for_writes else np.int64(0)


_serve_each = chosen_by_type({FlatChannels: _serve_pieces_flat, BankedHbm: _serve_pieces_banked})


@jit_inner
def serve_pieces(hbm, time_cycles, pieces, num_pieces, waits_for_writes):
    """Serve pieces of bytes requested at `time_cycles`; return the cycle at which all are done.

    pieces: [at least num_pieces, NUM_FIELDS]. Written ones count only if `waits_for_writes`.
    In the flat HBM they are taken to spread over the channels like a contiguous run of the same
    size, as rows are in `serve_transfer`. Returns 0 when there is nothing to wait for.
    """
    if num_pieces == 0:
        return np.int64(0)
    return _serve_each(
        hbm.device, hbm.latency_cycles, time_cycles, pieces, num_pieces, waits_for_writes
    )
