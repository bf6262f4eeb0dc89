"""The banked HBM behind the door of the memory: transfers to bursts, cycles to ticks and back."""

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.banked.controller import drain, serve_runs
from accelsim.engine.banked.device import new_dram, no_dram, ticks_per_clock
from accelsim.engine.banked.state import NEVER, NONE, Dram
from accelsim.hardware.dram import DramShape
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.mapping import Digit
from accelsim.jit import borrow, jit, jit_inline, jit_inner
from accelsim.program.transfer import row_address

_LARGEST_DENOMINATOR = 1 << 16
_DIGIT_COLUMNS = 5
_SIZE, _BITS, _BANK_STEP, _ROW_STEP, _IS_HASHED = range(_DIGIT_COLUMNS)
_NO_POWER = -1

Words = npt.NDArray[np.int64]


class BankedHbm(NamedTuple):
    """Parameters and state."""

    cycles: int
    """This many cycles of the machine ..."""
    ticks: int
    """... are this many ticks of the DRAM."""
    burst_bytes: int
    run_bursts: int
    """Bursts that follow each other in one row before another digit of the address counts."""
    digits: Words
    """[digit, (size, its bits or _NO_POWER, step of the bank, step of the row, is hashed)], lowest
    first, without those below a run."""
    dram: Dram


def new_banked_hbm(hbm: BankedHbmSpec, clock_hz: float, most_bursts: int) -> BankedHbm:
    """Return the idle HBM; most_bursts: of any transfer that it will serve."""
    timing = hbm.dram.timing
    tick_s = timing.t_ck / ticks_per_clock(timing)
    ratio = Fraction(tick_s * clock_hz).limit_denominator(_LARGEST_DENOMINATOR)
    digits, run_bursts = digit_table(hbm.digits, hbm.dram.shape, hbm.hashed)
    policy = {
        "is_per_bank_refresh": int(hbm.refresh == "per_bank"),
        "is_closed_page": int(hbm.page == "closed"),
    }
    dram = new_dram(hbm.channels, hbm.dram.shape, timing, hbm.controller, most_bursts, policy)
    return BankedHbm(
        ratio.numerator, ratio.denominator, hbm.dram.shape.burst, run_bursts, digits, dram
    )


def no_banked_hbm() -> BankedHbm:
    """Return what stands for the banked HBM in a machine without one."""
    return BankedHbm(1, 1, 1, 1, np.zeros((0, _DIGIT_COLUMNS), np.int64), no_dram())


def digit_table(
    digits: Sequence[Digit], shape: DramShape, hashed: Collection[str]
) -> tuple[Words, int]:
    """Return the digits above a run of bursts in one row, and the bursts of a run."""
    bank_step = {"bank": 1, "bank_group": shape.banks}
    bank_step["rank"] = bank_step["bank_group"] * shape.bank_groups
    bank_step["pseudo_channel"] = bank_step["rank"] * shape.ranks
    bank_step["channel"] = bank_step["pseudo_channel"] * shape.pseudo_channels
    run_bursts = 1
    above = list(digits)
    while above and above[0].field == "column":
        run_bursts *= above.pop(0).size
    table = [
        (
            size,
            _NO_POWER if size & (size - 1) else size.bit_length() - 1,
            weight * bank_step.get(field, 0),
            weight if field == "row" else 0,
            field in hashed,
        )
        for field, size, weight in above
    ]
    return np.array(table, np.int64).reshape(-1, _DIGIT_COLUMNS), run_bursts


@jit_inline
def borrowed_banked_hbm(hbm):
    """Return the same HBM, its state as borrowed views."""
    return BankedHbm(
        hbm.cycles,
        hbm.ticks,
        hbm.burst_bytes,
        hbm.run_bursts,
        borrow(hbm.digits),
        borrowed_dram(hbm.dram),
    )


