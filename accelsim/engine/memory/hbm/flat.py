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
    """Serve a run that begins `offset` bytes into piece `place` and goes beyond it.

    Only the first and the last piece may be cut, so all channels between theirs serve as much.
    """
    channels, piece = hbm.channel_free.size, hbm.interleave_bytes
    pieces = (offset + num_bytes + piece - 1) // piece
    missing = pieces * piece - offset - num_bytes
    rounds = (pieces - 1) // channels
    begin, ends_in, most = place % channels, pieces - 1 - rounds * channels, (rounds + 1) * piece
    if ends_in == 0:
        last = _serve_piece(hbm, begin, now, most - offset - missing)
    else:
        last = _serve_piece(hbm, begin, now, most - offset)
        last = max(last, _serve_each(hbm, begin + 1, ends_in - 1, now, most))
        end = begin + ends_in
        last = max(last, _serve_piece(hbm, end - channels * (end >= channels), now, most - missing))
    if rounds > 0:
        others = channels - ends_in - 1
        last = max(last, _serve_each(hbm, begin + ends_in + 1, others, now, most - piece))
    return last


@jit_inner
def _serve_each(hbm, begin, count, now, num_bytes):
    """Serve as many bytes of each of `count` channels in a circle, from channel `begin` on."""
    service = service_subcycles(num_bytes, hbm.subcycles_per_mebibyte)
    channels = hbm.channel_free.size
    begin = begin if begin < channels else begin % channels
    before_end = min(count, channels - begin)
    last = _serve_row(hbm.channel_free[begin : begin + before_end], now, service)
    if before_end < count:
        wrapped = hbm.channel_free[: count - before_end]
        last = max(last, _serve_row(wrapped, now, service))
    return last


@jit_inner
def _serve_row(free, now, service):
    """Serve on neighbours, several at a time; free: [channel], a view."""
    last = now
    for i in range(free.size):
        free[i] = max(free[i], now) + service
        last = max(last, free[i])
    return last
