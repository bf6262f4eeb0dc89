"""The banked HBM behind the door of the memory: transfers to bursts, cycles to ticks and back."""

from fractions import Fraction
from typing import NamedTuple

from accelsim.engine.memory.hbm.bursts.placement import place_run, write_until
from accelsim.engine.memory.hbm.bursts.plan import (
    Plan,
    borrowed_plan,
    new_plan,
    real_tick,
    working_tick,
)
from accelsim.engine.memory.hbm.bursts.rules import tick_seconds
from accelsim.engine.memory.hbm.commands.controller import drain, serve_runs
from accelsim.engine.memory.hbm.commands.device import new_dram
from accelsim.engine.memory.hbm.parameters import parameters_of, ticks_per_clock
from accelsim.engine.memory.hbm.places import Places, borrowed_places, located, new_places
from accelsim.engine.memory.hbm.state import NEVER, NONE, Dram, Records, borrowed_dram
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.program.transfer import row_address
from accelsim.runtime.jit import borrow, chosen_by_type, jit, jit_inline, jit_inner

_LARGEST_DENOMINATOR = 1 << 16


class BankedHbm(NamedTuple):
    """Parameters and state."""

    cycles: int
    """This many cycles of the machine ..."""
    ticks: int
    """... are this many ticks of the DRAM."""
    burst_bits: int
    """Of the number of bytes of a burst, a power of two."""
    places: Places
    bank_bits: int
    """Of the number of a bank in its channel."""
    state: Plan | Dram
    """Where bursts are placed, or what a controller steps through commands; compiled code is
    specialised for its type."""


class Taken(NamedTuple):
    """What has been done of a transfer."""

    now: int
    """Tick at which it was requested."""
    num_runs: int
    """Runs that wait for the controllers."""
    done: int
    """Tick by which all bursts placed so far are done."""


def new_banked_hbm(hbm: BankedHbmSpec, clock_hz: float, most_bursts: int) -> BankedHbm:
    """Return the idle HBM; most_bursts: of any transfer that it will serve."""
    shape, timing = hbm.dram.shape, hbm.dram.timing
    policy = {
        "is_per_bank_refresh": int(hbm.refresh == "per_bank"),
        "is_closed_page": int(hbm.page == "closed"),
    }
    parameters = parameters_of(shape, timing, hbm.controller, policy)
    state: Plan | Dram
    if hbm.detail == "bursts":
        tick_s = tick_seconds(parameters, timing)
        state = new_plan(hbm.channels, parameters)
    else:
        tick_s = timing.t_ck / ticks_per_clock(timing)
        state = new_dram(hbm.channels, parameters, most_bursts)
    ratio = Fraction(tick_s * clock_hz).limit_denominator(_LARGEST_DENOMINATOR)
    return BankedHbm(
        cycles=ratio.numerator,
        ticks=ratio.denominator,
        burst_bits=shape.burst.bit_length() - 1,
        places=new_places(hbm.digits, shape, hbm.hashed),
        bank_bits=shape.bank_places_of_channel.bit_length() - 1,
        state=state,
    )


def counted(hbm: BankedHbm) -> Records:
    """Return the channels with the numbers of commands, after all that waits has been written."""
    _write_all(hbm.state)
    return hbm.state.channels


_borrowed_state = chosen_by_type({Plan: borrowed_plan, Dram: borrowed_dram})


@jit_inline
def borrowed_banked_hbm(hbm):
    """Return the same HBM, its state as borrowed views."""
    return BankedHbm(
        hbm.cycles,
        hbm.ticks,
        hbm.burst_bits,
        borrowed_places(hbm.places),
        hbm.bank_bits,
        _borrowed_state(hbm.state),
    )


@jit_inner
def serve_banked(hbm, time_cycles, transfer, gathered_rows):
    """Serve a transfer requested at `time_cycles`; return the cycle at which its data have moved.

    A transfer of writes is done when the last burst has found room in the queue of its channel.
    """
    # Borrowed here, all code below is compiled without counting references: five times as fast.
    hbm, gathered_rows = borrowed_banked_hbm(hbm), borrow(gathered_rows)
    taken = nothing_taken(hbm, time_cycles)
    for row in range(transfer.rows):
        address = row_address(transfer, row, gathered_rows)
        taken = take(hbm, taken, address, address + transfer.row_bytes, int(transfer.is_write))
    return finished(hbm, taken)


@jit_inline
def nothing_taken(hbm, time_cycles):
    """Return the beginning of a transfer requested at `time_cycles`."""
    now = _begin(hbm.state, (time_cycles * hbm.ticks + hbm.cycles - 1) // hbm.cycles)
    return Taken(now, 0, now)


@jit_inline
def take(hbm, taken, begin, end, is_write):
    """Serve the bursts with bytes begin:end, or give them to their channels."""
    first, end = begin >> hbm.burst_bits, ((end - 1) >> hbm.burst_bits) + 1
    while first < end:
        run = first >> hbm.places.run_bits
        bursts = min(end, (run + 1) << hbm.places.run_bits) - first
        bank, row = located(hbm.places, run)
        number = bank >> hbm.bank_bits
        taken = _take_run(hbm.state, taken, number, bank, row, bursts, is_write)
        first += bursts
    return taken


@jit_inline
def finished(hbm, taken):
    """Serve what has been given to the channels; return the cycle at which all is done."""
    return (_finish(hbm.state, taken) * hbm.cycles + hbm.ticks - 1) // hbm.ticks


@jit_inline
def _place(plan, taken, number, bank, row, bursts, is_write):
    done = place_run(plan, number, bank, row, bursts, is_write, taken.now)
    return Taken(taken.now, taken.num_runs, max(taken.done, done))


@jit_inline
def _real_tick(plan, taken):
    return real_tick(plan, taken.done)


@jit_inline
def _write_placed(plan):
    for number in range(len(plan.channels)):
        write_until(plan, number, NEVER)


@jit_inline
def _same_tick(_dram, now):
    return now


@jit_inline
def _give(dram, taken, number, bank, row, bursts, is_write):
    """Hand a run to channel `number`; return what has been taken by now."""
    num_runs = taken.num_runs
    channel = dram.channels[number]
    if channel.last_run != NONE:
        last = dram.runs[channel.last_run]
        if last.bank == bank and last.row == row and last.is_write == is_write:
            last.bursts += bursts
            return taken
        last.next = num_runs
    else:
        channel.first_run = num_runs
    channel.last_run = num_runs
    run = dram.runs[num_runs]
    run.bank, run.row, run.bursts, run.is_write, run.next = bank, row, bursts, is_write, NONE
    return Taken(taken.now, num_runs + 1, taken.done)


@jit_inline
def _serve_all(dram, taken):
    """Serve the runs of all channels; return the tick at which the last is done."""
    done = now = taken.now
    for number in range(len(dram.channels)):
        channel = dram.channels[number]
        if channel.first_run != NONE:
            channel.last_run = NONE
            done = max(done, serve_runs(dram, number, now))
    return done


@jit_inline
def _drain_all(dram):
    for number in range(len(dram.channels)):
        drain(dram, number, NEVER)


_begin = chosen_by_type({Plan: working_tick, Dram: _same_tick})
_take_run = chosen_by_type({Plan: _place, Dram: _give})
_finish = chosen_by_type({Plan: _real_tick, Dram: _serve_all})
_drain = chosen_by_type({Plan: _write_placed, Dram: _drain_all})


@jit
def _write_all(state):
    """Write what still waits in the queues; the time is nobody's."""
    _drain(_borrowed_state(state))
