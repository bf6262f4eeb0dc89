"""A stream of bursts on banked channels alone, as DRAM simulators run one."""

from dataclasses import dataclass

import numpy as np

from accelsim.engine.memory.hbm.bursts.placement import place_run
from accelsim.engine.memory.hbm.bursts.plan import borrowed_plan, new_plan, real_tick
from accelsim.engine.memory.hbm.bursts.rules import tick_seconds
from accelsim.engine.memory.hbm.commands.controller import refresh_if_due, step, turn
from accelsim.engine.memory.hbm.commands.device import new_dram
from accelsim.engine.memory.hbm.commands.queues import enqueue
from accelsim.engine.memory.hbm.parameters import parameters_of, ticks_per_clock
from accelsim.engine.memory.hbm.places import Words, borrowed_places, located, new_places
from accelsim.engine.memory.hbm.state import NEVER, borrowed_dram
from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.hbm import Detail
from accelsim.hardware.mapping import digits_of, field_sizes
from accelsim.runtime.jit import borrow, jit, jit_inline

_POLICY = {"is_per_bank_refresh": 0, "is_closed_page": 0}


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
    accesses: Accesses,
    device: DramSpec,
    controller: ControllerSpec,
    most_waiting: int,
    detail: Detail = "bursts",
) -> float:
    """Return the time until all reads have returned and all writes have been accepted.

    Accesses are issued in order: each as soon as the queue of its channel has room for it and at
    most `most_waiting` reads wait in all channels together.
    """
    shape, timing = device.shape, device.timing
    digits = digits_of(accesses.mapping, field_sizes(shape, accesses.channels))
    places = new_places(digits, shape, ())
    channel_bits = shape.bank_places_of_channel.bit_length() - 1
    stream = (places, channel_bits, accesses.addresses // shape.burst, accesses.is_write)
    if detail == "bursts":
        window = min(controller.window, max(1, most_waiting // accesses.channels))
        controller = controller.model_copy(update={"window": window})
        parameters = parameters_of(shape, timing, controller, _POLICY)
        ticks = _place(new_plan(accesses.channels, parameters), *stream)
        return float(ticks * tick_seconds(parameters, timing))
    parameters = parameters_of(shape, timing, controller, _POLICY)
    ticks = _serve(new_dram(accesses.channels, parameters, 1), *stream, most_waiting)
    return float(ticks * timing.t_ck / ticks_per_clock(timing))


@jit
def _place(plan, places, bank_bits, bursts, is_write):
    """Place one burst after the other."""
    plan, places = borrowed_plan(plan), borrowed_places(places)
    bursts, is_write = borrow(bursts), borrow(is_write)
    now = last = 0
    for i in range(len(bursts)):
        bank, row = located(places, bursts[i] >> places.run_bits)
        number = bank >> bank_bits
        last = max(last, place_run(plan, number, bank, row, 1, is_write[i], now))
        now = max(now, plan.queues[number, is_write[i]].room_at)
    return real_tick(plan, last)


@jit
def _serve(dram, places, bank_bits, bursts, is_write, most_waiting):
    """Let the channel with the earliest step take it, then issue what has found room."""
    dram, places = borrowed_dram(dram), borrowed_places(places)
    bursts, is_write = borrow(bursts), borrow(is_write)
    steps = np.full(len(dram.channels), NEVER)
    issued, waiting, now, last = 0, 0, -1, 0
    while True:
        while issued < len(bursts) and (is_write[issued] or waiting < most_waiting):
            bank, row = located(places, bursts[issued] >> places.run_bits)
            number = bank >> bank_bits
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
