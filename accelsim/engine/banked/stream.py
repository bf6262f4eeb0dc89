"""A stream of bursts on banked channels alone, as DRAM simulators run one."""

from dataclasses import dataclass

import numpy as np

from accelsim.engine.banked.controller import refresh_if_due, step, turn
from accelsim.engine.banked.device import new_dram, ticks_per_clock
from accelsim.engine.banked.hbm import (
    BankedHbm,
    Words,
    borrowed_banked_hbm,
    digit_table,
    located,
)
from accelsim.engine.banked.queues import enqueue
from accelsim.engine.banked.state import NEVER
from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.mapping import digits_of, field_sizes
from accelsim.jit import jit, jit_inline


@dataclass(frozen=True, eq=False)
class Accesses:
    """Bursts in the order of arrival, all there from the beginning."""

    addresses: Words
    """First byte of each burst."""
    is_write: Words
    channels: int
    mapping: tuple[str, ...]
    """Parts of an address from the top, as `BankedHbmSpec.mapping`."""


def stream_seconds(
    accesses: Accesses, device: DramSpec, controller: ControllerSpec, most_waiting: int
) -> float:
    """Return the time until all reads have returned and all writes have been accepted.

    Accesses are issued in order: each as soon as the queue of its channel has room for it and at
    most `most_waiting` reads wait in all channels together.
    """
    shape, timing = device.shape, device.timing
    digits = digits_of(accesses.mapping, field_sizes(shape, accesses.channels))
    table, run_bursts = digit_table(digits, shape, ())
    policy = {"is_per_bank_refresh": 0, "is_closed_page": 0}
    dram = new_dram(accesses.channels, shape, timing, controller, 1, policy)
    hbm = BankedHbm(1, 1, shape.burst, run_bursts, table, dram)
    ticks = _serve(hbm, accesses.addresses // shape.burst, accesses.is_write, most_waiting)
    seconds: float = ticks * timing.t_ck / ticks_per_clock(timing)
    return seconds


@jit
def _serve(hbm, bursts, is_write, most_waiting):
    """Let the channel with the earliest step take it, then issue what has found room."""
    hbm = borrowed_banked_hbm(hbm)
    dram = hbm.dram
    steps = np.full(len(dram.channels), NEVER)
    issued, waiting, now, last = 0, 0, -1, 0
    while True:
        while issued < len(bursts) and (is_write[issued] or waiting < most_waiting):
            bank, row = located(hbm.digits, bursts[issued] // hbm.run_bursts)
            number = bank >> dram.timing[0].bank_bits
            if not _accept(dram, number, bank, row, is_write[issued], now + 1):
                break
            waiting += 1 - is_write[issued]
            steps[number] = min(steps[number], dram.channels[number].now)
            issued += 1
        if issued == len(bursts) and waiting == 0:
            return max(last, now)
        number = np.argmin(steps)
        channel = dram.channels[number]
        now = channel.now = steps[number]
        before = channel.read_bursts
        refresh_if_due(dram, channel, number)
        if step(dram, channel, number):
            last = max(last, channel.done)
        turn(dram, channel, number, now + 1)
        waiting -= channel.read_bursts - before
        is_idle = channel.reads + channel.writes + channel.opened_reads + channel.opened_writes == 0
        steps[number] = NEVER if is_idle else channel.now


@jit_inline
def _accept(dram, number, bank, row, is_write, tick):
    """Put a burst into the queue of its channel at `tick`; return whether there is room."""
    t, channel = dram.timing[0], dram.channels[number]
    room = t.write_entries - channel.writes if is_write else t.read_entries - channel.reads
    if room <= 0:
        return False
    run = dram.runs[0]
    run.bank, run.row, run.is_write = bank, row, is_write
    enqueue(dram, channel, number, run, 1)
    channel.now = max(tick, min(channel.now, channel.column_wake, channel.row_wake))
    turn(dram, channel, number, tick)
    return True