@jit_inline
def borrowed_dram(dram):
    """Return the same state as borrowed views."""
    return Dram(
        borrow(dram.timing),
        borrow(dram.banks),
        borrow(dram.groups),
        borrow(dram.ranks),
        borrow(dram.pseudos),
        borrow(dram.acts),
        borrow(dram.channels),
        borrow(dram.lists),
        borrow(dram.entries),
        borrow(dram.waiting),
        borrow(dram.newest),
        borrow(dram.offers),
        borrow(dram.runs),
    )


@jit_inner
def serve_banked(hbm, time_cycles, transfer, gathered_rows):
    """Serve a transfer requested at `time_cycles`; return the cycle at which its data have moved.

    A transfer of writes is done when the last burst has found room in the queue of its channel.
    """
    # Borrowed here, all code below is compiled without counting references: five times as fast.
    hbm, gathered_rows = borrowed_banked_hbm(hbm), borrow(gathered_rows)
    now = (time_cycles * hbm.ticks + hbm.cycles - 1) // hbm.cycles
    num_runs = 0
    for row in range(transfer.rows):
        address = row_address(transfer, row, gathered_rows)
        first = address // hbm.burst_bytes
        end = (address + transfer.row_bytes - 1) // hbm.burst_bytes + 1
        num_runs = add_run(hbm, num_runs, first, end, transfer.is_write)
    done = serve_all(hbm.dram, now)
    return (done * hbm.cycles + hbm.ticks - 1) // hbm.ticks


@jit_inline
def add_run(hbm, num_runs, first, end, is_write):
    """Give bursts first:end to their channels; return how many runs there are by now."""
    while first < end:
        place = first // hbm.run_bursts
        bursts = min(end, (place + 1) * hbm.run_bursts) - first
        bank, row = located(hbm.digits, place)
        num_runs = _give(hbm.dram, num_runs, bank, row, bursts, is_write)
        first += bursts
    return num_runs


@jit_inline
def located(digits, place):
    """Return bank, counted through all channels, and row of a run of bursts.

    A hashed digit is combined with the address above it: by exclusive or of bits some places apart,
    as in permutation-based interleaving (Zhang, Zhu and Zhang, MICRO 2000), or by a sum where the
    digit is no power of two. Either way it stays a permutation.
    """
    bank = row = 0
    for i in range(len(digits)):
        size, bits = digits[i, _SIZE], digits[i, _BITS]
        above = place >> bits if bits >= 0 else place // size
        digit = place - above * size
        if digits[i, _IS_HASHED]:
            mixed = above ^ (above >> 4) ^ (above >> 9) ^ (above >> 15)
            digit = (digit ^ mixed) & (size - 1) if bits >= 0 else (digit + mixed) % size
        bank += digit * digits[i, _BANK_STEP]
        row += digit * digits[i, _ROW_STEP]
        place = above
    return bank, row


@jit_inline
def _give(dram, num_runs, bank, row, bursts, is_write):
    """Hand a run to the channel of its bank; return how many runs there are by now."""
    t = dram.timing[0]
    number = bank >> t.bank_bits
    channel = dram.channels[number]
    if channel.last_run != NONE:
        last = dram.runs[channel.last_run]
        if last.bank == bank and last.row == row and last.is_write == is_write:
            last.bursts += bursts
            return num_runs
        last.next = num_runs
    else:
        channel.first_run = num_runs
    channel.last_run = num_runs
    run = dram.runs[num_runs]
    run.bank, run.row, run.bursts, run.is_write, run.next = bank, row, bursts, is_write, NONE
    return num_runs + 1


@jit_inline
def serve_all(dram, now):
    """Serve the runs of all channels from tick `now`; return the tick at which the last is done."""
    done = now
    for number in range(len(dram.channels)):
        channel = dram.channels[number]
        if channel.first_run != NONE:
            channel.last_run = NONE
            done = max(done, serve_runs(dram, number, now))
    return done


@jit
def write_all(hbm):
    """Write what still waits in the queues, so that it is counted; the time is nobody's."""
    dram = borrowed_dram(hbm.dram)
    for number in range(len(dram.channels)):
        drain(dram, number, NEVER)
