"""The memory system: one function, `request`, that both engines call in the order of time.

A request at time t is answered with the cycle at which its last byte has arrived. The state lives
in plain integer arrays, so that the compiled engine can carry it. Fractions of a cycle are kept as
whole subcycles: rounding never accumulates over a stream of transfers.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.hardware.machine import MachineSpec
from accelsim.jit import borrow, jit, jit_inner

SUBCYCLES = 1024
"""Subcycles per cycle."""
_RATE_BITS = 20


class Memory(NamedTuple):
    """Parameters and state of the flat memory.

    Each channel serves requests one after the other in the order of time; a transfer is spread over
    the channels in pieces of `interleave_bytes`, beginning at the channel of its first address.
    """

    latency_cycles: int
    interleave_bytes: int
    subcycles_per_mebibyte: int
    """Subcycles that one channel needs for 2^20 bytes."""
    channel_free: npt.NDArray[np.int64]
    """Subcycle from which each channel is idle."""


def new_memory(machine: MachineSpec) -> Memory:
    """Return the idle memory of a machine."""
    per_channel = machine.hbm_bytes_per_cycle / machine.hbm.channels
    return Memory(
        latency_cycles=machine.hbm_latency_cycles,
        interleave_bytes=machine.hbm.interleave,
        subcycles_per_mebibyte=service_rate(per_channel),
        channel_free=np.zeros(machine.hbm.channels, np.int64),
    )


def service_rate(bytes_per_cycle: float) -> int:
    """Return the subcycles that 2^20 bytes take at this rate, rounded up: never above the rate."""
    return int(np.ceil(SUBCYCLES * 2**_RATE_BITS / bytes_per_cycle))


@jit
def service_subcycles(num_bytes, subcycles_per_mebibyte):
    """Subcycles to transfer `num_bytes`, rounded up."""
    return (num_bytes * subcycles_per_mebibyte + (1 << _RATE_BITS) - 1) >> _RATE_BITS


@jit
def request(memory, time_cycles, address, num_bytes):
    """Serve a transfer requested at `time_cycles`; return the cycle at which it is complete.

    Rows of a strided or gathered transfer are taken to spread over the channels like a contiguous
    run of the same size. Requests must come in the order of time.
    """
    free = memory.channel_free
    channels, piece = free.size, memory.interleave_bytes
    offset = address % piece
    pieces = (offset + num_bytes + piece - 1) // piece
    missing = pieces * piece - offset - num_bytes
    rounds, extra = pieces // channels, pieces % channels
    ends_in = (pieces - 1) % channels
    long = service_subcycles((rounds + 1) * piece, memory.subcycles_per_mebibyte)
    short = service_subcycles(rounds * piece, memory.subcycles_per_mebibyte)
    channel = (address // piece) % channels
    now = time_cycles * SUBCYCLES
    last = now
    for i in range(min(pieces, channels)):
        service = long if i < extra else short
        if i in (0, ends_in):
            # The first and the last piece of a transfer may be cut.
            own = (rounds + (i < extra)) * piece - (i == 0) * offset - (i == ends_in) * missing
            service = service_subcycles(own, memory.subcycles_per_mebibyte)
        end = max(free[channel], now) + service
        free[channel] = end
        last = max(last, end)
        channel = channel + 1 if channel + 1 < channels else 0
    return (last + SUBCYCLES - 1) // SUBCYCLES + memory.latency_cycles


@jit_inner
def borrowed_memory(memory):
    """Return the same memory, its state as a borrowed view."""
    return Memory(
        memory.latency_cycles,
        memory.interleave_bytes,
        memory.subcycles_per_mebibyte,
        borrow(memory.channel_free),
    )
