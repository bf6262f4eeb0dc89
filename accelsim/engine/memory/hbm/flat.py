"""Channels that serve first come, first served, at their share of a bandwidth.

The flat HBM is made of them, and so are the slices of a cache.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.subcycles import SUBCYCLES, service_rate, service_subcycles
from accelsim.hardware.l2 import L2Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.runtime.jit import borrow, jit_inline, jit_inner


class FlatChannels(NamedTuple):
    """Parameters and state.

    Each channel serves requests one after the other in the order of time. A run of bytes is spread
    over the channels in pieces of `interleave_bytes`, from the channel of its first address on.
    """

    interleave_bytes: int
    subcycles_per_mebibyte: int
    """Subcycles that one channel needs for 2^20 bytes."""
    channel_free: npt.NDArray[np.int64]
    """Subcycle from which each channel is idle."""


def new_flat_hbm(machine: MachineSpec) -> FlatChannels:
    """Return the idle HBM of a machine."""
    return FlatChannels(
        interleave_bytes=machine.hbm.interleave,
        subcycles_per_mebibyte=service_rate(machine.hbm_bytes_per_cycle / machine.hbm.channels),
        channel_free=np.zeros(machine.hbm.channels, np.int64),
    )


def new_slices(l2: L2Spec, clock_hz: float) -> FlatChannels:
    """Return the idle slices of an L2."""
    return FlatChannels(
        interleave_bytes=l2.line,
        subcycles_per_mebibyte=service_rate(l2.bandwidth / clock_hz / l2.slices),
        channel_free=np.zeros(l2.slices, np.int64),
    )


@jit_inner
def borrowed_flat(hbm):
    """Return the same channels, their state as a borrowed view."""
    return FlatChannels(hbm.interleave_bytes, hbm.subcycles_per_mebibyte, borrow(hbm.channel_free))


@jit_inline
def serve_flat(hbm, time_cycles, address, num_bytes):
    """Serve a run of bytes requested at `time_cycles`; return the cycle when the last leaves."""
    place = address // hbm.interleave_bytes
    offset = address - place * hbm.interleave_bytes
    now = time_cycles * SUBCYCLES
    if offset + num_bytes <= hbm.interleave_bytes:
        last = _serve_piece(hbm, place % hbm.channel_free.size, now, num_bytes)
    else:
        last = _serve_pieces(hbm, place, offset, now, num_bytes)
    return (last + SUBCYCLES - 1) // SUBCYCLES


@jit_inline
def _serve_piece(hbm, channel, now, num_bytes):
    """Serve bytes of one channel; return the subcycle when the last leaves."""
    service = service_subcycles(num_bytes, hbm.subcycles_per_mebibyte)
    end = max(hbm.channel_free[channel], now) + service
    hbm.channel_free[channel] = end
    return end


@jit_inner
def _serve_pieces(hbm, place, offset, now, num_bytes):
    """Serve a run that begins `offset` bytes into piece `place` and goes beyond it."""
    channels, piece = hbm.channel_free.size, hbm.interleave_bytes
    pieces = (offset + num_bytes + piece - 1) // piece
    missing = pieces * piece - offset - num_bytes
    rounds, extra = pieces // channels, pieces % channels
    ends_in = (pieces - 1) % channels
    channel = place % channels
    last = now
    for i in range(min(pieces, channels)):
        own = (rounds + (i < extra)) * piece
        # The first and the last piece of a run may be cut.
        own -= (i == 0) * offset + (i == ends_in) * missing
        last = max(last, _serve_piece(hbm, channel, now, own))
        channel = channel + 1 if channel + 1 < channels else 0
    return last
